"""A pool whose children crash, hang and run out of memory: one file pays, the others do not."""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwire_server.decoders import pool as pool_module
from maskwire_server.decoders.child import ChildLimits
from maskwire_server.decoders.child_handle import ChildHandle
from maskwire_server.decoders.pool import DecoderPool
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.file_decoder import NOT_WITHIN_LIMITS, FileDecoder, MaskFile
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.images import ImageLimits, decode_image
from maskwire_server.domain.mask_encodings import encode_png
from maskwire_server.observability.metrics import Metrics
from tests.support.decoders import decoder_pool, picture, saved
from tests.support.videos import LIMITS as VIDEO_LIMITS
from tests.support.videos import squares_video

LIMITS = ImageLimits()
SMALL = saved(picture(), "PNG")
LARGE = saved(Image.new("RGB", (4000, 4000)), "PNG")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def pool(metrics: Metrics) -> Iterator[DecoderPool]:
    with decoder_pool(metrics, processes=1) as made:
        yield made


def acme(pool: DecoderPool) -> FileDecoder:
    return pool.of_tenant("acme")


def ends(metrics: Metrics, reason: str) -> float:
    name = "maskwire_decoder_restarts_total"
    return metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0


def blamed(act) -> None:
    """The call fails as the file's fault, by its field."""
    with pytest.raises(MaskwireError) as caught:
        act()
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [one.description for one in caught.value.violations] == [NOT_WITHIN_LIMITS]
    assert caught.value.violations[0].field


def pids_under(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    found = [int(one) for one in children]
    return found + [inner for one in found for inner in pids_under(one)]


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch):
    """Do something to the child that a file was put into, before it is asked to decode it."""

    def change(act) -> None:
        put = ChildHandle.put

        def put_and_act(child: ChildHandle, *files: bytes) -> None:
            put(child, *files)
            monkeypatch.setattr(ChildHandle, "put", put)
            act(child.pid)

        monkeypatch.setattr(ChildHandle, "put", put_and_act)

    return change


def test_a_child_that_crashes_costs_one_file(pool, metrics, doing):
    assert acme(pool).image(SMALL, LIMITS).shape == (40, 64, 3)
    doing(lambda pid: os.kill(pid, signal.SIGSEGV))
    blamed(lambda: acme(pool).image(SMALL, LIMITS))
    assert ends(metrics, "crashed") == 1
    np.testing.assert_array_equal(acme(pool).image(SMALL, LIMITS), decode_image(SMALL, LIMITS))


def test_a_child_that_hangs_is_ended(metrics, doing):
    with decoder_pool(metrics, timeout_s=3.0) as pool:
        acme(pool).image(SMALL, LIMITS)
        doing(lambda pid: os.kill(pid, signal.SIGSTOP))
        blamed(lambda: acme(pool).image(SMALL, LIMITS))
        assert ends(metrics, "time") == 1
        assert acme(pool).image(SMALL, LIMITS).shape == (40, 64, 3)


def test_memory_is_limited(metrics):
    limits = ChildLimits(memory_bytes=64 * 2**20, cpu_seconds=20)
    with decoder_pool(metrics, child=limits) as pool:
        blamed(lambda: acme(pool).image(LARGE, LIMITS))
        assert ends(metrics, "memory") == 1
        assert acme(pool).image(SMALL, LIMITS).shape == (40, 64, 3)


def test_processor_time_is_limited_for_each_file(metrics):
    with decoder_pool(metrics, child=ChildLimits(2**30, cpu_seconds=0.02)) as pool:
        for _ in range(50):
            acme(pool).image(SMALL, LIMITS)
        blamed(lambda: acme(pool).image(LARGE, LIMITS))
        assert ends(metrics, "time") == 1


def test_a_child_that_died_while_it_was_idle_costs_nobody_anything(pool, metrics):
    acme(pool).image(SMALL, LIMITS)
    (child,) = pool._idle
    os.kill(child.pid, signal.SIGKILL)
    assert select.select([child._connection], [], [], 10)[0]
    assert acme(pool).image(SMALL, LIMITS).shape == (40, 64, 3)
    assert ends(metrics, "crashed") == 1


def test_many_crashes_in_a_second_are_refused_for_a_while(pool, doing, monkeypatch):
    acme(pool).image(SMALL, LIMITS)
    # All in one second, however long a child takes to start and to crash here.
    monkeypatch.setattr(pool_module, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    codes = set()
    for _ in range(40):
        doing(lambda pid: os.kill(pid, signal.SIGKILL))
        with pytest.raises(MaskwireError) as caught:
            acme(pool).image(SMALL, LIMITS)
        codes.add(caught.value.code)
        if caught.value.code is ErrorCode.OVERLOADED:
            assert caught.value.retry_after is not None
            break
    assert codes == {ErrorCode.INVALID_ARGUMENT, ErrorCode.OVERLOADED}


def test_the_nursery_is_replaced(pool):
    acme(pool).image(SMALL, LIMITS)
    nursery = pool._nursery._process
    nursery.kill()
    nursery.wait()
    codes: list[ErrorCode | None] = []
    for _ in range(3):
        try:
            acme(pool).image(SMALL, LIMITS)
            codes.append(None)
        except MaskwireError as error:
            codes.append(error.code)
    assert codes[-1] is None
    assert set(codes) <= {None, ErrorCode.OVERLOADED, ErrorCode.INVALID_ARGUMENT}


def test_children_are_recycled(metrics):
    with decoder_pool(metrics, processes=1, recycle_after=3) as pool:
        pids = set()
        for _ in range(6):
            acme(pool).image(SMALL, LIMITS)
            pids |= {child.pid for child in pool._idle}
        assert ends(metrics, "recycled") == 2
        assert len(pids) == 2


MASK_SIZE = ImageSize(width_px=512, height_px=512)


def mask_files(count: int) -> list[MaskFile]:
    """Masks of which each has another pixel."""
    files = []
    for index in range(count):
        bitmap = np.zeros((512, 512), np.bool_)
        bitmap[index, index] = True
        files.append(MaskFile(encode_png(bitmap, bit_depth=1), f"masks[{index}].png.data"))
    return files


def test_masks_go_many_at_a_time(metrics, monkeypatch):
    asked = []
    ask = ChildHandle.ask

    def ask_and_note(child: ChildHandle, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        asked.append(order["do"])
        return ask(child, order, timeout_s)

    monkeypatch.setattr(ChildHandle, "ask", ask_and_note)
    with decoder_pool(metrics, processes=1) as pool:  # 64 masks of this size are an image
        masks = acme(pool).masks(mask_files(65), MASK_SIZE)
        assert asked == ["masks", "masks"]
        (child,) = pool._idle
        assert child.files == 65
    assert [np.flatnonzero(one).tolist() for one in masks] == [[513 * i] for i in range(65)]


def test_the_mask_that_a_child_crashes_on_is_named_and_the_others_are_not(
    pool, metrics, monkeypatch
):
    """A child does not say which it was: each is asked for alone then."""
    files = mask_files(5)
    files[3] = MaskFile(b"crash", files[3].field)
    put = ChildHandle.put

    def put_and_crash(child: ChildHandle, *given: bytes) -> None:
        put(child, *given)
        if b"crash" in given:
            os.kill(child.pid, signal.SIGSEGV)

    monkeypatch.setattr(ChildHandle, "put", put_and_crash)
    with pytest.raises(MaskwireError) as caught:
        acme(pool).masks(files, MASK_SIZE)
    assert [one.field for one in caught.value.violations] == ["masks[3].png.data"]
    assert caught.value.violations[0].description == NOT_WITHIN_LIMITS
    assert ends(metrics, "crashed") == 2
    assert len(acme(pool).masks(files[:3], MASK_SIZE)) == 3


def test_masks_that_are_more_than_a_child_takes_are_refused(pool):
    large = MaskFile(bytes(2**22 + 1), "masks[0].png.data")
    for files, size in (([large], MASK_SIZE), (mask_files(1), ImageSize(5000, 5000))):
        with pytest.raises(MaskwireError) as caught:
            acme(pool).masks(files, size)
        assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE
        assert not pool._idle, "no child was asked"


def test_a_child_decodes_for_one_tenant_only(metrics):
    """With room for both: each comes back to its own child."""
    with decoder_pool(metrics, processes=2) as pool:
        pids: dict[str, set[int]] = {"acme": set(), "globex": set(), "": set()}
        for tenant in ("acme", "globex", "acme", "acme", "globex"):
            pool.of_tenant(tenant).image(SMALL, LIMITS)
            pids[tenant].add(pool._idle[-1].pid)
        assert [len(one) for one in pids.values()] == [1, 1, 0]
        assert ends(metrics, "tenant") == 0
        # For a third the one makes room that was idle for longest.
        pool.of_tenant("").image(SMALL, LIMITS)
        assert [child.tenant for child in pool._idle] == ["globex", ""]
        assert ends(metrics, "tenant") == 1


def test_children_of_several_tenants_are_kept(metrics):
    with decoder_pool(metrics, processes=1, kept=3) as pool:
        for tenant in ("a", "b", "c", "a", "b", "c", "d"):
            pool.of_tenant(tenant).image(SMALL, LIMITS)
        assert [child.tenant for child in pool._idle] == ["b", "c", "d"]
        assert ends(metrics, "tenant") == 1


def test_files_of_different_tenants_are_never_in_one_child(metrics):
    seen: dict[int, set[str]] = {}

    def decode(pool: DecoderPool, number: int) -> None:
        tenant = f"tenant {number % 5}"

        def note(child: ChildHandle) -> None:
            seen.setdefault(child.pid, set()).add(tenant)

        pool.of_tenant(tenant).image(SMALL, LIMITS)
        pool.run(tenant, note)

    with decoder_pool(metrics, processes=3) as pool, ThreadPoolExecutor(8) as threads:
        list(threads.map(partial(decode, pool), range(60)))
        assert len(pool._idle) <= 3
    assert {len(one) for one in seen.values()} == {1}


def test_children_are_shared_where_that_was_chosen(metrics):
    with decoder_pool(metrics, processes=1, is_shared=True) as pool:
        for tenant in ("acme", "globex", "acme"):
            pool.of_tenant(tenant).image(SMALL, LIMITS)
        (child,) = pool._idle
        assert child.files == 3


def test_a_large_picture_ends_its_child(pool, metrics):
    acme(pool).image(LARGE, LIMITS)
    assert ends(metrics, "recycled") == 1
    assert not pool._idle


def test_several_threads_decode_at_a_time_in_as_many_children(metrics):
    files = [saved(picture(80 + number, 50), "PNG") for number in range(24)]
    expected = [decode_image(data, LIMITS) for data in files]
    with decoder_pool(metrics, processes=3) as pool, ThreadPoolExecutor(8) as threads:
        for found, wanted in zip(
            threads.map(lambda data: acme(pool).image(data, LIMITS), files), expected, strict=True
        ):
            np.testing.assert_array_equal(found, wanted)
        assert len(pool._idle) <= 3


def test_closing_leaves_no_process_and_no_descriptor(metrics):
    gc.collect()
    before = _open_descriptors()
    with decoder_pool(metrics) as pool:
        acme(pool).image(SMALL, LIMITS)
        video = acme(pool).open_video(
            io.BytesIO(squares_video(3)), VIDEO_LIMITS, field="video.data"
        )
        process = pool._nursery._process
        assert process is not None
        nursery = process.pid
        pids = pids_under(nursery)
        assert len(pids) == 2
        video.close()
        assert len(pids_under(nursery)) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in (nursery, *pids))
    assert _open_descriptors() <= before


def _open_descriptors() -> set[tuple[str, str]]:
    """Return which are open, and what they are of; other threads may close theirs meanwhile."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add((descriptor.name, str(descriptor.readlink())))
    return found


def test_children_have_two_descriptors_and_no_environment_of_the_server(pool, monkeypatch):
    monkeypatch.setenv("MASKWIRE_STORAGE__SECRET_ACCESS_KEY", "a secret")
    acme(pool).image(SMALL, LIMITS)
    (child,) = pool._idle
    open_files = {
        str(descriptor.readlink()) for descriptor in Path(f"/proc/{child.pid}/fd").iterdir()
    }
    kinds = sorted({name.partition(":")[0] for name in open_files})
    assert kinds == ["/dev/null", "/memfd", "socket"]
    assert len(open_files) == 3
    environment = Path(f"/proc/{child.pid}/environ").read_bytes()
    names = {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry}
    assert all(name == b"PYTHONPATH" or name.endswith(b"_") or b"THREADS" in name for name in names)
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_a_video_whose_child_crashes_is_the_files_fault(pool, metrics):
    video: Any = acme(pool).open_video(
        io.BytesIO(squares_video(9)), VIDEO_LIMITS, field="video.data"
    )
    stream = video.pictures(range(9))
    while stream.read(1.0) is None:
        pass
    os.kill(video._child.pid, signal.SIGSEGV)
    blamed(lambda: [stream.read(1.0) for _ in range(9)])
    assert ends(metrics, "crashed") == 1
    assert stream.read(1.0) is None
    assert stream.is_at_end
    video.close()


def test_closing_a_video_waits_for_the_frame_that_is_read(pool):
    video = acme(pool).open_video(io.BytesIO(squares_video(30)), VIDEO_LIMITS, field="video.data")
    stream = video.pictures(range(30))
    begun = threading.Event()

    def read_all() -> int:
        count = 0
        while not stream.is_at_end:
            count += stream.read(1.0) is not None
            begun.set()
        return count

    with ThreadPoolExecutor(1) as thread:
        counted = thread.submit(read_all)
        begun.wait()
        video.close()
        assert 1 <= counted.result() <= 30
