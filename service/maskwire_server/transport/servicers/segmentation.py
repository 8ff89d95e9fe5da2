"""`maskwire.v1.SegmentationService` over the domain's services for prompts and for everything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from maskwire.v1 import segmentation_pb2, segmentation_pb2_grpc

from ...domain.auto_segmentation.service import AutoSegmentationService
from ...domain.segmentation_service import SegmentationService
from ..calls import ServicerContext, current_caller
from ..converters.auto_segmentation import (
    auto_segment_event_to_proto,
    auto_segment_request_from_proto,
    auto_segment_result_to_proto,
)
from ..converters.segmentation import segment_request_from_proto, segment_result_to_proto


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Segments still images."""

    def __init__(
        self, segmentation: SegmentationService, auto_segmentation: AutoSegmentationService
    ) -> None:
        self._segmentation = segmentation
        self._auto_segmentation = auto_segmentation

    async def SegmentImage(  # noqa: N802  # the contract's name
        self, request: segmentation_pb2.SegmentImageRequest, context: ServicerContext
    ) -> segmentation_pb2.SegmentImageResponse:
        """Segment the objects that the prompts name."""
        caller = current_caller.get()
        result = await self._segmentation.segment(segment_request_from_proto(request), caller)
        return segment_result_to_proto(result, caller.request_id)

    async def AutoSegment(  # noqa: N802  # the contract's name
        self, request: segmentation_pb2.AutoSegmentRequest, context: ServicerContext
    ) -> segmentation_pb2.AutoSegmentResponse:
        """Segment everything in the picture."""
        caller = current_caller.get()
        wanted = auto_segment_request_from_proto(request)
        result = await self._auto_segmentation.segment(wanted, caller)
        return auto_segment_result_to_proto(result, caller.request_id)

    async def StreamAutoSegment(  # noqa: N802  # the contract's name
        self, request: segmentation_pb2.StreamAutoSegmentRequest, context: ServicerContext
    ) -> AsyncGenerator[segmentation_pb2.StreamAutoSegmentResponse, None]:
        """Segment everything in the picture and tell masks as they are accepted."""
        caller = current_caller.get()
        wanted = auto_segment_request_from_proto(request.request, "request.")
        async with aclosing(self._auto_segmentation.stream(wanted, caller)) as events:
            async for event in events:
                yield auto_segment_event_to_proto(event, caller.request_id)
