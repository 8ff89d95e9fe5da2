"""A child process that is started and ended, wherever its worker gives it up meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from maskwire_server.jobs.worker.child_process import ChildProcess, ChildSetup

DEAF = ChildSetup(("sleep", "1000"), 0, 2**20, configuration=bytes(2**23))
"""A child that never reads: to send it so much takes for ever."""

STEPS = 60
"""Turns of the loop in which all but the sending is done."""


def children() -> set[str]:
    own = os.getpid()
    return set(Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split())


@pytest.mark.parametrize("steps", range(STEPS))
async def test_a_start_that_is_given_up_leaves_nothing(steps):
    before = children()
    starting = asyncio.create_task(ChildProcess.start(DEAF))
    for _ in range(steps):
        await asyncio.sleep(0)
    assert not starting.done()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() <= before
    gc.collect()  # here, and not in a later test, is told what was left open


@pytest.mark.parametrize("end", [ChildProcess.kill, ChildProcess.ended, ChildProcess.finish])
@pytest.mark.parametrize("steps", range(1, 13))
async def test_an_end_that_is_given_up_is_whole_nevertheless(end, steps):
    before = children()
    child = await ChildProcess.start(ChildSetup(("sleep", "1000"), 0, 2**20))
    ending = asyncio.create_task(end(child))
    for _ in range(steps):
        await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait({ending})
    assert children() <= before
    gc.collect()
