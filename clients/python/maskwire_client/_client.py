"""The blocking client; `_async_client` mirrors it with `await` where this waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import grpc

from maskwire.v1 import model_pb2, model_pb2_grpc, segmentation_pb2, segmentation_pb2_grpc

from . import _auto_messages, _requests, _responses
from ._auto_stream import AutoSegmentStream
from ._calls import Attempt, Pause, Steps, call_steps, image_metadata, segment_steps
from ._channel import Tls
from ._client_jobs import JobCalls
from ._client_sessions import StreamingCalls, open_channel
from ._configuration import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_TIMEOUT_S,
    configure,
    new_request_id,
)
from ._errors import error_from_rpc
from ._tracing import numbered_attempts
from .images import ImageInput, load_image
from .options import AutoSegmentOptions, Delivery, MaskEncoding, Postprocess, Rendering
from .prompts import BoxLike, MaskPrompt, PointLike, Text
from .results import Model, SegmentationResult

_ResponseT = TypeVar("_ResponseT", bound=Any)


class Client(StreamingCalls, JobCalls):
    """A connection to a Maskwire server, for any number of threads.

    It connects at the first call, reconnects by itself, and is closed by `close` or at the end of a
    `with` block. Calls that fail because no server answers are tried again, with growing pauses;
    calls that a full server refuses are tried again when it says that trying makes sense.

    Args:
        target: `host:port`, or any other name that gRPC resolves (`dns:///...`, `unix:...`).
        tls: How to encrypt; None connects in plain text.
        api_key: API key or token that says who calls; it is sent with every call, so that without
            `tls` whoever sees the network reads it.
        metadata: Sent with every call, for example `{"authorization": "Bearer ..."}`.
        timeout_s: Seconds that a call may take with all its attempts; `math.inf` for no limit.
        digest_first: Send the digest of an image before its bytes: always for images that this
            client has sent before, and for others of 256 KiB or more. It saves the upload wherever
            the server still holds the image; where it does not, the probe costs a round trip.
            Switch it off where every image is new, as in a video.
        retry_attempts: Most attempts of a call while no server answers, 1 to 5.
        overload_retries: Most attempts after a full server's first refusal.
        max_message_bytes: Largest message in either direction.

    Raises:
        ValueError: An argument is out of its range.
        OSError: A certificate cannot be read.
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

    def segment(
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
        """Segment the objects that the prompts name.

        Prompts with the same `object_id` refine the same object. Points without one are one object
        together; every box and mask without one is an object of its own. Beside texts, boxes
        without one are exemplars of what the texts mean, and points and masks without one refine
        an instance that was found.

        Args:
            image: Path, encoded bytes, PIL image, uint8 array, URI or digest (`ImageInput`).
            points: Clicks, on or off the objects.
            boxes: Boxes around objects, or exemplars.
            masks: Masks to refine.
            texts: Concepts in words, all instances of which are found; where no served model takes
                them, `FailedPrecondition` says what would help.
            model: Name of the model; empty is the server's default.
            encoding: Form of the masks on the wire.
            return_multiple_masks: Return alternatives for each object, best first, and of each text
                only the best instances.
            max_masks: Most alternatives, or instances of a text, 1 to 32; None means 3. It counts
                with `return_multiple_masks` only.
            include_scores: Return the masks' scores.
            include_boxes: Return normalized boxes besides the pixel boxes.
            include_logits: Return logits, to refine from with `MaskPrompt`.
            postprocess: What to change in the masks first.
            renderings: Pictures to make, at most 8.
            delivery: How pictures reach the caller.
            inference_size_px: Longest side that the model sees, 64 to 8192; None is the image's
                own.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            MaskwireError: The call failed; `maskwire_client.errors` draws the tree.
            OSError: The image file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape, or a number cannot be sent.
        """
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
        source = load_image(image)
        steps: Steps[segmentation_pb2.SegmentImageResponse] = segment_steps(
            request,
            source,
            self._configuration.digests,
            deadline,
            self._configuration.overload_retries,
        )
        response = self._carry_out(steps, self._segmentation.SegmentImage, request, request_id)
        return _responses.segmentation_result(response)

    def auto_segment(
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
        """Segment everything in a picture: the masks best first, their object ids from 1.

        Args:
            image: Path, encoded bytes, PIL image, uint8 array, URI or digest (`ImageInput`).
            options: Settings of the method; None is the server's defaults for all.
            model: Name of the model; empty is the server's default.
            encoding: Form of the masks on the wire.
            include_scores: Return the masks' scores.
            include_boxes: Return normalized boxes besides the pixel boxes.
            include_logits: Return logits, to refine from with `MaskPrompt`.
            postprocess: What to change in the masks first.
            renderings: Pictures to make, at most 8.
            delivery: How pictures reach the caller.
            inference_size_px: Longest side that the model sees, 64 to 8192; None is the image's
                own.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            MaskwireError: The call failed; `maskwire_client.errors` draws the tree.
            OSError: The image file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape, or a number cannot be sent.
        """
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
        source = load_image(image)
        steps: Steps[segmentation_pb2.AutoSegmentResponse] = segment_steps(
            request,
            source,
            self._configuration.digests,
            deadline,
            self._configuration.overload_retries,
        )
        response = self._carry_out(steps, self._segmentation.AutoSegment, request, request_id)
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
    ) -> AutoSegmentStream:
        """Segment everything in a picture and hear of masks as they are found; iterate over it.

        What is left at the end is its `result`, which is what `auto_segment` returns but for the
        objects' ids. The image itself is sent, whatever the server holds; nothing is tried again.

        Args:
            image: As for `auto_segment`, like all other arguments.
            options: Settings of the method.
            model: Name of the model.
            encoding: Form of the masks on the wire.
            include_scores: Return the masks' scores.
            include_boxes: Return normalized boxes besides the pixel boxes.
            include_logits: Return logits.
            postprocess: What to change in the masks first.
            renderings: Pictures to make.
            delivery: How pictures reach the caller.
            inference_size_px: Longest side that the model sees, 64 to 8192; None is the image's
                own.
            timeout_s: Seconds that all of it may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            OSError: The image file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape, or a number cannot be sent.
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
        return AutoSegmentStream(call, identifier)

    def models(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> tuple[Model, ...]:
        """List the models that are served, the default one first.

        Args:
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            MaskwireError: The call failed.
        """
        request = model_pb2.ListModelsRequest()
        steps: Steps[model_pb2.ListModelsResponse] = call_steps(
            self._configuration.deadline(timeout_s), self._configuration.overload_retries
        )
        response = self._carry_out(steps, self._models.ListModels, request, request_id)
        return _responses.model_list(response)

    def model(
        self, name: str = "", *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Model:
        """Describe one model.

        Args:
            name: Its name; empty is the server's default model.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            ModelNotFound: No such model is served.
            MaskwireError: The call failed otherwise.
        """
        request = model_pb2.GetModelRequest(name=name)
        steps: Steps[model_pb2.GetModelResponse] = call_steps(
            self._configuration.deadline(timeout_s), self._configuration.overload_retries
        )
        response = self._carry_out(steps, self._models.GetModel, request, request_id)
        return _responses.model_description(response.model)

    def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connection."""
        self.close()

    @numbered_attempts()
    def _carry_out(
        self,
        steps: Steps[_ResponseT],
        method: Callable[..., _ResponseT],
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
                    time.sleep(step.seconds)
                    step = next(steps)
                    continue
                try:
                    response = self._attempt(step, method, request, metadata)
                except grpc.RpcError as error:
                    step = steps.throw(error_from_rpc(error, identifier))
                else:
                    step = steps.send(response)
        except StopIteration as stop:
            answer: _ResponseT = stop.value
            return answer

    @staticmethod
    def _attempt(
        step: Attempt,
        method: Callable[..., _ResponseT],
        request: object,
        metadata: Sequence[tuple[str, str]],
    ) -> _ResponseT:
        return method(request, timeout=step.timeout_s, metadata=(*metadata, *step.metadata))
