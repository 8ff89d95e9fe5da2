"""The asyncio client: `_client`, method by method, with `await` where that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import grpc

from maskwire.v1 import model_pb2, model_pb2_grpc, segmentation_pb2, segmentation_pb2_grpc

from . import _auto_messages, _requests, _responses
from ._async_client_jobs import AsyncJobCalls
from ._async_client_sessions import AsyncStreamingCalls, open_channel
from ._auto_stream import AsyncAutoSegmentStream
from ._calls import Attempt, Pause, Steps, call_steps, image_metadata, segment_steps
from ._channel import Tls
from ._configuration import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_TIMEOUT_S,
    configure,
    new_request_id,
)
from ._errors import error_from_rpc
from ._tracing import numbered_attempts_async
from .errors import MaskwireError
from .images import ImageInput, load_image
from .options import AutoSegmentOptions, Delivery, MaskEncoding, Postprocess, Rendering
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .results import Model, SegmentationResult

_ResponseT = TypeVar("_ResponseT", bound=Any)


class AsyncClient(AsyncStreamingCalls, AsyncJobCalls):
    """A connection to a Maskwire server, for any number of tasks of one event loop.

    It does what `Client` does and takes the same arguments; make it inside the running loop and
    close it by `await close()` or at the end of an `async with` block. Reading, encoding and
    hashing an image happen in a thread.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        api_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        digest_first: bool = True,
        retry_attempts: int = 4,
        overload_retries: int = 3,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self._configuration = configure(
            target,
            tls=tls,
            api_key=api_key,
            metadata=metadata,
            timeout_s=timeout_s,
            digest_first=digest_first,
            retry_attempts=retry_attempts,
            overload_retries=overload_retries,
            max_message_bytes=max_message_bytes,
        )
        self._channel = open_channel(self._configuration, target)
        self._segmentation = segmentation_pb2_grpc.SegmentationServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)

    async def segment(
        self,
        image: ImageInput,
        *,
        points: Sequence[PointLike] = (),
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[MaskPrompt] = (),
        texts: Sequence[Text | str] = (),
        model: str = "",
        encoding: MaskEncoding = MaskEncoding.COCO_RLE,
        return_multiple_masks: bool = False,
        max_masks: int | None = None,
        include_scores: bool = True,
        include_boxes: bool = False,
        include_logits: bool = False,
        postprocess: Postprocess | None = None,
        renderings: Sequence[Rendering] = (),
        delivery: Delivery = Delivery.INLINE,
        inference_size_px: int | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> SegmentationResult:
        """Segment the objects that the prompts name; as `Client.segment`."""
        deadline = self._configuration.deadline(timeout_s)
        request = _requests.segment_request(
            _requests.SegmentArguments(
                points=points,
                boxes=boxes,
                masks=masks,
                texts=texts,
                model=model,
                encoding=encoding,
                return_multiple_masks=return_multiple_masks,
                max_masks=max_masks,
                include_scores=include_scores,
                include_boxes=include_boxes,
                include_logits=include_logits,
                postprocess=postprocess,
                renderings=renderings,
                delivery=delivery,
                inference_size_px=inference_size_px,
            )
        )
        source = await asyncio.to_thread(load_image, image)
        steps: Steps[segmentation_pb2.SegmentImageResponse] = segment_steps(
            request,
            source,
            self._configuration.digests,
            deadline,
            self._configuration.overload_retries,
        )
        response = await self._carry_out(
            steps, self._segmentation.SegmentImage, request, request_id
        )
        return _responses.segmentation_result(response)

    async def auto_segment(
        self,
        image: ImageInput,
        *,
        options: AutoSegmentOptions | None = None,
        model: str = "",
        encoding: MaskEncoding = MaskEncoding.COCO_RLE,
        include_scores: bool = True,
        include_boxes: bool = False,
        include_logits: bool = False,
        postprocess: Postprocess | None = None,
        renderings: Sequence[Rendering] = (),
        delivery: Delivery = Delivery.INLINE,
        inference_size_px: int | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> SegmentationResult:
        """Segment everything in a picture; as `Client.auto_segment`."""
        deadline = self._configuration.deadline(timeout_s)
        request = _auto_messages.auto_segment_request(
            _auto_messages.AutoSegmentArguments(
                options=options,
                model=model,
                encoding=encoding,
                include_scores=include_scores,
                include_boxes=include_boxes,
                include_logits=include_logits,
                postprocess=postprocess,
                renderings=renderings,
                delivery=delivery,
                inference_size_px=inference_size_px,
            )
        )
        source = await asyncio.to_thread(load_image, image)
        steps: Steps[segmentation_pb2.AutoSegmentResponse] = segment_steps(
            request,
            source,
            self._configuration.digests,
            deadline,
            self._configuration.overload_retries,
        )
        response = await self._carry_out(steps, self._segmentation.AutoSegment, request, request_id)
        return _auto_messages.auto_segment_result(response)

    def stream_auto_segment(
        self,
        image: ImageInput,
        *,
        options: AutoSegmentOptions | None = None,
        model: str = "",
        encoding: MaskEncoding = MaskEncoding.COCO_RLE,
        include_scores: bool = True,
        include_boxes: bool = False,
        include_logits: bool = False,
        postprocess: Postprocess | None = None,
        renderings: Sequence[Rendering] = (),
        delivery: Delivery = Delivery.INLINE,
        inference_size_px: int | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncAutoSegmentStream:
        """Segment everything in a picture, told as it is found; as `Client.stream_auto_segment`.

        A file is read at once: read it elsewhere where that would take long.
        """
        source = load_image(image)
        request = _auto_messages.stream_auto_segment_request(
            _auto_messages.AutoSegmentArguments(
                options=options,
                model=model,
                encoding=encoding,
                include_scores=include_scores,
                include_boxes=include_boxes,
                include_logits=include_logits,
                postprocess=postprocess,
                renderings=renderings,
                delivery=delivery,
                inference_size_px=inference_size_px,
            ),
            source,
        )
        identifier = request_id or new_request_id()
        call = self._segmentation.StreamAutoSegment(
            request,
            timeout=self._configuration.deadline(timeout_s).remaining_s(),
            metadata=(*self._configuration.call_metadata(identifier), *image_metadata(source)),
        )
        return AsyncAutoSegmentStream(call, identifier)

    async def models(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> tuple[Model, ...]:
        """List the models that are served; as `Client.models`."""
        request = model_pb2.ListModelsRequest()
        steps: Steps[model_pb2.ListModelsResponse] = call_steps(
            self._configuration.deadline(timeout_s), self._configuration.overload_retries
        )
        response = await self._carry_out(steps, self._models.ListModels, request, request_id)
        return _responses.model_list(response)

    async def model(
        self, name: str = "", *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Model:
        """Describe one model; as `Client.model`."""
        request = model_pb2.GetModelRequest(name=name)
        steps: Steps[model_pb2.GetModelResponse] = call_steps(
            self._configuration.deadline(timeout_s), self._configuration.overload_retries
        )
        response = await self._carry_out(steps, self._models.GetModel, request, request_id)
        return _responses.model_description(response.model)

    async def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the connection."""
        await self.close()

    @numbered_attempts_async()
    async def _carry_out(
        self,
        steps: Steps[_ResponseT],
        method: Callable[..., Awaitable[_ResponseT]],
        request: object,
        request_id: str | None,
    ) -> _ResponseT:
        """Do what a call's steps say and return its response."""
        identifier = request_id or new_request_id()
        metadata = self._configuration.call_metadata(identifier)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    response = await self._attempt(step, method, request, metadata)
                except grpc.RpcError as error:
                    step = steps.throw(error_from_rpc(error, identifier))
                except MaskwireError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
        except StopIteration as stop:
            answer: _ResponseT = stop.value
            return answer

    @staticmethod
    async def _attempt(
        step: Attempt,
        method: Callable[..., Awaitable[_ResponseT]],
        request: object,
        metadata: Sequence[tuple[str, str]],
    ) -> _ResponseT:
        return await method(request, timeout=step.timeout_s, metadata=(*metadata, *step.metadata))
