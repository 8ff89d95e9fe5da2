"""Fixtures that several kinds of test share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.sam2_checkpoints import Sam2Files, build_official_tiny, build_small


def pytest_configure() -> None:
    """Take Ctrl-C again where a shell started the tests in the background, which ignores it.

    Programs that tests start would inherit that, and never end when a test interrupts them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Fail the test that gave this process real-time priority, as an encoder once did.

    Servers that later tests start would inherit it and keep others waiting for as long as they run.
    """
    if sys.platform == "linux":
        is_hasty = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
        assert not is_hasty, f"{item.name} left the process with real-time priority"


def pytest_collection_finish() -> None:
    """Take what all tests share out of Python's full collections.

    Late in a run they took up to a second, in which no lease is extended and no deadline met.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_sam2(tmp_path_factory: pytest.TempPathFactory) -> Sam2Files:
    """A small SAM 2 network at 512 px with random weights, on disk."""
    return build_small(tmp_path_factory.mktemp("sam2-small"))


@pytest.fixture(scope="session")
def quick_sam2(tmp_path_factory: pytest.TempPathFactory) -> Sam2Files:
    """The small network at 128 px, for tests that follow objects through many frames, on disk."""
    return build_small(tmp_path_factory.mktemp("sam2-quick"), side=128)


@pytest.fixture(scope="session")
def official_tiny_sam2(tmp_path_factory: pytest.TempPathFactory) -> Sam2Files:
    """The published architecture hiera-tiny at 1024 px with random weights, on disk."""
    return build_official_tiny(tmp_path_factory.mktemp("sam2-tiny"))


@pytest.fixture(scope="session")
def small_sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small SAM 3 network that knows coloured shapes."""
    from tests.support import sam3_checkpoint  # imports transformers: seconds

    return sam3_checkpoint.write(tmp_path_factory.mktemp("sam3-small"))
