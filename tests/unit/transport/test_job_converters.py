"""Jobs and reconstructions between messages and domain types."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict

from maskwire.v1 import (
    geometry_pb2,
    image_pb2,
    job_pb2,
    job_service_pb2,
    mask_pb2,
    prompt_pb2,
    reconstruction_pb2,
    segmentation_pb2,
    video_pb2,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.calls import CallContent
from maskwire_server.domain.jobs.job import (
    ContentReference,
    Job,
    JobEvent,
    JobFailure,
    JobKey,
    JobState,
    WebhookDelivery,
    WebhookState,
)
from maskwire_server.domain.jobs.service import JobStatus
from maskwire_server.domain.masks import MaskEncoding, encode_mask
from maskwire_server.domain.reconstruction.requests import DepthMapSource, PointMapSource
from maskwire_server.transport.converters.jobs import (
    bodies_message_to_proto,
    job_event_to_proto,
    job_filter_from_proto,
    job_to_proto,
    objects_message_to_proto,
    watch_message_to_proto,
)
from maskwire_server.transport.converters.queued_calls import (
    METHODS,
    objects_submission_from_proto,
    queued_request_from_proto,
    submission_from_proto,
)
from maskwire_server.transport.converters.reconstruction import (
    bodies_request_from_proto,
    objects_request_from_proto,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
REQUEST_ID = str(uuid.UUID(int=7))


def a_job(**changes: object) -> Job:
    values: dict[str, object] = {
        "key": JobKey("", "a" * 32),
        "method": METHODS["track_video"],
        "queue": "segmentation",
        "request_id": REQUEST_ID,
        "request_digest": "sha256:0",
        "payload": ContentReference("request-0", 1, "sha256:1"),
        "state": JobState.FAILED,
        "create_time": NOW,
        "start_time": NOW + timedelta(seconds=1),
        "end_time": NOW + timedelta(seconds=3),
        "expire_time": NOW + timedelta(days=7),
        "attempt": 3,
        "stage": "track",
        "fraction": 0.5,
        "last_event_sequence": 9,
        "failure": JobFailure(ErrorCode.DATA_LOSS, "the file is cut off"),
        "webhook": WebhookDelivery("https://a.example/", WebhookState.PENDING, 2, 503, NOW),
    }
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def test_every_field_of_a_job_is_written() -> None:
    written = MessageToDict(job_to_proto(JobStatus(a_job(), 4)), preserving_proto_field_name=True)
    error = written.pop("error")
    assert written == {
        "name": "jobs/" + "a" * 32,
        "method": "maskwire.v1.VideoService/TrackVideo",
        "state": "JOB_STATE_FAILED",
        "request_id": REQUEST_ID,
        "create_time": "2026-11-21T12:00:00.250Z",
        "start_time": "2026-11-21T12:00:01.250Z",
        "end_time": "2026-11-21T12:00:03.250Z",
        "expire_time": "2026-11-28T12:00:00.250Z",
        "attempt": 3,
        "queue_position": 4,
        "stage": "track",
        "fraction": 0.5,
        "last_event_sequence": "9",
        "webhook": {
            "state": "WEBHOOK_STATE_PENDING",
            "attempts": 2,
            "last_http_status": 503,
            "next_attempt_time": "2026-11-21T12:00:00.250Z",
        },
    }
    assert (error["code"], error["message"]) == (15, "the file is cut off")


def test_a_job_that_is_tried_again_has_no_error_yet() -> None:
    queued = job_to_proto(JobStatus(a_job(state=JobState.QUEUED), 0))
    assert not queued.HasField("error")


def test_every_state_has_its_own_value() -> None:
    written = {job_to_proto(JobStatus(a_job(state=state), 0)).state for state in JobState}
    assert written == set(job_pb2.JobState.values()) - {job_pb2.JOB_STATE_UNSPECIFIED}


def test_an_event_is_written_and_a_watcher_gets_it_or_the_job() -> None:
    event = JobEvent(5, 2, NOW, JobState.RUNNING, 0, "mesh", 0.25, "line", 1.5)
    written = job_event_to_proto(event)
    assert (written.sequence, written.attempt, written.stage) == (5, 2, "mesh")
    assert (written.fraction, written.log_line) == (0.25, "line")
    assert written.elapsed.ToTimedelta() == timedelta(seconds=1.5)
    assert watch_message_to_proto(event).event == written
    assert watch_message_to_proto(a_job()).job.name == "jobs/" + "a" * 32


def test_submitters_are_told_the_name_then_events_then_the_result_of_their_own_kind() -> None:
    result = job_service_pb2.GetJobResultResponse(
        reconstruct_objects=reconstruction_pb2.ReconstructObjectsResult(seed=3)
    ).SerializeToString()
    assert objects_message_to_proto("jobs/x").job == "jobs/x"
    assert objects_message_to_proto(result).result.seed == 3
    assert bodies_message_to_proto("jobs/x").job == "jobs/x"
    bodies = job_service_pb2.GetJobResultResponse(
        reconstruct_bodies=reconstruction_pb2.ReconstructBodiesResult(is_metric=True)
    ).SerializeToString()
    assert bodies_message_to_proto(bodies).result.is_metric


def test_a_filter_passes_over_states_that_say_nothing() -> None:
    request = job_service_pb2.ListJobsRequest(
        states=[job_pb2.JOB_STATE_UNSPECIFIED, job_pb2.JOB_STATE_RUNNING], method="m"
    )
    read = job_filter_from_proto(request)
    assert read.states == {JobState.RUNNING}
    assert not read.takes(a_job())


def objects_request(**changes: object) -> reconstruction_pb2.ReconstructObjectsRequest:
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "image": image_pb2.ImageSource(digest="sha256:" + "0" * 64),
        "prompts": [
            prompt_pb2.Prompt(point=prompt_pb2.PointPrompt(point=geometry_pb2.Point(x=1, y=2)))
        ],
        "seed": 5,
        "model": "",
    }
    return reconstruction_pb2.ReconstructObjectsRequest(**{**values, **changes})  # type: ignore[arg-type]


def test_a_request_for_objects_is_read_with_its_geometry() -> None:
    depth = reconstruction_pb2.DepthMap(
        data=b"x",
        intrinsics=geometry_pb2.CameraIntrinsics(
            focal_length_x_px=1, focal_length_y_px=2, principal_point_x_px=3, principal_point_y_px=4
        ),
    )
    read = objects_request_from_proto(objects_request(depth_map=depth))
    assert isinstance(read.geometry, DepthMapSource)
    assert read.geometry.unit_m == 0.001
    assert read.geometry.intrinsics.principal_point_y_px == 4
    assert read.geometry.source.field == "depth_map.data"
    by_name = reconstruction_pb2.PointMap(uri="files/x")
    mapped = objects_request_from_proto(objects_request(point_map=by_name))
    assert isinstance(mapped.geometry, PointMapSource)
    assert (mapped.geometry.source.uri, mapped.geometry.source.data) == ("files/x", None)
    assert objects_request_from_proto(objects_request()).geometry is None


def test_a_point_map_without_a_source_is_refused_by_name() -> None:
    request = reconstruction_pb2.ReconstructBodiesRequest(
        image=image_pb2.ImageSource(data=b"x"), point_map=reconstruction_pb2.PointMap()
    )
    with pytest.raises(MaskwireError) as refused:
        bodies_request_from_proto(request)
    assert refused.value.violations[0].field == "point_map.source"


def test_what_a_request_refers_to_is_put_into_the_payload() -> None:
    point_map = reconstruction_pb2.PointMap(uri="files/x")
    submission, _ = objects_submission_from_proto(objects_request(point_map=point_map))
    mask = encode_mask(np.eye(4, dtype=np.bool_), MaskEncoding.COCO_RLE)
    content = CallContent("inflate", b"image", (mask,), b"points")
    payload = job_service_pb2.QueuedCall.FromString(submission.message.payload(content))
    carried = payload.reconstruct_objects
    assert (carried.model, carried.image.data, carried.point_map.data) == (
        "inflate",
        b"image",
        b"points",
    )
    assert (len(carried.masks), len(carried.prompts)) == (1, 0)
    assert objects_request_from_proto(carried).masks == (mask,)


def test_a_request_that_refers_to_nothing_travels_as_it_is() -> None:
    call = job_service_pb2.QueuedCall(
        track_video=video_pb2.TrackVideoRequest(video=video_pb2.VideoSource(uri="files/v"))
    )
    submission, _ = submission_from_proto(
        job_service_pb2.SubmitJobRequest(request_id=REQUEST_ID, call=call)
    )
    payload = submission.message.payload(CallContent("nano"))
    carried = job_service_pb2.QueuedCall.FromString(payload)
    call.track_video.model = "nano"
    assert carried == call


def test_the_same_request_has_one_digest_however_it_is_submitted() -> None:
    webhook = job_pb2.Webhook(url="https://a.example/")
    direct, _ = objects_submission_from_proto(objects_request(webhook=webhook))
    queued, _ = submission_from_proto(
        job_service_pb2.SubmitJobRequest(
            request_id=REQUEST_ID,
            call=job_service_pb2.QueuedCall(reconstruct_objects=objects_request()),
            webhook=webhook,
        )
    )
    other, _ = objects_submission_from_proto(objects_request(seed=6))
    assert direct.message.digest == queued.message.digest
    assert direct.message.digest != other.message.digest
    assert direct.webhook_url == queued.webhook_url == "https://a.example/"
    assert other.webhook_url is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"request_id": str(uuid.UUID(int=8))}, "call.reconstruct_objects.request_id"),
        ({"webhook": job_pb2.Webhook(url="https://a/")}, "call.reconstruct_objects.webhook"),
    ],
)
def test_a_queued_call_must_agree_with_its_job(changes: dict[str, object], field: str) -> None:
    request = job_service_pb2.SubmitJobRequest(
        request_id=REQUEST_ID,
        call=job_service_pb2.QueuedCall(reconstruct_objects=objects_request(**changes)),
    )
    with pytest.raises(MaskwireError) as refused:
        submission_from_proto(request)
    assert refused.value.violations[0].field == field


def test_a_job_without_a_call_is_refused() -> None:
    with pytest.raises(MaskwireError) as refused:
        submission_from_proto(job_service_pb2.SubmitJobRequest(request_id=REQUEST_ID))
    assert refused.value.violations[0].field == "call.request"


def test_every_call_of_the_contract_can_be_queued() -> None:
    kinds = {field.name for field in job_service_pb2.QueuedCall.DESCRIPTOR.fields}
    assert set(METHODS) == kinds
    image = image_pb2.ImageSource(data=b"x")
    read = queued_request_from_proto(
        job_service_pb2.QueuedCall(
            auto_segment=segmentation_pb2.AutoSegmentRequest(
                image=image, mask_options=mask_pb2.MaskOptions(include_boxes=True)
            )
        )
    )
    assert type(read).__name__ == "AutoSegmentRequest"
