"""Requests, results, pictures and models: what is read, written, and refused by name."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire.v1 import (
    file_pb2,
    geometry_pb2,
    image_pb2,
    mask_pb2,
    model_pb2,
    processing_pb2,
    rendering_pb2,
    segmentation_pb2,
)
from maskwire_server.domain.engine import ModelDescription
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.files.store import StoredFile
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.masks import (
    EncodedRle,
    MaskEncoding,
)
from maskwire_server.domain.models import ServedModel
from maskwire_server.domain.pictures import PictureFormat
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.prompts import (
    PromptKind,
)
from maskwire_server.domain.renderings import Delivery, Picture, RenderingRequest, RenderingStyle
from maskwire_server.domain.residency import LoadState
from maskwire_server.domain.segmentation import (
    ImageInfo,
    MaskOptions,
    ScoreKind,
    SegmentedMask,
    SegmentResult,
    Timings,
)
from maskwire_server.transport.converters import models, processing
from maskwire_server.transport.converters.renderings import picture_to_proto, rendering_from_proto
from maskwire_server.transport.converters.segmentation import (
    mask_options_from_proto,
    segment_request_from_proto,
    segment_result_to_proto,
)

POINT = geometry_pb2.Point(x=1, y=2)
CORNERS = Box(1, 2, 3, 4)
BOX = geometry_pb2.Box(x_min=1, y_min=2, x_max=3, y_max=4)


def refused(function, *arguments) -> MaskwireError:
    with pytest.raises(MaskwireError) as raised:
        function(*arguments)
    return raised.value


def test_defaults_of_a_request_are_the_contracts():
    request = segment_request_from_proto(minimal_request())
    assert request.model is None
    assert request.mask_options == MaskOptions()
    assert request.postprocess == PostprocessOptions()
    assert request.renderings == ()


def test_every_mask_option_is_read():
    message = mask_pb2.MaskOptions(
        encoding=mask_pb2.MASK_ENCODING_POLYGONS,
        return_multiple_masks=True,
        max_masks=32,
        include_scores=True,
        include_boxes=True,
        include_logits=True,
    )
    assert mask_options_from_proto(message) == MaskOptions(
        MaskEncoding.POLYGONS, True, 32, True, True, True
    )


def minimal_request() -> segmentation_pb2.SegmentImageRequest:
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = b"bytes"
    request.prompts.add().point.point.CopyFrom(POINT)
    return request


POSTPROCESSING = mask_pb2.PostprocessOptions(
    max_hole_area_px=1,
    min_region_area_px=2,
    smoothing_radius_px=0.5,
    morphological_cleanup=True,
    min_score=0.25,
    max_overlap_iou=0.75,
    coarse_masks=True,
)


def test_every_option_of_postprocessing_is_read_but_the_second_pass():
    tried = {field.name for field, _ in POSTPROCESSING.ListFields()}
    assert tried == set(mask_pb2.PostprocessOptions.DESCRIPTOR.fields_by_name) - {"refine"}
    request = minimal_request()
    request.postprocess.CopyFrom(POSTPROCESSING)
    assert segment_request_from_proto(request).postprocess == PostprocessOptions(
        max_hole_area_px=1,
        min_region_area_px=2,
        smoothing_radius_px=0.5,
        morphological_cleanup=True,
        min_score=0.25,
        max_overlap_iou=0.75,
        coarse_masks=True,
    )


def test_thresholds_of_zero_are_not_the_same_as_none():
    request = minimal_request()
    request.postprocess.min_score = request.postprocess.max_overlap_iou = 0
    options = segment_request_from_proto(request).postprocess
    assert (options.min_score, options.max_overlap_iou) == (0.0, 0.0)


def test_a_second_pass_of_the_model_is_off_unless_asked_for():
    request = minimal_request()
    assert not segment_request_from_proto(request).postprocess.refine
    request.postprocess.refine = True
    assert segment_request_from_proto(request).postprocess.refine


def test_delivery_is_inline_unless_stored_files_are_asked_for():
    for value, delivery in [
        (file_pb2.DELIVERY_UNSPECIFIED, Delivery.INLINE),
        (file_pb2.DELIVERY_INLINE, Delivery.INLINE),
        (file_pb2.DELIVERY_STORED_FILE, Delivery.STORED_FILE),
    ]:
        request = minimal_request()
        request.delivery = value
        assert segment_request_from_proto(request).delivery is delivery


def test_the_size_that_a_model_sees_is_read():
    request = minimal_request()
    assert segment_request_from_proto(request).inference_size_px is None
    request.inference_size_px = 512
    assert segment_request_from_proto(request).inference_size_px == 512


def test_renderings_are_read_with_their_defaults_and_without():
    path = "renderings[0]"
    assert rendering_from_proto(rendering_pb2.Rendering(), path) == RenderingRequest(
        RenderingStyle.OVERLAY, PictureFormat.PNG, 90, 0.5, True, False, 0, path
    )
    message = rendering_pb2.Rendering(
        style=rendering_pb2.RENDERING_STYLE_CUTOUT,
        format=rendering_pb2.PICTURE_FORMAT_WEBP,
        quality=1,
        opacity=0,
        draw_outlines=False,
        invert=True,
        background_rgb=0x102030,
    )
    assert {field.name for field, _ in message.ListFields()} == set(
        rendering_pb2.Rendering.DESCRIPTOR.fields_by_name
    )
    assert rendering_from_proto(message, path) == RenderingRequest(
        RenderingStyle.CUTOUT, PictureFormat.WEBP, 1, 0.0, False, True, 0x102030, path
    )


def test_every_style_has_one_member():
    styles = {
        rendering_from_proto(rendering_pb2.Rendering(style=style), "f").style
        for style in rendering_pb2.RenderingStyle.values()
    }
    assert styles == set(RenderingStyle)


@pytest.mark.parametrize(
    "style", [rendering_pb2.RENDERING_STYLE_LABEL_MAP, rendering_pb2.RENDERING_STYLE_COCO_JSON]
)
def test_what_cannot_be_inverted_is_refused_by_name(style):
    request = minimal_request()
    request.renderings.add()
    request.renderings.add(style=style, invert=True)
    error = refused(segment_request_from_proto, request)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.violations[0].field == "renderings[1].invert"


@pytest.mark.parametrize("style", list(RenderingStyle))
def test_pictures_are_written_inline(style):
    picture = Picture(style, b"file", "image/webp", "a.webp", ImageSize(3, 2), 5, 7)
    message = picture_to_proto(picture)
    assert rendering_from_proto(rendering_pb2.Rendering(style=message.style), "f").style is style
    assert message.content.data == b"file"
    assert (message.content.content_type, message.content.file_name) == ("image/webp", "a.webp")
    assert message.content.image_size == geometry_pb2.ImageSize(width_px=3, height_px=2)
    assert (message.mask_index, message.object_id) == (5, 7)


def test_stored_pictures_are_written_as_references():
    time = datetime(2026, 11, 21, tzinfo=UTC)
    stored = StoredFile("files/1", "a.png", "image/png", 7, "sha256:aa", time, time)
    picture = Picture(
        RenderingStyle.OVERLAY, stored, "image/png", "a.png", ImageSize(width_px=3, height_px=2)
    )
    content = picture_to_proto(picture).content
    assert content.WhichOneof("content") == "file"
    assert (content.file.name, content.file.digest) == ("files/1", "sha256:aa")
    assert (content.file.size_bytes, content.content_type) == (7, "image/png")


def test_a_file_that_is_no_picture_of_a_mask_says_nothing_about_size_mask_and_object():
    picture = Picture(RenderingStyle.COCO_JSON, b"{}", "application/json", "a.json", None)
    message = picture_to_proto(picture)
    assert not message.content.HasField("image_size")
    assert not message.HasField("mask_index")
    assert not message.HasField("object_id")


@given(st.floats(0, 1e6))
def test_durations_keep_microseconds(seconds):
    duration = processing.duration_to_proto(seconds)
    assert 0 <= duration.nanos < 1_000_000_000
    assert math.isclose(duration.ToNanoseconds() / 1e9, seconds, abs_tol=1e-6)


def test_stages_that_did_not_run_stay_unset():
    message = processing.timings_to_proto(Timings(None, 0.0, None, 0.5, 0.25, 0.75))
    assert [name.name for name, _ in message.ListFields()] == [
        "queue",
        "prompt",
        "postprocess",
        "total",
    ]
    assert message.prompt.ToTimedelta() == timedelta(seconds=0.5)


def result_with(options: MaskOptions, box: Box | None = CORNERS) -> SegmentResult:
    size = ImageSize(10, 20)
    return SegmentResult(
        masks=(
            SegmentedMask(
                index=0,
                object_id=4,
                alternative=1,
                score=0.5,
                score_kind=ScoreKind.PREDICTED_IOU,
                stability_score=0.25,
                area_px=4,
                box=box,
                encoded=EncodedRle(b"0", size),
                logits=None,
            ),
        ),
        mask_options=options,
        pictures=(Picture(RenderingStyle.OVERLAY, b"file", "image/png", "a.png", size),),
        image=ImageInfo("sha256:aa", size, "image/jpeg"),
        model="a-model",
        checkpoint_digest="sha256:bb",
        embedding_cached=True,
        timings=Timings(0.1, 0.2, 0.3, 0.4, 0.5, 1.5),
    )


def test_a_result_says_how_it_came_about():
    response = segment_result_to_proto(result_with(MaskOptions()), "request-1")
    assert response.info == processing_pb2.ProcessingInfo(
        models=[processing_pb2.ModelReference(model="a-model", checkpoint_digest="sha256:bb")],
        image=image_pb2.ImageInfo(
            digest="sha256:aa",
            size=geometry_pb2.ImageSize(width_px=10, height_px=20),
            content_type="image/jpeg",
        ),
        embedding_cached=True,
        timings=processing.timings_to_proto(Timings(0.1, 0.2, 0.3, 0.4, 0.5, 1.5)),
        request_id="request-1",
    )
    assert len(response.pictures) == 1


def test_a_mask_carries_what_was_asked_for():
    [plain] = segment_result_to_proto(result_with(MaskOptions()), "r").masks
    assert (plain.index, plain.object_id, plain.alternative, plain.area_px) == (0, 4, 1, 4)
    assert plain.box == BOX
    assert plain.mask.coco_rle.counts == b"0"
    for absent in ("score", "stability_score", "normalized_box", "logits"):
        assert not plain.HasField(absent)
    options = MaskOptions(include_scores=True, include_boxes=True)
    [full] = segment_result_to_proto(result_with(options), "r").masks
    assert (full.score, full.stability_score) == (0.5, 0.25)
    assert full.score_kind == mask_pb2.SCORE_KIND_PREDICTED_IOU
    assert full.normalized_box.center_x == pytest.approx(0.2)


def test_an_empty_mask_has_no_box():
    options = MaskOptions(include_boxes=True)
    [mask] = segment_result_to_proto(result_with(options, box=None), "r").masks
    assert not mask.HasField("box")
    assert not mask.HasField("normalized_box")


def test_a_model_is_described_in_full():
    class Engine:
        description = ModelDescription(
            name="a-model",
            engine="an-engine",
            architecture="net",
            checkpoint_digest="sha256:bb",
            prompt_kinds=frozenset(PromptKind),
            masks_per_object=3,
            max_objects=64,
            native_resolution_px=1024,
            supports_video=True,
            device="cuda:0",
            precision="bf16",
            license="Apache-2.0",
        )

    engine: object = Engine()
    message = models.model_to_proto(ServedModel(engine, None, is_default=True))  # type: ignore[arg-type]
    assert set(message.prompt_kinds) == set(model_pb2.PromptKind.values()) - {0}
    assert model_pb2.CAPABILITY_SEGMENT_IMAGE in message.capabilities
    unset = {
        field.name
        for field in model_pb2.Model.DESCRIPTOR.fields
        if field.name not in {set_field.name for set_field, _ in message.ListFields()}
    }
    assert unset == set()


def test_every_state_of_weights_is_told():
    states = {models._LOAD_STATES[state] for state in LoadState}
    assert states == set(model_pb2.LoadState.values()) - {model_pb2.LOAD_STATE_UNSPECIFIED}
