"""What callers give becomes the messages of the contract, and back."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from google.rpc import code_pb2, status_pb2
from PIL import Image

from maskwire.v1 import mask_pb2, realtime_pb2
from maskwire_client import (
    Box,
    DroppedFrame,
    DropPolicy,
    DropReason,
    Frame,
    ImageReference,
    MaskEncoding,
    Point,
    Postprocess,
    SessionSeed,
    Text,
    errors,
    load_image,
)
from maskwire_client._errors import error_from_status
from maskwire_client._session_messages import (
    Prompts,
    drain_notice_result,
    dropped_frames,
    frame_draft,
    prompts_message,
    session_config,
)
from tests.support.session_bench import arguments

PIXELS = np.full((6, 8, 3), 90, dtype=np.uint8)


def test_defaults_leave_to_the_server_what_is_its_own() -> None:
    config = session_config(arguments())
    assert config.mask_options.encoding == mask_pb2.MASK_ENCODING_COCO_RLE
    assert config.mask_options.include_scores
    assert config.drop_policy == realtime_pb2.DROP_POLICY_PROCESS_ALL
    assert config.sampling.every_nth_frame == 1
    for field in ("max_objects", "held_frames", "heartbeat_interval", "postprocess"):
        assert not config.HasField(field)
    assert not config.sampling.HasField("change_iou_threshold")
    assert not config.resume_seed


def test_every_option_reaches_the_config() -> None:
    config = session_config(
        arguments(
            model="m",
            encoding=MaskEncoding.PNG_8BIT,
            drop_policy=DropPolicy.LATEST_ONLY,
            every_nth_frame=3,
            on_change_only=True,
            change_iou_threshold=0.5,
            mark_unchanged=True,
            crop_to_box=True,
            max_objects=4,
            held_frames=0,
            heartbeat_interval_s=1.5,
            include_scores=False,
            include_boxes=True,
            include_logits=True,
            return_multiple_masks=True,
            max_masks=2,
            postprocess=Postprocess(max_hole_area_px=9),
            resume_from=SessionSeed(b"seed", 7),
        )
    )
    options = config.mask_options
    assert (config.model, options.encoding) == ("m", mask_pb2.MASK_ENCODING_PNG_8BIT)
    assert config.drop_policy == realtime_pb2.DROP_POLICY_LATEST_ONLY
    assert (config.sampling.every_nth_frame, config.sampling.on_change_only) == (3, True)
    assert config.sampling.change_iou_threshold == 0.5
    assert (config.mask_delta.mark_unchanged, config.mask_delta.crop_to_box) == (True, True)
    assert (config.max_objects, config.held_frames) == (4, 0)
    assert config.HasField("held_frames")
    assert config.heartbeat_interval.ToMilliseconds() == 1500
    assert (options.include_scores, options.include_boxes, options.include_logits) == (
        False,
        True,
        True,
    )
    assert (options.return_multiple_masks, options.max_masks) == (True, 2)
    assert config.postprocess.max_hole_area_px == 9
    assert config.resume_seed == b"seed"


@pytest.mark.parametrize("options", [{"jpeg_quality": 0}, {"jpeg_quality": 96}])
def test_numbers_that_never_reach_the_server_are_checked(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        arguments(**options)


@pytest.mark.parametrize("picture", [PIXELS, Image.fromarray(PIXELS)])
def test_pixels_are_sent_as_jpeg_or_as_png(picture) -> None:
    for quality, expected in ((80, "JPEG"), (None, "PNG")):
        data = frame_draft(picture, Prompts(), quality).message.image.data
        assert Image.open(io.BytesIO(data)).format == expected


def test_what_is_encoded_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "frame.jpg"
    file.write_bytes(b"encoded")
    for picture in (b"encoded", bytearray(b"encoded"), file, str(file), load_image(b"encoded")):
        assert frame_draft(picture, Prompts(), 95).message.image.data == b"encoded"
    uri = frame_draft(ImageReference("https://host/frame.jpg"), Prompts(), 95).message.image.uri
    assert uri == "https://host/frame.jpg"
    with pytest.raises(ValueError, match="empty"):
        frame_draft(b"", Prompts(), 95)


def test_numbers_and_times_of_a_frame() -> None:
    noon, later = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    draft = frame_draft(Frame(b"x", 4, noon), Prompts(), 95)
    assert (draft.frame_id, draft.message.capture_time.ToDatetime(UTC)) == (4, noon)
    other = frame_draft(Frame(b"x", 4, noon), Prompts(), 95, frame_id=5, capture_time=later)
    assert (other.frame_id, other.message.capture_time.ToDatetime(UTC)) == (5, later)
    plain = frame_draft(b"x", Prompts(), 95)
    assert (plain.frame_id, plain.message.HasField("capture_time")) == (None, False)
    with pytest.raises(ValueError, match="time zone"):
        frame_draft(Frame(b"x", 4, noon.replace(tzinfo=None)), Prompts(), 95)


def test_prompts_of_all_kinds() -> None:
    prompts = Prompts(
        points=[Point(1, 2, object_id=3, frame_index=9)],
        boxes=[Box(1, 2, 3, 4, frame_index=8), (5, 6, 7, 8)],
        texts=[Text("cat", frame_index=7), "dog"],
    )
    message = prompts_message(prompts, 11, replace=True)
    kinds = [prompt.WhichOneof("prompt") for prompt in message.prompts]
    assert kinds == ["point", "box", "box", "text", "text"]
    assert (message.frame_id, message.replace) == (11, True)
    indexes = [
        prompt.frame_index if prompt.HasField("frame_index") else None for prompt in message.prompts
    ]
    assert indexes == [9, 8, None, 7, None]
    assert not prompts_message(prompts, None, replace=False).HasField("frame_id")


def test_a_notice_may_come_without_seed_and_time() -> None:
    notice = drain_notice_result(realtime_pb2.DrainNotice(reason="why"))
    assert (notice.end_time, notice.reason, notice.seed) == (None, "why", None)


def test_a_reason_of_a_newer_contract_is_unspecified() -> None:
    (frame,) = dropped_frames([realtime_pb2.DroppedFrame(sequence=3, frame_id=2, reason=99)])  # type: ignore[arg-type]
    assert frame == DroppedFrame(3, 2, DropReason.UNSPECIFIED)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (code_pb2.INVALID_ARGUMENT, errors.InvalidArgument),
        (code_pb2.DATA_LOSS, errors.DataLoss),
        (99, errors.InternalError),
    ],
)
def test_a_status_within_an_answer_is_an_exception(code, kind) -> None:
    error = error_from_status(status_pb2.Status(code=code, message="what happened"), "r")
    assert (type(error), error.message, error.request_id) == (kind, "what happened", "r")
