"""The bounded executor: order, timing, fairness, refusal, cancellation and closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from maskwire_server.domain import executor as executor_module
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.executor import BoundedExecutor, Completed
from maskwire_server.domain.fair_queue import Share, current_share
from maskwire_server.observability.metrics import Metrics


def _value(metrics: Metrics, name: str, executor: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"executor": executor})


class _Gate:
    """A call that holds its thread until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self._open.wait(30)
        return "through"

    def open(self) -> None:
        self._open.set()


async def _until_entered(gate: _Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 30)


async def test_result_and_timing_come_back() -> None:
    executor = BoundedExecutor("device", 1, 1, Metrics())
    try:
        completed = await executor.run(lambda: threading.current_thread().name)
    finally:
        executor.close()
    assert completed.value.startswith("device")
    assert completed.queue_s >= 0
    assert completed.run_s >= 0


async def test_exception_reaches_the_caller_and_frees_the_place() -> None:
    metrics = Metrics()
    executor = BoundedExecutor("device", 1, 0, metrics)

    def fail() -> None:
        raise ValueError("broken")

    try:
        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                await executor.run(fail)
    finally:
        executor.close()
    assert _value(metrics, "maskwire_queue_depth", "device") == 0
    assert _value(metrics, "maskwire_executor_running", "device") == 0
    assert _value(metrics, "maskwire_queue_seconds_count", "device") == 3


async def test_full_queue_refuses_at_once_with_a_delay() -> None:
    metrics = Metrics()
    executor = BoundedExecutor("cuda:0", 1, 1, metrics)
    gate = _Gate()
    running = asyncio.create_task(executor.run(gate))
    await _until_entered(gate)
    waiting = asyncio.create_task(executor.run(lambda: "second"))
    await asyncio.sleep(0)  # lets the task reach the queue
    try:
        with pytest.raises(MaskwireError) as refusal:
            await executor.run(lambda: "third")
    finally:
        gate.open()
    assert refusal.value.code is ErrorCode.OVERLOADED
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after.total_seconds() > 0
    assert _value(metrics, "maskwire_overload_refused_total", "cuda:0") == 1
    assert (await running).value == "through"
    assert (await waiting).value == "second"
    executor.close()


async def test_a_call_that_is_not_refusable_waits_however_full_the_queue_is() -> None:
    executor = BoundedExecutor("device", 1, 0, Metrics())
    gate = _Gate()
    busy = asyncio.create_task(executor.run(gate))
    try:
        await _until_entered(gate)
        with pytest.raises(MaskwireError):
            await executor.run(lambda: "refused")
        patient = asyncio.create_task(executor.run(lambda: "done", is_refusable=False))
        await asyncio.sleep(0)
        assert not patient.done()
        gate.open()
        assert (await patient).value == "done"
        assert (await busy).value == "through"
    finally:
        gate.open()
        executor.close()


async def test_cancelled_call_leaves_the_queue_without_running() -> None:
    executor = BoundedExecutor("device", 1, 1, Metrics())
    gate = _Gate()
    ran = threading.Event()
    running = asyncio.create_task(executor.run(gate))
    await _until_entered(gate)
    waiting = asyncio.create_task(executor.run(ran.set))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    accepted = asyncio.create_task(executor.run(lambda: "in its place"))
    await asyncio.sleep(0)
    gate.open()
    await running
    assert (await accepted).value == "in its place"
    executor.close()
    assert not ran.is_set()


async def test_closed_executor_says_that_the_server_stops() -> None:
    executor = BoundedExecutor("device", 1, 1, Metrics())
    executor.close()
    with pytest.raises(MaskwireError) as refusal:
        await executor.run(lambda: None)
    assert refusal.value.code is ErrorCode.SHUTTING_DOWN


async def _as_tenant(
    executor: BoundedExecutor, tenant: str, function: Callable[[], object]
) -> Completed[object]:
    current_share.set(Share(tenant))  # in the context of this task
    return await executor.run(function)


async def test_a_flood_of_one_tenant_is_behind_a_single_call_of_another() -> None:
    executor = BoundedExecutor("device", 1, 64, Metrics())
    gate, order = _Gate(), []
    running = asyncio.create_task(_as_tenant(executor, "flooder", gate))
    await _until_entered(gate)
    flood = [
        asyncio.create_task(_as_tenant(executor, "flooder", lambda: order.append("flooder")))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    light = asyncio.create_task(_as_tenant(executor, "light", lambda: order.append("light")))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(running, light, *flood)
    executor.close()
    assert order[0] == "light"
    assert order.count("flooder") == 20


async def test_a_full_queue_refuses_the_flood_and_not_the_other_tenant() -> None:
    metrics = Metrics()
    executor = BoundedExecutor("device", 1, 4, metrics)
    gate = _Gate()
    running = asyncio.create_task(_as_tenant(executor, "flooder", gate))
    await _until_entered(gate)
    flood = [
        asyncio.create_task(_as_tenant(executor, "flooder", lambda: "flooder")) for _ in range(4)
    ]
    await asyncio.sleep(0)
    light = asyncio.create_task(_as_tenant(executor, "light", lambda: "light"))
    with pytest.raises(MaskwireError) as refusal:
        await flood[-1]
    assert refusal.value.code is ErrorCode.OVERLOADED
    assert refusal.value.retry_after is not None
    with pytest.raises(MaskwireError):
        await _as_tenant(executor, "flooder", lambda: "one more")
    gate.open()
    assert (await light).value == "light"
    assert [(await one).value for one in flood[:-1]] == ["flooder"] * 3
    await running
    executor.close()
    assert _value(metrics, "maskwire_overload_refused_total", "device") == 2


@pytest.mark.parametrize("is_followed", [True, False])
async def test_two_calls_of_one_turn_let_no_other_tenant_between(
    monkeypatch: pytest.MonkeyPatch, is_followed: bool
) -> None:
    monkeypatch.setattr(executor_module, "_LONGEST_HOLD_S", 30.0)
    executor = BoundedExecutor("device", 1, 64, Metrics())
    executor._mean_run_s = 1000.0  # so that the thread waits for as long as it takes
    gate, order = _Gate(), []
    running = asyncio.create_task(_as_tenant(executor, "flooder", gate))
    await _until_entered(gate)
    turn_came = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(who: str) -> None:
        order.append(who)
        loop.call_soon_threadsafe(turn_came.set)

    flood = [
        asyncio.create_task(_as_tenant(executor, "flooder", lambda: note("flooder")))
        for _ in range(5)
    ]

    async def two_calls() -> None:
        current_share.set(Share("light"))
        await executor.run(lambda: order.append("first"), is_followed=is_followed)
        if not is_followed:
            await turn_came.wait()  # somebody else's
        await executor.run(lambda: order.append("second"))

    light = asyncio.create_task(two_calls())
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(running, light, *flood)
    executor.close()
    assert order[0] == "first"
    assert (order[1] == "second") is is_followed


async def test_a_thread_waits_for_the_second_call_of_a_turn_only_for_a_moment() -> None:
    executor = BoundedExecutor("device", 1, 64, Metrics())
    gate = _Gate()
    running = asyncio.create_task(_as_tenant(executor, "other", gate))
    await _until_entered(gate)
    waiting = asyncio.create_task(_as_tenant(executor, "other", lambda: "served"))

    async def one_call() -> None:
        current_share.set(Share("light"))
        await executor.run(lambda: None, is_followed=True)

    light = asyncio.create_task(one_call())
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(running, light)
    # Nothing follows, and the other tenant is served all the same.
    assert (await waiting).value == "served"
    executor.close()


async def test_several_threads_run_at_once() -> None:
    executor = BoundedExecutor("pixels", 3, 0, Metrics())
    together = threading.Barrier(3)
    ran = await asyncio.gather(*(executor.run(lambda: together.wait(30)) for _ in range(3)))
    executor.close()
    assert sorted(one.value for one in ran) == [0, 1, 2]


async def test_closing_drops_what_waits() -> None:
    executor = BoundedExecutor("device", 1, 2, Metrics())
    gate = _Gate()
    running = asyncio.create_task(executor.run(gate))
    await _until_entered(gate)
    waiting = asyncio.create_task(executor.run(lambda: "never"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(executor.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open()
    assert (await running).value == "through"
    await closing
