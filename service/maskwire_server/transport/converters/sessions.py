"""What travels in a live session; the seed, which is opaque to clients, is in `session_seeds`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from maskwire.v1 import processing_pb2, realtime_pb2

from ...domain.errors import MaskwireError, invalid_field
from ...domain.sessions.messages import (
    Acknowledgement,
    BadRequest,
    ClearPrompts,
    DrainNotice,
    DroppedFrame,
    DropPolicy,
    DropReason,
    EndSession,
    ExportSeed,
    FrameResult,
    Heartbeat,
    NewFrame,
    NewPrompts,
    Refusal,
    RemoveObjects,
    RequestContent,
    ResetSession,
    ResponseSampling,
    SessionConfig,
    SessionEnded,
    SessionRequest,
    SessionResponse,
    SessionStarted,
    SetPaused,
    Snapshot,
    StartSession,
)
from ...domain.tracked_masks import MaskDelta
from ..errors import status_from_error
from ..validation import RequestValidator
from .images import image_source_from_proto
from .masks import single_pass_options_from_proto
from .processing import duration_to_proto, processing_info_to_proto
from .prompts import prompts_from_proto
from .segmentation import mask_options_from_proto
from .session_seeds import config_with_seed, seed_to_proto, snapshot_from_seed
from .tracking import tracked_mask_to_proto

_NANOSECONDS = 1_000_000_000
_DEFAULT_HELD_FRAMES = 1
_DEFAULT_CHANGE_IOU = 0.98

_DROP_POLICIES: Mapping[realtime_pb2.DropPolicy.ValueType, DropPolicy] = {
    realtime_pb2.DROP_POLICY_UNSPECIFIED: DropPolicy.PROCESS_ALL,
    realtime_pb2.DROP_POLICY_PROCESS_ALL: DropPolicy.PROCESS_ALL,
    realtime_pb2.DROP_POLICY_LATEST_ONLY: DropPolicy.LATEST_ONLY,
}
_DROP_REASONS: Mapping[DropReason, realtime_pb2.DropReason.ValueType] = {
    DropReason.STALE: realtime_pb2.DROP_REASON_STALE,
    DropReason.SAMPLED_OUT: realtime_pb2.DROP_REASON_SAMPLED_OUT,
}


async def session_requests_from_proto(
    messages: AsyncIterator[realtime_pb2.RunSessionRequest], validator: RequestValidator
) -> AsyncGenerator[SessionRequest, None]:
    """Read the requests of a session; one that breaks a rule becomes a `BadRequest` in its place.

    Args:
        messages: What the client sends.
        validator: The contract's rules, which no interceptor applies to this stream.
    """
    async for message in messages:
        content: RequestContent
        try:
            validator.check(message, message.ByteSize())
            content = session_content_from_proto(message, validator)
        except MaskwireError as error:
            content = BadRequest(error)
        yield SessionRequest(message.sequence, content, time.perf_counter())


def session_content_from_proto(
    message: realtime_pb2.RunSessionRequest, validator: RequestValidator
) -> RequestContent:
    """Read what one request says.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for what is malformed, `SEED_REFUSED` for a seed that is
            none, `UNIMPLEMENTED` for options that this version does not serve.
    """
    match message.WhichOneof("message"):
        case "config":
            return _start(message.config, validator)
        case "frame":
            return _frame(message.frame)
        case "prompts":
            return _prompts(message.prompts)
        case "control":
            return _control(message.control)
        case _:
            raise invalid_field("message", "exactly one kind of message is required")


def session_config_from_proto(message: realtime_pb2.SessionConfig) -> SessionConfig:
    """Read how a session runs, all but its seed."""
    held = message.held_frames if message.HasField("held_frames") else _DEFAULT_HELD_FRAMES
    return SessionConfig(
        model=message.model or None,
        mask_options=mask_options_from_proto(message.mask_options),
        drop_policy=_DROP_POLICIES[message.drop_policy],
        sampling=_sampling(message.sampling),
        mask_delta=MaskDelta(
            mark_unchanged=message.mask_delta.mark_unchanged,
            crop_to_box=message.mask_delta.crop_to_box,
        ),
        max_objects=message.max_objects if message.HasField("max_objects") else None,
        held_frames=held,
        heartbeat_interval_s=(
            _seconds(message.heartbeat_interval) if message.HasField("heartbeat_interval") else None
        ),
        postprocess=single_pass_options_from_proto(
            message.postprocess, "config.postprocess", "send it single frames"
        ),
    )


def session_response_to_proto(
    response: SessionResponse, request_id: str
) -> realtime_pb2.RunSessionResponse:
    """Write what the server says.

    Args:
        response: What it says.
        request_id: Identifier of the call, for errors and processing information.
    """
    message = realtime_pb2.RunSessionResponse(sequence=response.sequence)
    match response.content:
        case SessionStarted() as started:
            message.started.CopyFrom(_started(started))
        case FrameResult() as result:
            message.frame_result.CopyFrom(_frame_result(result, request_id))
        case Acknowledgement(object_ids):
            message.acknowledgement.object_ids.extend(object_ids)
            message.acknowledgement.SetInParent()
        case Refusal(error):
            message.error.CopyFrom(status_from_error(error, request_id))
        case Heartbeat(counts):
            message.heartbeat.SetInParent()
            message.heartbeat.frames_received = counts.received
            message.heartbeat.frames_answered = counts.answered
            message.heartbeat.frames_dropped = counts.dropped
        case DrainNotice() as notice:
            message.drain_notice.CopyFrom(_drain_notice(notice))
        case Snapshot() as snapshot:
            message.seed.CopyFrom(seed_to_proto(snapshot))
        case SessionEnded() as ended:
            message.ended.CopyFrom(_ended(ended))
    return message


def _start(message: realtime_pb2.SessionConfig, validator: RequestValidator) -> StartSession:
    if not message.resume_seed:
        return StartSession(session_config_from_proto(message))
    seed = snapshot_from_seed(message.resume_seed, validator)
    config = session_config_from_proto(config_with_seed(message, seed.message))
    return StartSession(config, seed.snapshot(session_config_from_proto(seed.message.config)))


def _frame(message: realtime_pb2.SessionFrame) -> NewFrame:
    time_sent = message.capture_time if message.HasField("capture_time") else None
    return NewFrame(
        image=image_source_from_proto(message.image, "frame.image"),
        frame_id=message.frame_id,
        capture_time_ns=(
            None if time_sent is None else time_sent.seconds * _NANOSECONDS + time_sent.nanos
        ),
        prompts=prompts_from_proto(message.prompts, "frame.prompts"),
    )


def _prompts(message: realtime_pb2.SessionPrompts) -> NewPrompts:
    return NewPrompts(
        prompts=prompts_from_proto(message.prompts, "prompts.prompts"),
        frame_id=message.frame_id if message.HasField("frame_id") else None,
        replace=message.replace,
    )


_CONTROLS: Mapping[str, Callable[[Any], RequestContent]] = {
    "remove_objects": lambda control: RemoveObjects(tuple(control.object_ids)),
    "clear_prompts": lambda control: ClearPrompts(tuple(control.object_ids)),
    "set_paused": lambda control: SetPaused(control.paused),
    "reset": lambda _: ResetSession(),
    "export_seed": lambda _: ExportSeed(),
    "end": lambda _: EndSession(),
}


def _control(message: realtime_pb2.SessionControl) -> RequestContent:
    name = message.WhichOneof("control")
    if name is None:
        raise invalid_field("control", "exactly one control is required")
    return _CONTROLS[name](getattr(message, name))


def _sampling(message: realtime_pb2.ResponseSampling) -> ResponseSampling:
    threshold = message.change_iou_threshold
    return ResponseSampling(
        every_nth_frame=message.every_nth_frame if message.HasField("every_nth_frame") else 1,
        on_change_only=message.on_change_only,
        change_iou_threshold=(
            threshold if message.HasField("change_iou_threshold") else _DEFAULT_CHANGE_IOU
        ),
    )


def _started(started: SessionStarted) -> realtime_pb2.SessionStarted:
    return realtime_pb2.SessionStarted(
        session_id=started.session_id,
        model=processing_pb2.ModelReference(
            model=started.model, checkpoint_digest=started.checkpoint_digest
        ),
        resumed_object_ids=started.resumed_object_ids,
        max_objects=started.max_objects,
        held_frames=started.held_frames,
        idle_timeout=duration_to_proto(started.idle_timeout_s),
        lease=duration_to_proto(started.lease_s),
    )


def _frame_result(result: FrameResult, request_id: str) -> realtime_pb2.SessionFrameResult:
    processed = result.processed
    return realtime_pb2.SessionFrameResult(
        frame_id=result.frame_id,
        capture_time=(
            None if result.capture_time_ns is None else _timestamp(result.capture_time_ns)
        ),
        masks=(
            []
            if processed is None
            else [
                tracked_mask_to_proto(mask, result.mask_options, processed.image.size)
                for mask in result.masks
            ]
        ),
        dropped_frames=[_dropped_frame(frame) for frame in result.dropped_frames],
        info=None if processed is None else processing_info_to_proto(processed, request_id),
    )


def _dropped_frame(frame: DroppedFrame) -> realtime_pb2.DroppedFrame:
    return realtime_pb2.DroppedFrame(
        sequence=frame.sequence, frame_id=frame.frame_id, reason=_DROP_REASONS[frame.reason]
    )


def _drain_notice(notice: DrainNotice) -> realtime_pb2.DrainNotice:
    return realtime_pb2.DrainNotice(
        end_time=_timestamp(round(notice.end_time_s * _NANOSECONDS)),
        reason=notice.reason,
        seed=None if notice.seed is None else seed_to_proto(notice.seed),
    )


def _ended(ended: SessionEnded) -> realtime_pb2.SessionEnded:
    return realtime_pb2.SessionEnded(
        frames_received=ended.counts.received,
        frames_answered=ended.counts.answered,
        frames_dropped=ended.counts.dropped,
        dropped_frames=[_dropped_frame(frame) for frame in ended.dropped_frames],
    )


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, _NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / _NANOSECONDS
