"""`TrackVideo` on a running server with the embedded default, on clips made from photographs."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import av
import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    mask_pb2,
    model_pb2,
    model_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)
from maskwire_server.domain.geometry import ImageSize
from tests.support import videos
from tests.support.clips import make_clip, write_gif, write_mp4, write_webm
from tests.support.footage import (
    DEADLINE_S,
    Footage,
    Request,
    Response,
    click_square,
    enclose,
    frames_of,
    iou,
    order_of,
    track,
    track_request,
)
from tests.support.grpc_serving import detail, reason
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess, server_process

FRAMES = 16
SIZE = ImageSize(320, 240)
MAX_FRAMES = 400
"""So many that a client which is held up for seconds still cancels a call in its first half."""
LEAST_IOU = 0.5
FORWARD = video_pb2.TRACK_DIRECTION_FORWARD
BACKWARD = video_pb2.TRACK_DIRECTION_BACKWARD
BOTH = video_pb2.TRACK_DIRECTION_BOTH


@pytest.fixture(scope="module")
def nano_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("videos")
    with server_process(
        folder,
        models={"device": "cpu", "cpu_threads": 1},
        storage={"folder": str(folder / "files")},
        video={"max_frames": MAX_FRAMES, "max_frame_pixels": 1 << 20, "max_streams": 2},
    ) as process:
        yield process


@pytest.fixture(scope="module")
def stub(nano_server: ServerProcess) -> Iterator[Any]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(nano_server.address, options=options) as channel:
        yield video_pb2_grpc.VideoServiceStub(channel)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    folder = tmp_path_factory.mktemp("clips")
    clip = make_clip(1, FRAMES, SIZE, objects=2)
    return Footage(
        clip,
        write_mp4(clip, folder / "clip.mp4").read_bytes(),
        write_webm(clip, folder / "clip.webm", codec="libvpx").read_bytes(),
        write_gif(clip, folder / "clip.gif").read_bytes(),
    )


@pytest.mark.parametrize("container", ["mp4", "webm", "gif"])
def test_an_object_is_followed_to_the_end(stub, footage, container):
    request = track_request(footage)
    request.video.data = getattr(footage, container)
    responses = track(stub, request)
    assert [response.WhichOneof("message") for response in responses] == [
        "video",
        *["frame"] * FRAMES,
        "summary",
    ]
    info = responses[0].video
    assert (info.size.width_px, info.size.height_px, info.frame_count) == (320, 240, FRAMES)
    assert info.digest == f"sha256:{hashlib.sha256(request.video.data).hexdigest()}"
    assert order_of(responses) == list(range(FRAMES))
    overlaps = [
        iou(frame.masks[0], footage.clip.masks[frame.frame_index][1])
        for frame in frames_of(responses)
    ]
    assert float(np.mean(overlaps)) > LEAST_IOU, overlaps
    progress = [(one.progress.frames_done, one.progress.frames_total) for one in responses]
    assert progress == [(0, FRAMES), *[(n + 1, FRAMES) for n in range(FRAMES)], (FRAMES, FRAMES)]
    summary = responses[-1].summary
    assert summary.info.models[0].model == "maskwire-nano"
    assert summary.info.request_id
    assert summary.info.timings.total.ToNanoseconds() > 0
    assert not summary.HasField("decode_error")
    assert not summary.HasField("overlay_video")


@pytest.mark.parametrize(
    ("direction", "order"),
    [
        (FORWARD, [8, 10, 12]),
        (BACKWARD, [8, 6, 4]),
        (BOTH, [8, 10, 12, 6, 4]),
    ],
)
def test_directions_ranges_and_strides(stub, footage, direction, order):
    request = track_request(footage, 8, direction=direction)
    request.frame_range.start_frame, request.frame_range.end_frame = 4, 13
    request.frame_range.stride = 2
    responses = track(stub, request)
    assert order_of(responses) == order
    assert responses[-1].progress.frames_total == len(order)
    overlaps = [
        iou(frame.masks[0], footage.clip.masks[frame.frame_index][1])
        for frame in frames_of(responses)
    ]
    assert float(np.mean(overlaps)) > LEAST_IOU, overlaps
    times = [frame.presentation_time.ToMilliseconds() for frame in frames_of(responses)]
    assert times == pytest.approx([index * 1000 / 12 for index in order], abs=1)


def test_an_object_may_begin_in_the_middle(stub, footage):
    request = track_request(footage, 2)
    enclose(request, footage.clip, 2, 7)
    found = frames_of(track(stub, request))
    ids = [[mask.mask.object_id for mask in frame.masks] for frame in found]
    assert ids == [[1]] * 5 + [[1, 2]] * (FRAMES - 7)
    assert [frame.masks[1].is_new for frame in found[5:7]] == [True, False]
    assert iou(found[5].masks[1], footage.clip.masks[7][2]) > LEAST_IOU


def test_masks_come_as_they_are_asked_for(stub, footage):
    request = track_request(footage)
    request.frame_range.end_frame = 2
    request.mask_options.encoding = mask_pb2.MASK_ENCODING_POLYGONS
    request.mask_options.include_scores = True
    request.mask_options.include_boxes = True
    request.mask_options.include_logits = True
    [first, _] = frames_of(track(stub, request))
    mask = first.masks[0].mask
    assert mask.mask.WhichOneof("encoding") == "polygons"
    assert mask.score_kind == mask_pb2.SCORE_KIND_OBJECT_PRESENCE
    assert mask.HasField("normalized_box")
    assert mask.HasField("logits")


@pytest.mark.parametrize("direction", [FORWARD, BOTH])
def test_the_overlay_video_has_every_answered_frame(stub, footage, direction):
    request = track_request(footage, 5, direction=direction, render_overlay=True)
    responses = track(stub, request)
    content = responses[-1].summary.overlay_video
    assert (content.content_type, content.file_name) == ("video/mp4", "overlay.mp4")
    with av.open(io.BytesIO(content.data), "r") as container:
        assert container.streams.video[0].codec_context.name == "h264"
        shown = list(container.decode(video=0))
    assert len(shown) == len(order_of(responses))
    assert (shown[0].width, shown[0].height) == (320, 240)


def test_a_video_may_be_uploaded_and_its_overlay_stored(nano_server, stub, footage):
    with grpc.insecure_channel(nano_server.address) as channel:
        files = file_pb2_grpc.FileServiceStub(channel)
        name = upload(files, footage.mp4)
        request = track_request(footage, render_overlay=True)
        request.video.uri = name
        request.delivery = file_pb2.DELIVERY_STORED_FILE
        responses = track(stub, request)
        stored = responses[-1].summary.overlay_video.file
        wanted = file_pb2.DownloadFileRequest(name=stored.name)
        chunks = files.DownloadFile(wanted, timeout=DEADLINE_S)
        data = b"".join(one.chunk for one in chunks)
    assert order_of(responses) == list(range(FRAMES))
    assert stored.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    with av.open(io.BytesIO(data), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


def upload(files: Any, data: bytes) -> str:
    description = file_pb2.UploadDescription(
        upload_id=str(uuid.uuid4()),
        content_type="video/mp4",
        size_bytes=len(data),
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
    )
    messages = [
        file_pb2.UploadFileRequest(description=description),
        *(
            file_pb2.UploadFileRequest(chunk=data[start : start + (1 << 20)])
            for start in range(0, len(data), 1 << 20)
        ),
    ]
    return str(files.UploadFile(iter(messages), timeout=DEADLINE_S).file.name)


def test_cancelling_frees_the_device_and_the_place(nano_server, stub, footage):
    already = tracked_frames(nano_server)
    request = track_request(footage)
    request.video.data = videos.encode_video([videos.picture(0)] * MAX_FRAMES)
    click_square(request)
    for _ in range(3):  # more than there are places
        call = stub.TrackVideo(request, timeout=DEADLINE_S)
        assert [one.WhichOneof("message") for one in islice(call, 3)] == ["video", "frame", "frame"]
        call.cancel()
        wait_for_no_videos(nano_server)
    before = tracked_frames(nano_server)
    assert before - already < 3 * MAX_FRAMES / 2, "calls end soon after they are cancelled"
    assert order_of(track(stub, track_request(footage))) == list(range(FRAMES))
    assert tracked_frames(nano_server) == before + FRAMES, "nothing else runs any more"


def tracked_frames(server: ServerProcess) -> float:
    return scraped(server.metrics_port, "maskwire_stage_seconds_count", "track", "maskwire-nano")


def wait_for_no_videos(server: ServerProcess) -> None:
    while scraped(server.metrics_port, "maskwire_videos"):
        pass


def failed(stub: Any, request: Request) -> tuple[list[Response], Any]:
    """What came before a call failed, and the error."""
    received: list[Response] = []
    call = stub.TrackVideo(request, timeout=DEADLINE_S)
    with pytest.raises(grpc.RpcError) as raised:
        received.extend(iterate(call, received))
    return received, raised.value


def iterate(call: Any, received: list[Response]) -> list[Response]:
    for response in call:
        received.append(response)  # noqa: PERF402  # what came before the error counts
    return []


def test_a_file_that_is_cut_off_gives_its_frames_the_summary_and_data_loss(stub, footage):
    whole = videos.squares_video(30)
    request = track_request(footage, render_overlay=True)
    request.video.data = videos.cut_in_data(videos.index_first(whole), 0.6)
    click_square(request)
    responses, error = failed(stub, request)
    assert error.code() is grpc.StatusCode.DATA_LOSS
    assert reason(error) == "DATA_LOSS"
    assert [one.WhichOneof("message") for one in responses] == [
        "video",
        *["frame"] * (len(responses) - 2),
        "summary",
    ]
    assert 5 < len(responses) < 30
    summary = responses[-1].summary
    assert summary.decode_error.code == grpc.StatusCode.DATA_LOSS.value[0]
    assert summary.decode_error.message == error.details()
    assert summary.overlay_video.data
    assert responses[-1].progress.frames_total == 30


Change = Callable[[Request], None]


def _video(data: bytes) -> Change:
    def change(request: Request) -> None:
        request.video.data = data

    return change


def _uri(uri: str) -> Change:
    def change(request: Request) -> None:
        request.video.uri = uri

    return change


def _range(start: int = 0, end: int | None = None, stride: int | None = None) -> Change:
    def change(request: Request) -> None:
        chosen = video_pb2.FrameRange(start_frame=start, end_frame=end, stride=stride)
        request.frame_range.CopyFrom(chosen)

    return change


def _set(**fields: Any) -> Change:
    def change(request: Request) -> None:
        request.MergeFrom(Request(**fields))

    return change


def _no_prompts(request: Request) -> None:
    del request.prompts[:]


def _frame_index(index: int) -> Change:
    def change(request: Request) -> None:
        request.prompts[0].frame_index = index

    return change


def _outside(request: Request) -> None:
    request.prompts.add().point.point.x = SIZE.width_px


def _text(request: Request) -> None:
    request.prompts[0].text.text = "wheel"


def _refine(request: Request) -> None:
    request.postprocess.refine = True


INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ROWS: dict[str, tuple[Change, grpc.StatusCode, str]] = {
    "no video": (_video(b""), INVALID, "video.data"),
    "garbage": (_video(b"not a video" * 99), INVALID, "video.data"),
    "a picture": (_video(b"\x89PNG\r\n\x1a\n" + bytes(99)), INVALID, "video.data"),
    "MP4 without an index": (_video(videos.squares_video(9)[:-600]), INVALID, "video.data"),
    "too many frames": (
        _video(videos.encode_video([np.zeros((32, 32, 3), np.uint8)] * (MAX_FRAMES + 1))),
        INVALID,
        "video.data",
    ),
    "too large frames": (
        _video(videos.encode_video([np.zeros((1200, 1600, 3), np.uint8)])),
        INVALID,
        "video.data",
    ),
    "GIF of 60,000 x 60,000": (
        _video(b"GIF89a" + b"\x60\xea\x60\xea" + bytes(3) + b";"),
        INVALID,
        "video.data",
    ),
    "a web address": (_uri("https://localhost/a.mp4"), PRECONDITION, ""),
    "a path": (_uri("/etc/passwd"), PRECONDITION, ""),
    "a file that is not held": (_uri("files/" + "0" * 32), NOT_FOUND, ""),
    "no prompts": (_no_prompts, INVALID, "prompts"),
    "prompt past the end": (_frame_index(FRAMES), INVALID, "prompts[0].frame_index"),
    "prompt before the range": (_range(start=3), INVALID, "prompts[0].frame_index"),
    "prompt between strides": (
        lambda request: (_frame_index(3)(request), _range(stride=2)(request))[0],
        INVALID,
        "prompts[0].frame_index",
    ),
    "range past the end": (_range(start=FRAMES), INVALID, "frame_range.start_frame"),
    "range that ends before it starts": (_range(5, 5), INVALID, "frame_range.end_frame"),
    "stride 0": (_range(stride=0), INVALID, "frame_range.stride"),
    "direction 9": (_set(direction=9), INVALID, "direction"),
    "point outside": (_outside, INVALID, "prompts[1].point.point"),
    "text": (_text, PRECONDITION, ""),
    "unknown model": (_set(model="other"), NOT_FOUND, ""),
    "a second pass": (_refine, INVALID, "postprocess.refine"),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_requests_are_refused_with_field_and_rule(stub, footage, name):
    change, code, field = ROWS[name]
    request = track_request(footage)
    change(request)
    responses, error = failed(stub, request)
    assert responses == []
    assert error.code() is code, error.details()
    if field:
        violations = detail(error, error_details_pb2.BadRequest).field_violations
        assert violations[0].field == field


def test_get_model_says_that_it_tracks(nano_server):
    with grpc.insecure_channel(nano_server.address) as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        model = models.GetModel(model_pb2.GetModelRequest(), timeout=DEADLINE_S).model
    assert model_pb2.CAPABILITY_TRACK_VIDEO in model.capabilities
