"""Pictures of every style: what they show, their formats, names and sizes."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.packed_masks import DrawableMask, PackedMask
from maskwire_server.domain.palette import object_colour
from maskwire_server.domain.pictures import PictureFormat
from maskwire_server.domain.renderings import (
    RenderingRequest,
    RenderingStyle,
    check_renderings,
    draw,
    needs_image,
)

SIZE = ImageSize(width_px=80, height_px=60)
PIXELS = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def rectangle(top, bottom, left, right):
    bitmap = np.zeros((60, 80), dtype=np.bool_)
    bitmap[top:bottom, left:right] = True
    return bitmap


LARGE, SMALL, WORSE = rectangle(5, 45, 5, 65), rectangle(20, 30, 50, 70), rectangle(0, 60, 0, 80)
EMPTY = rectangle(0, 0, 0, 0)
MASKS = (
    DrawableMask(0, 4, PackedMask.pack(LARGE), 0, 0.75),
    DrawableMask(1, 4, PackedMask.pack(WORSE), 1, 0.5),
    DrawableMask(2, 9, PackedMask.pack(SMALL), 0, None),
    DrawableMask(3, 11, PackedMask.pack(EMPTY), 0, 0.1),
)


def pictures(style, **options):
    return list(draw([RenderingRequest(style, **options)], SIZE, PIXELS, MASKS))


def only(style, **options):
    [picture] = pictures(style, **options)
    return picture


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(picture.content)))


def test_an_overlay_shows_the_best_mask_of_each_object_in_its_colour():
    picture = only(RenderingStyle.OVERLAY, opacity=1.0, draw_outlines=False)
    shown = pixels_of(picture)
    assert tuple(shown[10, 10]) == object_colour(4)
    assert tuple(shown[25, 60]) == object_colour(9)
    np.testing.assert_array_equal(shown[~(LARGE | SMALL)], PIXELS[~(LARGE | SMALL)])
    assert (picture.content_type, picture.file_name) == ("image/png", "overlay.png")
    assert (picture.size, picture.mask_index, picture.object_id) == (SIZE, None, None)


def test_an_inverted_overlay_covers_the_background():
    shown = pixels_of(only(RenderingStyle.OVERLAY, opacity=1.0, draw_outlines=False, invert=True))
    covered = LARGE | SMALL
    np.testing.assert_array_equal(shown[covered], PIXELS[covered])
    assert (shown[~covered] == object_colour(4)).all()


def test_contours_change_pixels_at_the_outline_only():
    shown = pixels_of(only(RenderingStyle.CONTOURS))
    changed = (shown != PIXELS).any(axis=2)
    assert changed[5, 6:64].all()
    assert not changed[9:41, 9:46].any()
    assert not changed[49:].any()
    inverted = pixels_of(only(RenderingStyle.CONTOURS, invert=True))
    np.testing.assert_array_equal(shown, inverted)


@pytest.mark.parametrize("invert", [False, True])
def test_black_and_white_is_all_objects_together(invert):
    shown = pixels_of(only(RenderingStyle.BLACK_WHITE, invert=invert))
    np.testing.assert_array_equal(shown, np.where((LARGE | SMALL) ^ invert, 255, 0))


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("picture_format", [PictureFormat.PNG, PictureFormat.WEBP])
def test_a_cut_out_is_transparent_around_the_objects(invert, picture_format):
    picture = only(RenderingStyle.CUTOUT, invert=invert, format=picture_format, quality=100)
    shown = pixels_of(picture)
    covered = (LARGE | SMALL) ^ invert
    np.testing.assert_array_equal(shown[..., 3], np.where(covered, 255, 0))
    if picture_format is PictureFormat.PNG:
        np.testing.assert_array_equal(shown[covered][:, :3], PIXELS[covered])
        assert not shown[~covered].any()


def test_a_cut_out_in_jpeg_has_the_background_that_was_asked_for():
    shown = pixels_of(
        only(RenderingStyle.CUTOUT, format=PictureFormat.JPEG, quality=100, background_rgb=0x10C020)
    )
    assert np.abs(shown[50:, :].astype(int) - (0x10, 0xC0, 0x20)).max() <= 3


def test_crops_are_one_picture_for_each_object_that_is_seen():
    first, second = pictures(RenderingStyle.CROPS)
    assert [first.object_id, second.object_id] == [4, 9]
    assert [first.file_name, second.file_name] == ["crop-4.png", "crop-9.png"]
    assert first.mask_index is None
    assert first.size == ImageSize(width_px=60, height_px=40)
    shown = pixels_of(second)
    np.testing.assert_array_equal(shown[..., :3], PIXELS[20:30, 50:70])
    assert (shown[..., 3] == 255).all()
    [inverted, _] = pictures(RenderingStyle.CROPS, invert=True)
    assert not pixels_of(inverted).any()


def test_a_label_map_holds_ids_and_the_smaller_mask_wins():
    picture = only(RenderingStyle.LABEL_MAP, format=PictureFormat.JPEG)
    assert picture.content_type == "image/png"
    expected = np.where(SMALL, 9, np.where(LARGE, 4, 0))
    np.testing.assert_array_equal(pixels_of(picture), expected)


def test_ids_that_do_not_fit_a_label_map_are_refused():
    masks = [DrawableMask(0, 65_535, PackedMask.pack(LARGE))]
    request = RenderingRequest(RenderingStyle.LABEL_MAP, field="renderings[2]")
    [picture] = draw([request], SIZE, None, masks)
    assert pixels_of(picture).max() == 65_535
    masks.append(DrawableMask(1, 65_536, PackedMask.pack(SMALL)))
    with pytest.raises(MaskwireError, match="up to 65535, not 65536") as caught:
        list(draw([request], SIZE, None, masks))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "renderings[2].style"


def test_individual_masks_are_one_picture_for_each_mask():
    made = pictures(RenderingStyle.INDIVIDUAL_MASKS)
    assert [one.mask_index for one in made] == [0, 1, 2, 3]
    assert [one.object_id for one in made] == [4, 4, 9, 11]
    assert made[2].file_name == "mask-2.png"
    for one, bitmap in zip(made, [LARGE, WORSE, SMALL, EMPTY], strict=True):
        np.testing.assert_array_equal(pixels_of(one), np.where(bitmap, 255, 0))
    inverted = pictures(RenderingStyle.INDIVIDUAL_MASKS, invert=True)
    np.testing.assert_array_equal(pixels_of(inverted[2]), np.where(SMALL, 0, 255))


# pycocotools itself uses a deprecated protocol of numpy when it decodes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_annotations_are_a_coco_document_that_pycocotools_reads():
    picture = only(RenderingStyle.COCO_JSON)
    assert (picture.content_type, picture.file_name) == ("application/json", "annotations.json")
    assert picture.size is None
    assert isinstance(picture.content, bytes)
    document = json.loads(picture.content)
    assert document["images"] == [{"id": 1, "file_name": "", "width": 80, "height": 60}]
    assert document["categories"] == [{"id": 1, "name": "object"}]
    first, second, third, fourth = document["annotations"]
    assert [one["id"] for one in document["annotations"]] == [1, 2, 3, 4]
    assert first["bbox"] == [5, 5, 60, 40]
    assert (first["area"], first["object_id"], first["alternative"]) == (2400, 4, 0)
    assert first["score"] == 0.75
    assert second["alternative"] == 1
    assert "score" not in third
    assert fourth["bbox"] == [0, 0, 0, 0]
    for one, bitmap in zip(document["annotations"], [LARGE, WORSE, SMALL, EMPTY], strict=True):
        np.testing.assert_array_equal(coco.decode(one["segmentation"]).astype(np.bool_), bitmap)


def test_annotations_name_what_text_found():
    masks = [
        DrawableMask(0, 1, PackedMask.pack(LARGE), category="zebra"),
        DrawableMask(1, 2, PackedMask.pack(SMALL), category="bus"),
    ]
    [picture] = draw([RenderingRequest(RenderingStyle.COCO_JSON)], SIZE, None, masks)
    assert isinstance(picture.content, bytes)
    document = json.loads(picture.content)
    assert document["categories"] == [{"id": 1, "name": "bus"}, {"id": 2, "name": "zebra"}]
    assert [one["category_id"] for one in document["annotations"]] == [2, 1]


@pytest.mark.parametrize("style", list(RenderingStyle))
def test_without_any_mask_there_is_a_picture_all_the_same(style):
    made = list(
        draw([RenderingRequest(style), RenderingRequest(style, invert=True)], SIZE, PIXELS, [])
    )
    one_for_each = {RenderingStyle.CROPS, RenderingStyle.INDIVIDUAL_MASKS}
    assert len(made) == (0 if style in one_for_each else 2)


def test_pictures_come_in_the_order_of_the_requests_with_names_of_their_own():
    requests = [
        RenderingRequest(RenderingStyle.OVERLAY),
        RenderingRequest(RenderingStyle.CROPS),
        RenderingRequest(RenderingStyle.OVERLAY, PictureFormat.JPEG),
        RenderingRequest(RenderingStyle.CROPS, PictureFormat.WEBP),
    ]
    names = [picture.file_name for picture in draw(requests, SIZE, PIXELS, MASKS)]
    assert names == [
        "overlay.png",
        "crop-4.png",
        "crop-9.png",
        "overlay-v2.jpg",
        "crop-v2-4.webp",
        "crop-v2-9.webp",
    ]


def test_the_image_is_needed_only_where_it_shows():
    of_masks = [
        RenderingStyle.BLACK_WHITE,
        RenderingStyle.LABEL_MAP,
        RenderingStyle.INDIVIDUAL_MASKS,
        RenderingStyle.COCO_JSON,
    ]
    requests = [RenderingRequest(style) for style in of_masks]
    assert not needs_image(requests)
    assert len(list(draw(requests, SIZE, None, MASKS))) == 7
    requests.append(RenderingRequest(RenderingStyle.CUTOUT))
    assert needs_image(requests)
    with pytest.raises(ValueError, match="need the image"):
        next(draw(requests, SIZE, None, MASKS))


def test_pictures_are_checked_against_their_formats_before_any_work():
    size = ImageSize(16_384, 100)
    check_renderings([RenderingRequest(format=PictureFormat.PNG)], size)
    for style in (RenderingStyle.COCO_JSON, RenderingStyle.LABEL_MAP):
        check_renderings([RenderingRequest(style, PictureFormat.WEBP)], size)
    request = RenderingRequest(format=PictureFormat.WEBP, field="renderings[3]")
    with pytest.raises(MaskwireError) as caught:
        check_renderings([request], size)
    assert caught.value.violations[0].field == "renderings[3].format"
