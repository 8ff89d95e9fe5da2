"""`maskwire.v1.SegmentationService` over the domain's service of the same name."""

from __future__ import annotations

from maskwire.v1 import segmentation_pb2, segmentation_pb2_grpc

from ...domain.segmentation_service import SegmentationService
from ..calls import ServicerContext, current_caller
from ..converters.segmentation import segment_request_from_proto, segment_result_to_proto


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Segments still images."""

    def __init__(self, segmentation: SegmentationService) -> None:
        self._segmentation = segmentation

    async def SegmentImage(  # noqa: N802  # the contract's name
        self, request: segmentation_pb2.SegmentImageRequest, context: ServicerContext
    ) -> segmentation_pb2.SegmentImageResponse:
        """Segment the objects that the prompts name."""
        caller = current_caller.get()
        result = await self._segmentation.segment(segment_request_from_proto(request), caller)
        return segment_result_to_proto(result, caller.request_id)
