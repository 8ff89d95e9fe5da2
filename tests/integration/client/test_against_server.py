"""Both clients against the real server with the embedded default model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwire_client import (
    AsyncClient,
    Box,
    Capability,
    Client,
    ImageReference,
    MaskEncoding,
    MaskPrompt,
    PictureFormat,
    Point,
    PointLabel,
    PromptKind,
    Rendering,
    RenderingStyle,
    SegmentationResult,
    errors,
)
from tests.support.server_process import server_process

WIDTH, HEIGHT = 160, 120
BOX = Box(30, 20, 120, 90)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_process(tmp_path_factory.mktemp("server")) as process:
        yield process.address


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A light disk on dark, noisy ground."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((columns - 75) / 40) ** 2 + ((rows - 55) / 32) ** 2 < 1
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH, 3))
    return (np.where(inside[..., None], 200, 30) + noise).astype(np.uint8)


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as connected:
        yield connected


def bitmaps(result: SegmentationResult) -> list[np.ndarray]:
    return [mask.bitmap for mask in result]


def test_an_answer_says_all_that_it_should(client: Client, pixels: np.ndarray) -> None:
    result = client.segment(
        pixels,
        points=[Point(75, 55, object_id=4), Point(2, 2, PointLabel.BACKGROUND, 4)],
        boxes=[BOX],
        include_boxes=True,
        include_logits=True,
        request_id="test-1",
    )
    assert [mask.object_id for mask in result] == [4, 1]
    assert result.info.request_id == "test-1"
    assert (result.image.size.width_px, result.image.size.height_px) == (WIDTH, HEIGHT)
    assert result.image.content_type == "image/png"
    assert result.info.models[0].model == "maskwire-nano"
    assert result.info.timings.total is not None
    for mask in result:
        assert mask.bitmap.shape == (HEIGHT, WIDTH)
        assert mask.area_px == mask.bitmap.sum() > 0
        assert mask.score is not None
        assert mask.logits is not None
        rows, columns = np.nonzero(mask.bitmap)
        assert mask.box == Box(columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0)
        assert mask.normalized_box is not None
        assert mask.normalized_box.width == pytest.approx((mask.box.x_max - mask.box.x_min) / WIDTH)


def test_every_encoding_is_the_same_mask(client: Client, pixels: np.ndarray) -> None:
    expected = bitmaps(client.segment(pixels, boxes=[BOX], points=[(75, 55)]))
    assert expected[0].any()
    for encoding in MaskEncoding:
        result = client.segment(pixels, boxes=[BOX], points=[(75, 55)], encoding=encoding)
        if encoding is MaskEncoding.NONE:
            assert [mask.encoded for mask in result] == [None, None]
            assert result.masks[0].area_px == expected[0].sum()
        else:
            assert np.array_equal(bitmaps(result), expected), encoding


def test_every_kind_of_image_is_the_same_image(
    client: Client, pixels: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    first = client.segment(file, boxes=[BOX])
    for image in (str(file), file.read_bytes(), pixels, Image.fromarray(pixels)):
        assert np.array_equal(bitmaps(client.segment(image, boxes=[BOX])), bitmaps(first))
    by_digest = client.segment(ImageReference(first.image.digest), boxes=[BOX])
    assert np.array_equal(bitmaps(by_digest), bitmaps(first))
    assert by_digest.info.embedding_cached


def test_an_unknown_digest_is_not_found(client: Client) -> None:
    with pytest.raises(errors.ImageNotFound) as raised:
        client.segment("sha256:" + "0" * 64, boxes=[BOX])
    assert raised.value.resource == "sha256:" + "0" * 64


def test_answers_are_prompts_again(client: Client, pixels: np.ndarray) -> None:
    first = client.segment(pixels, boxes=[BOX], include_logits=True).masks[0]
    assert first.box is not None
    for prompt in (first, first.logits, first.encoded, first.bitmap):
        assert prompt is not None
        (mask,) = client.segment(pixels, masks=[MaskPrompt(prompt, 7)])
        assert mask.object_id == 7
        assert mask.area_px > 0
    assert client.segment(pixels, boxes=[first.box]).masks[0].area_px > 0


def test_alternatives_come_best_first(client: Client, pixels: np.ndarray) -> None:
    result = client.segment(pixels, points=[(75, 55)], return_multiple_masks=True)
    scores = [mask.score or 0.0 for mask in result]
    assert [mask.alternative for mask in result] == list(range(len(result)))
    assert len(result) > 1
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("picture_format", PictureFormat)
def test_overlays(client: Client, pixels: np.ndarray, picture_format: PictureFormat) -> None:
    rendering = Rendering(RenderingStyle.OVERLAY, picture_format)
    (picture,) = client.segment(pixels, boxes=[BOX], renderings=[rendering]).pictures
    with picture.open() as image:
        assert image.size == (WIDTH, HEIGHT)
        assert image.format == picture_format.name
    assert picture.content_type == f"image/{picture_format.value}"


def test_models(client: Client) -> None:
    model = client.model()
    assert model == client.model("maskwire-nano") == client.models()[0]
    assert model.is_default
    assert model.prompt_kinds >= {PromptKind.POINT, PromptKind.BOX, PromptKind.MASK}
    assert Capability.SEGMENT_IMAGE in model.capabilities


def test_errors_have_their_types(client: Client, pixels: np.ndarray) -> None:
    with pytest.raises(errors.InvalidArgument) as invalid:
        client.segment(pixels, points=[(75, 55), (float("nan"), 1)])
    assert invalid.value.violations[0].field.startswith("prompts[1].point.point.x")
    with pytest.raises(errors.ModelNotFound, match="absent"):
        client.model("absent")
    with pytest.raises(errors.UnsupportedByModel):
        client.segment(pixels, texts=["a disk"], model="maskwire-nano")
    with pytest.raises(errors.InvalidArgument):
        client.segment(b"no image", boxes=[BOX])


async def test_the_asyncio_client_gives_the_same(address: str, pixels: np.ndarray) -> None:
    with Client(address) as client:
        expected = await asyncio.to_thread(client.segment, pixels, boxes=[BOX])
    async with AsyncClient(address) as other:
        results = await asyncio.gather(*[other.segment(pixels, boxes=[BOX]) for _ in range(8)])
        assert await other.model() == (await other.models())[0]
    for result in results:
        assert np.array_equal(bitmaps(result), bitmaps(expected))
        assert result.masks[0].score == expected.masks[0].score
