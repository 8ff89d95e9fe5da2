"""The blocking client's calls that stream: sessions and stored video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from maskwire.v1 import realtime_pb2_grpc, video_pb2_grpc

from ._configuration import Configuration, new_request_id
from ._session import Session
from ._session_core import Request, SessionCore
from ._session_messages import DEFAULT_JPEG_QUALITY, DEFAULT_WINDOW, SessionArguments
from ._targets import TargetChannels
from ._tracing import traced
from ._video import VideoTrack
from ._video_messages import VideoArguments, track_video_request
from .options import Delivery, MaskEncoding, Postprocess
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .sessions import DropPolicy, Reconnect, SessionSeed
from .videos import TrackDirection, VideoInput


def open_channel(configuration: Configuration, target: str) -> grpc.Channel:
    """Return a channel to a target with a client's options and credentials."""
    if configuration.tls is None:
        return traced(grpc.insecure_channel(target, options=configuration.options))
    credentials = configuration.tls.credentials()
    return traced(grpc.secure_channel(target, credentials, options=configuration.options))


class SessionConnector:
    """Opens a session's streams to the client's own target and to those of `Reconnect`."""

    def __init__(
        self,
        configuration: Configuration,
        channel: grpc.Channel,
        targets: Sequence[str],
        request_id: str,
    ) -> None:
        self._channels = TargetChannels(
            channel, targets, lambda target: open_channel(configuration, target)
        )
        self._metadata = configuration.call_metadata(request_id)

    def open(self, target_index: int, requests: Iterator[Request]) -> Any:
        """Return a new call of `RunSession` that sends these requests."""
        stub = realtime_pb2_grpc.RealtimeServiceStub(self._channels[target_index])
        return stub.RunSession(requests, metadata=self._metadata)

    def close(self) -> None:
        """Close the channels that were opened for the session."""
        for channel in self._channels.take_others():
            channel.close()


class StreamingCalls:
    """The part of `Client` that streams."""

    _configuration: Configuration
    _channel: grpc.Channel

    def open_session(
        self,
        *,
        model: str = "",
        encoding: MaskEncoding = MaskEncoding.COCO_RLE,
        drop_policy: DropPolicy = DropPolicy.PROCESS_ALL,
        every_nth_frame: int = 1,
        on_change_only: bool = False,
        change_iou_threshold: float | None = None,
        mark_unchanged: bool = False,
        crop_to_box: bool = False,
        max_objects: int | None = None,
        held_frames: int | None = None,
        heartbeat_interval_s: float | None = None,
        include_scores: bool = True,
        include_boxes: bool = False,
        include_logits: bool = False,
        return_multiple_masks: bool = False,
        max_masks: int | None = None,
        postprocess: Postprocess | None = None,
        resume_from: SessionSeed | None = None,
        reconnect: Reconnect | None = None,
        window: int = DEFAULT_WINDOW,
        jpeg_quality: int | None = DEFAULT_JPEG_QUALITY,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Session:
        """Open a session: one still image prompted again and again, or a live video.

        Args:
            model: Name of the model; empty is the server's default.
            encoding: Form of the masks on the wire.
            drop_policy: What happens to frames that come too fast.
            every_nth_frame: Answer every n-th frame only.
            on_change_only: Answer only when a mask changed.
            change_iou_threshold: Below this IoU a mask counts as changed, 0 to 1; None means 0.98.
            mark_unchanged: Let the server send a marker instead of a mask that equals the last one;
                results hold the mask all the same.
            crop_to_box: Let the server send masks cropped; results hold them at full size.
            max_objects: Most objects at a time; None is the server's limit.
            held_frames: Frames before the latest one that prompts may refer to; None means 1.
            heartbeat_interval_s: Let the server say every so often that it is alive; None: never.
            include_scores: Return the masks' scores.
            include_boxes: Return normalized boxes besides the pixel boxes.
            include_logits: Return logits, to refine from with `MaskPrompt`.
            return_multiple_masks: Return alternatives right after prompts, best first.
            max_masks: Most alternatives, 1 to 32; None means 3.
            postprocess: What to change in the masks first.
            resume_from: Go on with the objects of another session.
            reconnect: Go on by itself where the connection is lost, and how; None: the session
                fails then.
            window: Most frames that `stream` and `send` have sent and nobody has collected.
            jpeg_quality: Quality, 1 to 95, at which arrays and PIL images are sent; None sends them
                as PNG, without loss and slowly. Files and bytes are sent as they are.
            timeout_s: Seconds to wait until the session runs; None is the client's default. The
                session itself may last as long as it will.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            FailedPrecondition: The seed cannot be resumed, or the model does not track.
            ResourceExhausted: The server has no room for another session.
            MaskwireError: It cannot be opened for another reason.
            ValueError: A number is out of its range.
        """
        arguments = SessionArguments(
            model=model,
            encoding=encoding,
            drop_policy=drop_policy,
            every_nth_frame=every_nth_frame,
            on_change_only=on_change_only,
            change_iou_threshold=change_iou_threshold,
            mark_unchanged=mark_unchanged,
            crop_to_box=crop_to_box,
            max_objects=max_objects,
            held_frames=held_frames,
            heartbeat_interval_s=heartbeat_interval_s,
            include_scores=include_scores,
            include_boxes=include_boxes,
            include_logits=include_logits,
            return_multiple_masks=return_multiple_masks,
            max_masks=max_masks,
            postprocess=postprocess,
            resume_from=resume_from,
            reconnect=reconnect,
            window=window,
            jpeg_quality=jpeg_quality,
        )
        connector = SessionConnector(
            self._configuration,
            self._channel,
            reconnect.targets if reconnect is not None else (),
            request_id or new_request_id(),
        )
        session = Session(SessionCore(arguments), connector, self._configuration.deadline)
        return session.open(timeout_s)

    def track_video(
        self,
        video: VideoInput,
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        model: str = "",
        direction: TrackDirection = TrackDirection.FORWARD,
        start_frame: int = 0,
        end_frame: int | None = None,
        stride: int | None = None,
        encoding: MaskEncoding = MaskEncoding.COCO_RLE,
        include_scores: bool = True,
        include_boxes: bool = False,
        postprocess: Postprocess | None = None,
        render_overlay: bool = False,
        delivery: Delivery = Delivery.INLINE,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> VideoTrack:
        """Track the prompted objects through a stored video; iterate over what it returns.

        Args:
            video: Path or bytes of an MP4, WebM or GIF; or a URI or an uploaded file's name.
            points: Clicks, each with the `frame_index` that it is about.
            boxes: Boxes, likewise.
            masks: Masks, likewise.
            texts: Concepts in words, likewise; not every model takes them.
            model: Name of the model; empty is the server's default.
            direction: Which way through the video to go from the prompts.
            start_frame: First frame, from 0.
            end_frame: Frame after the last; None is the end of the video.
            stride: Take every n-th frame only; None takes all.
            encoding: Form of the masks on the wire.
            include_scores: Return the masks' scores.
            include_boxes: Return normalized boxes besides the pixel boxes.
            postprocess: What to change in the masks first.
            render_overlay: Also make an overlay video, which the summary holds.
            delivery: How the overlay video reaches the caller.
            timeout_s: Seconds that all of it may take; None sets no limit.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            OSError: The file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape, or a number cannot be sent.
        """
        arguments = VideoArguments(
            points=points,
            boxes=boxes,
            masks=masks,
            texts=texts,
            model=model,
            direction=direction,
            start_frame=start_frame,
            end_frame=end_frame,
            stride=stride,
            encoding=encoding,
            include_scores=include_scores,
            include_boxes=include_boxes,
            postprocess=postprocess,
            render_overlay=render_overlay,
            delivery=delivery,
        )
        request = track_video_request(video, arguments)
        identifier = request_id or new_request_id()
        call = video_pb2_grpc.VideoServiceStub(self._channel).TrackVideo(
            request, timeout=timeout_s, metadata=self._configuration.call_metadata(identifier)
        )
        return VideoTrack(call, has_masks=encoding is not MaskEncoding.NONE, request_id=identifier)
