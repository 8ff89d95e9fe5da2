"""`maskwire.v1.VideoService` over the domain's service of the same name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from maskwire.v1 import video_pb2, video_pb2_grpc

from ...domain.video.service import VideoService
from ..calls import ServicerContext, current_caller
from ..converters.video import track_event_to_proto, track_video_request_from_proto


class VideoServicer(video_pb2_grpc.VideoServiceServicer):
    """Tracks objects through stored videos."""

    def __init__(self, videos: VideoService) -> None:
        self._videos = videos

    async def TrackVideo(  # noqa: N802  # the contract's name
        self, request: video_pb2.TrackVideoRequest, context: ServicerContext
    ) -> AsyncGenerator[video_pb2.TrackVideoResponse, None]:
        """Track the prompted objects and send each frame's masks as they come."""
        caller = current_caller.get()
        wanted = track_video_request_from_proto(request)
        async with aclosing(self._videos.track(wanted, caller)) as events:
            async for event in events:
                yield track_event_to_proto(event, caller.request_id)
