"""Builds a session's requests and reads its responses; pure functions, no stream."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from PIL import Image

from maskwire.v1 import image_pb2, mask_pb2, prompt_pb2, realtime_pb2

from ._enums import from_wire, to_wire
from ._requests import bytes_source, postprocess_message, prompt_messages, reference_source
from .frames import Frame, FrameInput
from .images import EncodedImage, ImageInput, encode_image, load_image
from .options import MaskEncoding, Postprocess
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .sessions import (
    DrainNotice,
    DroppedFrame,
    DropPolicy,
    DropReason,
    Heartbeat,
    Reconnect,
    SessionSeed,
)

DEFAULT_WINDOW = 32
DEFAULT_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionArguments:
    """What `open_session` takes; documented there."""

    model: str
    encoding: MaskEncoding
    drop_policy: DropPolicy
    every_nth_frame: int
    on_change_only: bool
    change_iou_threshold: float | None
    mark_unchanged: bool
    crop_to_box: bool
    max_objects: int | None
    held_frames: int | None
    heartbeat_interval_s: float | None
    include_scores: bool
    include_boxes: bool
    include_logits: bool
    return_multiple_masks: bool
    max_masks: int | None
    postprocess: Postprocess | None
    resume_from: SessionSeed | None
    reconnect: Reconnect | None
    window: int
    jpeg_quality: int | None

    def __post_init__(self) -> None:
        """Check what never reaches the server.

        Raises:
            ValueError: A number is out of its range.
        """
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 95:
            raise ValueError(f"jpeg_quality must be 1 to 95, not {self.jpeg_quality}")

    @property
    def is_sampling(self) -> bool:
        """Whether processed frames may stay without an answer."""
        return self.every_nth_frame > 1 or self.on_change_only

    def check_answers(self, prompts: Prompts) -> None:
        """Check that a frame with these prompts will be answered.

        Raises:
            ValueError: The session leaves frames out, and no prompt forbids that.
        """
        if self.is_sampling and not prompts:
            raise ValueError("a session that leaves frames out cannot wait for each: use stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of a request, as callers give them."""

    points: Sequence[PointLike] = ()
    boxes: Sequence[BoxLike] = ()
    masks: Sequence[MaskPrompt] = ()
    texts: Sequence[Text | str] = ()

    def messages(self) -> list[prompt_pb2.Prompt]:
        """Return the messages; errors as of `prompt_messages`."""
        return prompt_messages(self.points, self.boxes, self.masks, self.texts)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.points or self.boxes or self.masks or self.texts)


@dataclass(frozen=True, slots=True)
class FrameDraft:
    """A frame that is ready to be sent but for its numbers.

    Attributes:
        message: The frame; its `frame_id` is filled in when it is submitted.
        frame_id: Its number at the source; None counts on.
    """

    message: realtime_pb2.SessionFrame
    frame_id: int | None


def session_config(arguments: SessionArguments) -> realtime_pb2.SessionConfig:
    """Return the config of a session.

    Raises:
        ValueError: A number is none that the message can hold.
    """
    config = realtime_pb2.SessionConfig(
        model=arguments.model,
        mask_options=mask_pb2.MaskOptions(
            encoding=to_wire(mask_pb2.MaskEncoding, arguments.encoding),
            return_multiple_masks=arguments.return_multiple_masks,
            max_masks=arguments.max_masks,
            include_scores=arguments.include_scores,
            include_boxes=arguments.include_boxes,
            include_logits=arguments.include_logits,
        ),
        drop_policy=to_wire(realtime_pb2.DropPolicy, arguments.drop_policy),
        sampling=realtime_pb2.ResponseSampling(
            every_nth_frame=arguments.every_nth_frame,
            on_change_only=arguments.on_change_only,
            change_iou_threshold=arguments.change_iou_threshold,
        ),
        mask_delta=realtime_pb2.MaskDelta(
            mark_unchanged=arguments.mark_unchanged, crop_to_box=arguments.crop_to_box
        ),
        max_objects=arguments.max_objects,
        held_frames=arguments.held_frames,
        postprocess=postprocess_message(arguments.postprocess),
    )
    if arguments.heartbeat_interval_s is not None:
        config.heartbeat_interval.FromTimedelta(timedelta(seconds=arguments.heartbeat_interval_s))
    if arguments.resume_from is not None:
        config.resume_seed = arguments.resume_from.data
    return config


def frame_draft(
    frame: FrameInput,
    prompts: Prompts,
    jpeg_quality: int | None,
    *,
    frame_id: int | None = None,
    capture_time: datetime | None = None,
) -> FrameDraft:
    """Return a frame to send; its picture is read and encoded here.

    Args:
        frame: The frame, or just its picture.
        prompts: Prompts on it.
        jpeg_quality: For arrays and PIL images; None sends them as PNG.
        frame_id: Its number, if not the frame's own.
        capture_time: When it was captured, if not as the frame says.

    Raises:
        OSError: A file cannot be read.
        TypeError: The picture or a prompt is of a kind that is not taken.
        ValueError: An array has the wrong shape, or a time has no time zone.
    """
    if not isinstance(frame, Frame):
        frame = Frame(frame)
    captured = capture_time if capture_time is not None else frame.capture_time
    message = realtime_pb2.SessionFrame(
        image=_image_source(frame.image, jpeg_quality),
        capture_time=_timestamp(captured) if captured is not None else None,
        prompts=prompts.messages(),
    )
    return FrameDraft(message, frame_id if frame_id is not None else frame.frame_id)


def prompts_message(
    prompts: Prompts, frame_id: int | None, *, replace: bool
) -> realtime_pb2.SessionPrompts:
    """Return prompts on a frame that was sent before; errors as of `prompt_messages`."""
    return realtime_pb2.SessionPrompts(
        prompts=prompts.messages(), frame_id=frame_id, replace=replace
    )


def seed_result(message: realtime_pb2.SessionSeed) -> SessionSeed:
    """Return a seed."""
    return SessionSeed(data=message.seed, last_sequence=message.last_sequence)


def drain_notice_result(message: realtime_pb2.DrainNotice) -> DrainNotice:
    """Return a drain notice."""
    return DrainNotice(
        end_time=message.end_time.ToDatetime(UTC) if message.HasField("end_time") else None,
        reason=message.reason,
        seed=seed_result(message.seed) if message.HasField("seed") else None,
    )


def capture_time(message: realtime_pb2.SessionFrameResult) -> datetime | None:
    """Return when the frame of a result was captured, as far as it was said."""
    if not message.HasField("capture_time"):
        return None
    return message.capture_time.ToDatetime(UTC)


def heartbeat_result(message: realtime_pb2.SessionHeartbeat) -> Heartbeat:
    """Return a heartbeat."""
    return Heartbeat(
        frames_received=message.frames_received,
        frames_answered=message.frames_answered,
        frames_dropped=message.frames_dropped,
    )


def dropped_frames(
    messages: Collection[realtime_pb2.DroppedFrame],
) -> tuple[DroppedFrame, ...]:
    """Return the frames that have no answer of their own."""
    return tuple(
        DroppedFrame(
            sequence=message.sequence,
            frame_id=message.frame_id,
            reason=from_wire(realtime_pb2.DropReason.DESCRIPTOR, DropReason, message.reason)
            or DropReason.UNSPECIFIED,
        )
        for message in messages
    )


def _image_source(image: ImageInput, jpeg_quality: int | None) -> image_pb2.ImageSource:
    """Return a picture's source without hashing what is certainly new."""
    if isinstance(image, np.ndarray | Image.Image) and jpeg_quality is not None:
        return image_pb2.ImageSource(data=encode_image(image, "jpeg", quality=jpeg_quality))
    if isinstance(image, bytes) and image:
        return image_pb2.ImageSource(data=image)
    source = load_image(image)
    return bytes_source(source) if isinstance(source, EncodedImage) else reference_source(source)


def _timestamp(moment: datetime) -> Timestamp:
    if moment.tzinfo is None:
        raise ValueError("capture_time needs a time zone")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
