"""Which calls may be queued as jobs, for which workers, and what must be put into them.

A job runs later and elsewhere: what the request refers to and this server may have forgotten by
then (an image by its digest, an uploaded picture) is put into it, prompts of a reconstruction are
segmented first, and whatever would fail for its input fails now.
"""

from __future__ import annotations

from typing import assert_never

from .auto_segmentation.requests import AutoSegmentRequest
from .identity import Scope
from .image_access import ImageAccess
from .jobs.calls import CallContent
from .jobs.service import AdmittedCall
from .models import ModelRegistry, ServedModel
from .reconstruction.admission import ReconstructionAdmission
from .reconstruction.requests import BodiesRequest, ObjectsRequest
from .segmentation import Caller, SegmentRequest
from .video.requests import TrackVideoRequest

SEGMENTATION_QUEUE = "segmentation"
"""The queue of calls that segmentation models serve."""

QueuedRequest = (
    SegmentRequest | AutoSegmentRequest | TrackVideoRequest | ObjectsRequest | BodiesRequest
)
"""A request that may run as a job."""


class CallAdmission:
    """Checks calls before they are queued."""

    def __init__(
        self, models: ModelRegistry, images: ImageAccess, reconstruction: ReconstructionAdmission
    ) -> None:
        self._models = models
        self._images = images
        self._reconstruction = reconstruction

    async def admit(self, request: QueuedRequest, caller: Caller) -> AdmittedCall:
        """Check a call and say where it goes.

        Raises:
            MaskwireError: As the call itself would, as far as its input is concerned;
                `PERMISSION_DENIED` where the caller could not make it itself.
        """
        match request:
            case SegmentRequest() | AutoSegmentRequest():
                caller.require(Scope.SEGMENTATION)
                model = self._models.resolve(request.model)
                image = await self._images.locate(request.image, caller)
                decoded = await self._images.decode(image, caller)
                return _segmentation(model, decoded.data)
            case TrackVideoRequest():
                caller.require(Scope.VIDEO)
                model = self._models.resolve(request.model)
                self._models.require_tracking(model)
                return _segmentation(model, None)
            case ObjectsRequest():
                caller.require(Scope.RECONSTRUCTION)
                return await self._reconstruction.objects(request, caller)
            case BodiesRequest():
                caller.require(Scope.RECONSTRUCTION)
                return await self._reconstruction.bodies(request, caller)
            case _:
                assert_never(request)


def _segmentation(model: ServedModel, image: bytes | None) -> AdmittedCall:
    return AdmittedCall(SEGMENTATION_QUEUE, CallContent(model.description.name, image))
