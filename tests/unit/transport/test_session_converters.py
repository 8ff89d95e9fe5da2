"""Sessions on the wire: every request, every answer, and the seed there and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

from maskwire.v1 import (
    image_pb2,
    mask_pb2,
    prompt_pb2,
    realtime_pb2,
    session_snapshot_pb2,
)
from maskwire_server.domain.concept_tracking import SoughtConcept
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.masks import EncodedRle, MaskEncoding
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.rle import encode_rle
from maskwire_server.domain.segmentation import (
    ImageInfo,
    InlineImage,
    MaskOptions,
    ScoreKind,
    SegmentedMask,
    Timings,
)
from maskwire_server.domain.sessions.messages import (
    Acknowledgement,
    BadRequest,
    ClearPrompts,
    DrainNotice,
    DroppedFrame,
    DropPolicy,
    DropReason,
    EndSession,
    ExportSeed,
    FrameCounts,
    FrameResult,
    Heartbeat,
    NewFrame,
    NewPrompts,
    ProcessedFrame,
    Refusal,
    RemoveObjects,
    ResetSession,
    ResponseSampling,
    SessionConfig,
    SessionEnded,
    SessionRequest,
    SessionResponse,
    SessionStarted,
    SetPaused,
    Snapshot,
    SnapshotObject,
    StartSession,
)
from maskwire_server.domain.tracked_masks import MaskDelta, ObjectState, TrackedMask
from maskwire_server.transport.converters.session_seeds import (
    config_with_seed,
    seed_to_proto,
    snapshot_from_seed,
)
from maskwire_server.transport.converters.sessions import (
    session_config_from_proto,
    session_content_from_proto,
    session_requests_from_proto,
    session_response_to_proto,
)
from maskwire_server.transport.validation import RequestValidator

VALIDATOR = RequestValidator()
SIZE = ImageSize(width_px=6, height_px=4)

configs = st.builds(
    SessionConfig,
    model=st.sampled_from(["m", "n"]),
    mask_options=st.builds(
        MaskOptions,
        encoding=st.sampled_from(MaskEncoding),
        return_multiple_masks=st.booleans(),
        max_masks=st.integers(1, 32),
        include_scores=st.booleans(),
        include_boxes=st.booleans(),
        include_logits=st.booleans(),
    ),
    drop_policy=st.sampled_from(DropPolicy),
    sampling=st.builds(
        ResponseSampling,
        every_nth_frame=st.integers(1, 9),
        on_change_only=st.booleans(),
        change_iou_threshold=st.sampled_from([0.0, 0.5, 1.0]),
    ),
    mask_delta=st.builds(MaskDelta, st.booleans(), st.booleans()),
    max_objects=st.one_of(st.none(), st.integers(1, 1024)),
    held_frames=st.integers(0, 64),
    heartbeat_interval_s=st.sampled_from([None, 1.0, 2.5]),
    postprocess=st.builds(
        PostprocessOptions,
        max_hole_area_px=st.integers(0, 9),
        min_score=st.sampled_from([None, 0.0, 0.5]),
        coarse_masks=st.booleans(),
    ),
)


def snapshot(config: SessionConfig) -> Snapshot:
    bitmap = np.zeros((4, 6), np.bool_)
    bitmap[1:3, 2:5] = True
    return Snapshot(
        model="m",
        checkpoint_digest="sha256:1",
        tenant="t",
        config=config,
        last_sequence=9,
        frame_size=SIZE,
        next_object_id=8,
        frames=(b"older", b"latest"),
        objects=(
            SnapshotObject(7, 1, EncodedRle(encode_rle(bitmap), SIZE), is_visible=True),
            SnapshotObject(2, 0, EncodedRle(encode_rle(bitmap), SIZE), is_visible=False),
            SnapshotObject(5, 1, EncodedRle(encode_rle(bitmap), SIZE), True, "red disc", 0.75),
        ),
        sought=(SoughtConcept("red disc", 0.25), SoughtConcept("wheel", None, 6)),
    )


@given(configs)
def test_a_seed_there_and_back(config: SessionConfig) -> None:
    made = snapshot(config)
    message = seed_to_proto(made)
    assert message.last_sequence == 9
    seed = snapshot_from_seed(message.seed, VALIDATOR)
    assert seed.snapshot(session_config_from_proto(seed.message.config)) == made


@given(configs)
def test_what_a_config_leaves_unset_is_as_the_seed_has_it(config: SessionConfig) -> None:
    seed = snapshot_from_seed(seed_to_proto(snapshot(config)).seed, VALIDATOR)
    asked = realtime_pb2.SessionConfig(
        drop_policy=realtime_pb2.DROP_POLICY_LATEST_ONLY,
        mask_options=mask_pb2.MaskOptions(max_masks=5),
    )
    merged = session_config_from_proto(config_with_seed(asked, seed.message))
    assert merged.drop_policy is DropPolicy.LATEST_ONLY
    assert merged.mask_options == MaskOptions(max_masks=5)
    assert merged.sampling == config.sampling
    assert (merged.model, merged.held_frames) == (config.model, config.held_frames)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"",
        session_snapshot_pb2.SessionSnapshot(version=2).SerializeToString(),
        session_snapshot_pb2.SessionSnapshot(
            version=1, objects=[session_snapshot_pb2.SnapshotObject(object_id=0)]
        ).SerializeToString(),
    ],
    ids=["no message", "empty", "another version", "breaks a rule"],
)
def test_what_is_no_seed_is_refused(data: bytes) -> None:
    with pytest.raises(MaskwireError) as failure:
        snapshot_from_seed(data, VALIDATOR)
    assert failure.value.code is ErrorCode.SEED_REFUSED


def content(**message: Any) -> object:
    return session_content_from_proto(
        realtime_pb2.RunSessionRequest(sequence=1, **message), VALIDATOR
    )


def test_requests() -> None:
    click = prompt_pb2.Prompt(point=prompt_pb2.PointPrompt())
    frame = realtime_pb2.SessionFrame(image=image_pb2.ImageSource(data=b"x"), frame_id=3)
    frame.capture_time.seconds, frame.capture_time.nanos = 2, 5
    assert content(frame=frame) == NewFrame(InlineImage(b"x"), 3, 2_000_000_005, ())
    prompts = content(prompts=realtime_pb2.SessionPrompts(prompts=[click], replace=True))
    assert isinstance(prompts, NewPrompts)
    assert (prompts.frame_id, prompts.replace, len(prompts.prompts)) == (None, True, 1)
    assert content(config=realtime_pb2.SessionConfig()) == StartSession(SessionConfig())


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ({"remove_objects": {"object_ids": [3, 1]}}, RemoveObjects((3, 1))),
        ({"clear_prompts": {}}, ClearPrompts(())),
        ({"set_paused": {"paused": True}}, SetPaused(paused=True)),
        ({"reset": {}}, ResetSession()),
        ({"export_seed": {}}, ExportSeed()),
        ({"end": {}}, EndSession()),
    ],
)
def test_controls(control: dict[str, Any], expected: object) -> None:
    assert content(control=realtime_pb2.SessionControl(**control)) == expected


async def test_a_request_that_breaks_a_rule_takes_its_place_among_the_others() -> None:
    async def messages() -> AsyncIterator[realtime_pb2.RunSessionRequest]:
        yield realtime_pb2.RunSessionRequest(sequence=4, frame=realtime_pb2.SessionFrame())
        end = realtime_pb2.SessionControl(end=realtime_pb2.EndSession())
        yield realtime_pb2.RunSessionRequest(sequence=5, control=end)

    read: list[SessionRequest] = [
        request async for request in session_requests_from_proto(messages(), VALIDATOR)
    ]
    assert [request.sequence for request in read] == [4, 5]
    bad = read[0].content
    assert isinstance(bad, BadRequest)
    assert bad.error.violations[0].field == "frame.image"


def written(sequence: int, said: Any) -> realtime_pb2.RunSessionResponse:
    return session_response_to_proto(SessionResponse(sequence, said), "request")


def test_a_frame_result() -> None:
    mask = SegmentedMask(
        index=0,
        object_id=7,
        alternative=0,
        score=0.25,
        score_kind=ScoreKind.OBJECT_PRESENCE,
        stability_score=None,
        area_px=6,
        box=Box(2, 1, 5, 3),
        encoded=None,
        logits=None,
    )
    tracked = TrackedMask(mask, ObjectState.FOUND_AGAIN, True, None, False)
    processed = ProcessedFrame(
        image=ImageInfo("sha256:2", SIZE, "image/png"),
        model="m",
        checkpoint_digest="sha256:1",
        embedding_cached=True,
        timings=Timings(None, 0.0, None, 0.1, 0.2, 0.5),
    )
    dropped = DroppedFrame(3, 30, DropReason.STALE)
    result = FrameResult(
        4, 1_500_000_000, (tracked,), (dropped,), MaskOptions(include_scores=True), processed
    )
    answer = written(6, result)
    assert answer.sequence == 6
    said = answer.frame_result
    assert (said.frame_id, said.capture_time.seconds, said.capture_time.nanos) == (
        4,
        1,
        500_000_000,
    )
    assert said.masks[0].state == realtime_pb2.OBJECT_STATE_FOUND_AGAIN
    assert said.masks[0].unchanged
    assert said.masks[0].mask.score == 0.25
    assert said.dropped_frames[0].reason == realtime_pb2.DROP_REASON_STALE
    assert (said.info.request_id, said.info.embedding_cached) == ("request", True)


def test_the_other_answers() -> None:
    counts = FrameCounts(received=5, answered=3, dropped=2)
    started = SessionStarted("id", "m", "sha256:1", (7,), 4, 1, 60.0, 3600.0)
    assert list(written(1, started).started.resumed_object_ids) == [7]
    assert written(1, started).started.lease.seconds == 3600
    acknowledged = written(2, Acknowledgement(()))
    assert acknowledged.WhichOneof("message") == "acknowledgement"
    refused = written(3, Refusal(MaskwireError(ErrorCode.FRAME_NOT_HELD, "gone")))
    assert (refused.error.code, refused.error.message) == (code_pb2.NOT_FOUND, "gone")
    assert written(0, Heartbeat(counts)).heartbeat.frames_dropped == 2
    notice = written(0, DrainNotice(10.5, "why", snapshot(SessionConfig()))).drain_notice
    assert (notice.end_time.seconds, notice.reason, notice.seed.last_sequence) == (10, "why", 9)
    assert not written(0, DrainNotice(10.5, "why", None)).drain_notice.HasField("seed")
    ended = written(9, SessionEnded(counts, (DroppedFrame(8, 80, DropReason.SAMPLED_OUT),))).ended
    assert (ended.frames_received, ended.frames_answered, ended.frames_dropped) == (5, 3, 2)
    assert ended.dropped_frames[0].reason == realtime_pb2.DROP_REASON_SAMPLED_OUT
