"""Messages of automatic segmentation: requests from what callers give, answers as dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from maskwire.v1 import file_pb2, mask_pb2, segmentation_pb2

from ._enums import to_wire
from ._requests import image_source, postprocess_message, rendering_message
from ._responses import mask_result, picture_result, processing_info
from .automatic import AutoSegmentUpdate
from .images import EncodedImage, ImageReference
from .masks import Mask
from .options import AutoSegmentOptions, Delivery, MaskEncoding, Postprocess, Rendering
from .results import SegmentationResult


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AutoSegmentArguments:
    """What `auto_segment` takes besides the image; documented there."""

    options: AutoSegmentOptions | None = None
    model: str = ""
    encoding: MaskEncoding = MaskEncoding.COCO_RLE
    include_scores: bool = True
    include_boxes: bool = False
    include_logits: bool = False
    postprocess: Postprocess | None = None
    renderings: Sequence[Rendering] = ()
    delivery: Delivery = Delivery.INLINE
    inference_size_px: int | None = None


def auto_segment_request(arguments: AutoSegmentArguments) -> segmentation_pb2.AutoSegmentRequest:
    """Return the request, still without its image.

    Raises:
        TypeError: An option is not of the kind that its field takes.
        ValueError: A number is none that the message can hold.
    """
    options = arguments.options or AutoSegmentOptions()
    return segmentation_pb2.AutoSegmentRequest(
        model=arguments.model,
        options=segmentation_pb2.AutoSegmentOptions(**dataclasses.asdict(options)),
        mask_options=mask_pb2.MaskOptions(
            encoding=to_wire(mask_pb2.MaskEncoding, arguments.encoding),
            include_scores=arguments.include_scores,
            include_boxes=arguments.include_boxes,
            include_logits=arguments.include_logits,
        ),
        postprocess=postprocess_message(arguments.postprocess),
        renderings=[rendering_message(rendering) for rendering in arguments.renderings],
        delivery=to_wire(file_pb2.Delivery, arguments.delivery),
        inference_size_px=arguments.inference_size_px,
    )


def auto_segment_result(response: segmentation_pb2.AutoSegmentResponse) -> SegmentationResult:
    """Return the answer of `AutoSegment`; its masks stay encoded until they are looked at."""
    return SegmentationResult(
        masks=tuple(mask_result(mask) for mask in response.masks),
        info=processing_info(response.info),
        pictures=tuple(picture_result(picture) for picture in response.pictures),
    )


def stream_auto_segment_request(
    arguments: AutoSegmentArguments, image: EncodedImage | ImageReference
) -> segmentation_pb2.StreamAutoSegmentRequest:
    """Return the request of the streamed call, with its image.

    Raises:
        TypeError: An option is not of the kind that its field takes.
        ValueError: A number is none that the message can hold.
    """
    request = auto_segment_request(arguments)
    request.image.CopyFrom(image_source(image))
    return segmentation_pb2.StreamAutoSegmentRequest(request=request)


class AutoSegmentReader:
    """Reads the responses of one streamed call.

    Attributes:
        masks: Those that count now, by index.
        result: The end: what remains, best first; None before.
    """

    def __init__(self) -> None:
        self.masks: dict[int, Mask] = {}
        self.result: SegmentationResult | None = None
        self._points = (0, 0)

    def receive(
        self, response: segmentation_pb2.StreamAutoSegmentResponse
    ) -> AutoSegmentUpdate | None:
        """Take in a response; return what changed, or None for the end."""
        accepted: tuple[Mask, ...] = ()
        withdrawn: tuple[Mask, ...] = ()
        match response.WhichOneof("message"):
            case "progress":
                self._points = (response.progress.points_done, response.progress.points_total)
            case "accepted":
                accepted = tuple(mask_result(mask) for mask in response.accepted.masks)
                self.masks.update((mask.index, mask) for mask in accepted)
            case "withdrawn":
                indices = [index for index in response.withdrawn.indices if index in self.masks]
                withdrawn = tuple(self.masks.pop(index) for index in indices)
            case "result":
                self.result = self._end(auto_segment_result(response.result))
                return None
        return AutoSegmentUpdate(*self._points, accepted, withdrawn)

    def _end(self, told_last: SegmentationResult) -> SegmentationResult:
        """Return the result with the masks that were told before and not withdrawn."""
        masks = [*self.masks.values(), *told_last.masks]
        masks.sort(key=lambda mask: -(mask.score or 0.0))
        return dataclasses.replace(told_last, masks=tuple(masks))
