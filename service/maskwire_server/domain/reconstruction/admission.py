"""Checks requests for reconstruction before they are queued, and segments their prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..jobs.calls import CallContent
from ..jobs.service import AdmittedCall
from ..masks import EncodedMask
from ..segmentation import Caller, InlineImage, MaskOptions, SegmentRequest
from ..segmentation_service import SegmentationService
from .inputs import InputReader
from .requests import BodiesRequest, ObjectsRequest

_AT_A_TIME = 4
"""Requests whose pictures are decoded at a time: each may hold some hundred megabytes."""


class ReconstructionAdmission:
    """Decides which requests for reconstruction become jobs."""

    def __init__(
        self,
        inputs: InputReader,
        segmentation: SegmentationService,
        object_models: Sequence[str],
        body_models: Sequence[str],
    ) -> None:
        """Take what is needed.

        Args:
            inputs: Reads what requests bring.
            segmentation: Segments prompts.
            object_models: Engines of workers that reconstruct objects, the default one first.
            body_models: Engines that reconstruct bodies.
        """
        self._inputs = inputs
        self._segmentation = segmentation
        self._object_models = tuple(object_models)
        self._body_models = tuple(body_models)
        self._slots = asyncio.Semaphore(_AT_A_TIME)

    async def objects(self, request: ObjectsRequest, caller: Caller) -> AdmittedCall:
        """Check a request for objects.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `MODEL_NOT_FOUND`,
                `PAYLOAD_TOO_LARGE`, `FILE_NOT_FOUND`, `IMAGE_NOT_FOUND`, `SOURCE_DISABLED`, and
                what segmenting the prompts raises.
        """
        model = _resolve(request.model, self._object_models, "objects")
        async with self._slots:
            image = await self._inputs.image(request.image, caller)
            masks = None
            if request.prompts:
                masks = await self._segment(request, image.data, caller)
                request = replace(request, masks=masks, prompts=())
            _, geometry = await self._inputs.objects(request, image, caller)
        data = None if geometry is None else geometry.data
        return AdmittedCall(model, CallContent(model, image.data, masks, data))

    async def bodies(self, request: BodiesRequest, caller: Caller) -> AdmittedCall:
        """Check a request for bodies; errors as `objects`."""
        model = _resolve(request.model, self._body_models, "bodies")
        async with self._slots:
            image = await self._inputs.image(request.image, caller)
            _, geometry = await self._inputs.bodies(request, image, caller)
        data = None if geometry is None else geometry.data
        return AdmittedCall(model, CallContent(model, image.data, geometry=data))

    async def _segment(
        self, request: ObjectsRequest, image: bytes, caller: Caller
    ) -> tuple[EncodedMask, ...]:
        segmented = await self._segmentation.segment(
            SegmentRequest(
                InlineImage(image), request.prompts, request.segmentation_model, MaskOptions()
            ),
            caller,
        )
        if not segmented.masks:
            raise invalid_field("prompts", "nothing was found by them")
        for mask in segmented.masks:
            if mask.area_px == 0:
                raise invalid_field("prompts", f"the mask of object {mask.object_id} is empty")
        self._inputs.check_count(len(segmented.masks), "prompts")
        return tuple(mask.encoded for mask in segmented.masks if mask.encoded is not None)


def _resolve(name: str | None, models: tuple[str, ...], what: str) -> str:
    if not models:
        raise MaskwireError(
            ErrorCode.MODEL_NOT_FOUND,
            f"model: no engine that reconstructs {what} is set up for this server "
            "(settings reconstruction.object_models and reconstruction.body_models)",
            resource=name or "",
        )
    if name is not None and name not in models:
        raise MaskwireError(
            ErrorCode.MODEL_NOT_FOUND,
            f"model: {name!r} does not reconstruct {what} here; there are {', '.join(models)}",
            resource=name,
        )
    return name or models[0]
