"""The asyncio client's calls that stream; `_client_sessions` with `await`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from maskwire.v1 import realtime_pb2_grpc, video_pb2_grpc

from ._async_session import AsyncSession
from ._async_video import AsyncVideoTrack
from ._configuration import Configuration, new_request_id
from ._session_core import Request, SessionCore
from ._session_messages import DEFAULT_JPEG_QUALITY, DEFAULT_WINDOW, SessionArguments
from ._targets import TargetChannels
from ._tracing import traced_async
from ._video_messages import VideoArguments, track_video_request
from .options import Delivery, MaskEncoding, Postprocess
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .sessions import DropPolicy, Reconnect, SessionSeed
from .videos import TrackDirection, VideoInput


def open_channel(configuration: Configuration, target: str) -> grpc.aio.Channel:
    """Return a channel to a target with a client's options and credentials."""
    if configuration.tls is None:
        return traced_async(grpc.aio.insecure_channel(target, options=configuration.options))
    credentials = configuration.tls.credentials()
    return traced_async(grpc.aio.secure_channel(target, credentials, options=configuration.options))


class AsyncSessionConnector:
    """Opens a session's streams to the client's own target and to those of `Reconnect`."""

    def __init__(
        self,
        configuration: Configuration,
        channel: grpc.aio.Channel,
        targets: Sequence[str],
        request_id: str,
    ) -> None:
        self._channels = TargetChannels(
            channel, targets, lambda target: open_channel(configuration, target)
        )
        self._metadata = configuration.call_metadata(request_id)

    def open(self, target_index: int, requests: AsyncIterator[Request]) -> Any:
        """Return a new call of `RunSession` that sends these requests."""
        stub = realtime_pb2_grpc.RealtimeServiceStub(self._channels[target_index])
        return stub.RunSession(requests, metadata=self._metadata)

    async def close(self) -> None:
        """Close the channels that were opened for the session."""
        for channel in self._channels.take_others():
            await channel.close()


class AsyncStreamingCalls:
    """The part of `AsyncClient` that streams."""

    _configuration: Configuration
    _channel: grpc.aio.Channel

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
    ) -> AsyncSession:
        """Return a session that `async with`, or awaiting it, opens; as `Client.open_session`."""
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
        connector = AsyncSessionConnector(
            self._configuration,
            self._channel,
            reconnect.targets if reconnect is not None else (),
            request_id or new_request_id(),
        )
        return AsyncSession(
            SessionCore(arguments), connector, self._configuration.deadline, timeout_s
        )

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
    ) -> AsyncVideoTrack:
        """Track the prompted objects through a stored video; as `Client.track_video`.

        The call begins when it is first awaited: iterate over it, or open it by `async with`.
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
        identifier = request_id or new_request_id()
        metadata = self._configuration.call_metadata(identifier)
        stub = video_pb2_grpc.VideoServiceStub(self._channel)

        async def begin() -> Any:
            request = await asyncio.to_thread(track_video_request, video, arguments)
            return stub.TrackVideo(request, timeout=timeout_s, metadata=metadata)

        return AsyncVideoTrack(
            begin, has_masks=encoding is not MaskEncoding.NONE, request_id=identifier
        )
