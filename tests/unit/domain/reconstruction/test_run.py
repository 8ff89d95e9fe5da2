"""The work of a reconstruction job: files of an attempt, and what earlier attempts left."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.jobs.calls import JobCancelled, JobTask
from maskwire_server.domain.jobs.job import JobKey
from maskwire_server.domain.masks import MaskEncoding, encode_mask
from maskwire_server.domain.reconstruction.engine import ReconstructionSpecification
from maskwire_server.domain.reconstruction.inputs import InputLimits, InputReader
from maskwire_server.domain.reconstruction.requests import (
    ArtifactKind,
    BodiesRequest,
    ObjectsRequest,
)
from maskwire_server.domain.reconstruction.run import ReconstructionRunner
from maskwire_server.domain.segmentation import Caller, InlineImage
from maskwire_server.engines.inflate import InflateFactory
from maskwire_server.storage.objects import StoreLocation
from tests.support.job_calls import HEIGHT, WIDTH, disc
from tests.support.stores import Stores, opened

TENANT = "alice"
HOUR = timedelta(hours=1)


class Progress:
    """Remembers what was reported; raises where it is told to."""

    def __init__(self, stops_at: Callable[[str], bool] = lambda _: False) -> None:
        self.reports: list[tuple[str, float]] = []
        self._stops_at = stops_at

    def report(self, stage: str, fraction: float, log_line: str = "") -> None:
        self.reports.append((stage, fraction))
        if self._stops_at(stage):
            raise JobCancelled


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with opened(StoreLocation(None, tmp_path, {})) as made:
        yield made


@pytest.fixture
def runner(stores: Stores) -> ReconstructionRunner:
    limits = ImageLimits(max_bytes=2**20, max_pixels=10**6, max_side_px=2000)
    images = ImageAccess(
        stores.executor,
        limits,
        stores.metrics,
        embedding_budget_bytes=0,
        image_budget_bytes=0,
    )
    inputs = InputReader(images, stores.files, stores.executor, InputLimits(8, 2**22))
    small = ReconstructionSpecification("inflate", mesh_resolution_px=32, max_splats=200)
    engine = InflateFactory().load(small)
    return ReconstructionRunner(inputs, lambda name: engine, stores.executor, stores.files, HOUR)


def request() -> ObjectsRequest:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    masks = tuple(encode_mask(disc(x, 32, 14), MaskEncoding.COCO_RLE) for x in (25.0, 70.0))
    return ObjectsRequest(InlineImage(file.getvalue()), masks, seed=3, model="inflate")


def task(attempt: int = 1) -> JobTask:
    return JobTask(JobKey(TENANT, "a" * 32), attempt, "m", "r", b"")


async def stored(stores: Stores) -> set[str]:
    page = await stores.files.list(Caller(TENANT, ""), page_size=1000)
    return {file.name for file in page.files}


async def test_the_files_of_an_attempt_belong_to_the_tenant_and_expire(
    runner: ReconstructionRunner, stores: Stores
) -> None:
    progress = Progress()
    result = await runner.objects(request(), task(), progress)
    assert {one.file.name for one in result.artifacts} == await stored(stores)
    assert {one.kind for one in result.artifacts} == set(ArtifactKind)
    lives = {one.file.expire_time - one.file.create_time for one in result.artifacts}
    assert lives == {HOUR}
    fractions = [fraction for _, fraction in progress.reports]
    assert fractions == sorted(fractions)
    assert 0 == fractions[0] <= fractions[-1] < 1
    assert len(result.objects) == 2
    assert (result.objects[0].box.x_min, result.objects[0].box.x_max) == (11, 39)


async def test_what_a_killed_attempt_left_is_removed_by_the_next(
    runner: ReconstructionRunner, stores: Stores
) -> None:
    killed = await runner.objects(request(), task(1), Progress())
    again = await runner.objects(request(), task(2), Progress())
    left = await stored(stores)
    assert left == {one.file.name for one in again.artifacts}
    assert not left & {one.file.name for one in killed.artifacts}


async def test_a_cancelled_attempt_leaves_nothing(
    runner: ReconstructionRunner, stores: Stores
) -> None:
    stored_so_far = iter(range(100))
    progress = Progress(lambda stage: stage == "files" and next(stored_so_far) == 3)
    with pytest.raises(JobCancelled):
        await runner.objects(request(), task(), progress)
    assert [stage for stage, _ in progress.reports].count("files") == 4
    assert await stored(stores) == set()


async def test_a_store_that_fails_on_the_way_leaves_nothing(
    runner: ReconstructionRunner, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, count = stores.files.put, iter(range(100))

    async def failing(*arguments: object, **options: object) -> object:
        if next(count) == 2:
            raise MaskwireError(ErrorCode.QUOTA_EXCEEDED, "full")
        return await put(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stores.files, "put", failing)
    with pytest.raises(MaskwireError, match="full"):
        await runner.objects(request(), task(), Progress())
    assert await stored(stores) == set()


async def test_an_engine_of_the_other_kind_is_refused(runner: ReconstructionRunner) -> None:
    wanted = BodiesRequest(request().image, model="inflate")
    with pytest.raises(MaskwireError) as refused:
        await runner.bodies(wanted, task(), Progress())
    assert refused.value.code is ErrorCode.MODEL_NOT_FOUND
