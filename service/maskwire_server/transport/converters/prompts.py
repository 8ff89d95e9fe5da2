"""Prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from maskwire.v1 import prompt_pb2

from ...domain.errors import invalid_field
from ...domain.prompts import AnyPrompt, BoxPrompt, MaskPrompt, PointPrompt, Prompt, TextPrompt
from .geometry import box_from_proto, box_from_sized_proto, point_from_proto
from .masks import mask_from_proto, mask_logits_from_proto

_IS_FOREGROUND: Mapping[prompt_pb2.PointLabel.ValueType, bool] = {
    prompt_pb2.POINT_LABEL_UNSPECIFIED: True,
    prompt_pb2.POINT_LABEL_FOREGROUND: True,
    prompt_pb2.POINT_LABEL_BACKGROUND: False,
}
_IS_POSITIVE: Mapping[prompt_pb2.BoxLabel.ValueType, bool] = {
    prompt_pb2.BOX_LABEL_UNSPECIFIED: True,
    prompt_pb2.BOX_LABEL_POSITIVE: True,
    prompt_pb2.BOX_LABEL_NEGATIVE: False,
}


def prompts_from_proto(messages: Iterable[prompt_pb2.Prompt], field: str) -> tuple[Prompt, ...]:
    """Read the prompts of a request about one still image.

    Args:
        messages: The prompts.
        field: Path of the list in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` as `prompt_from_proto`, and for a frame index, which only
            prompts about stored video have.
    """
    prompts = []
    for index, message in enumerate(messages):
        path = f"{field}[{index}]"
        if message.HasField("frame_index"):
            raise invalid_field(f"{path}.frame_index", "only prompts about stored video have one")
        prompts.append(prompt_from_proto(message, path))
    return tuple(prompts)


def prompt_from_proto(message: prompt_pb2.Prompt, field: str) -> Prompt:
    """Read a prompt.

    Args:
        message: The prompt.
        field: Path of the prompt in the request.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where nothing is said, or a mask is malformed.
    """
    return Prompt(
        content=_content(message, field),
        object_id=message.object_id if message.HasField("object_id") else None,
        field=field,
    )


def _content(message: prompt_pb2.Prompt, field: str) -> AnyPrompt:
    match message.WhichOneof("prompt"):
        case "point":
            return _point_prompt(message.point)
        case "box":
            return _box_prompt(message.box, f"{field}.box")
        case "mask":
            return _mask_prompt(message.mask, f"{field}.mask")
        case "text":
            return _text_prompt(message.text)
        case _:
            raise invalid_field(f"{field}.prompt", "exactly one kind of prompt is required")


def _point_prompt(message: prompt_pb2.PointPrompt) -> PointPrompt:
    return PointPrompt(point_from_proto(message.point), _IS_FOREGROUND[message.label])


def _box_prompt(message: prompt_pb2.BoxPrompt, field: str) -> BoxPrompt:
    match message.WhichOneof("rectangle"):
        case "box":
            box = box_from_proto(message.box)
        case "sized_box":
            box = box_from_sized_proto(message.sized_box)
        case _:
            raise invalid_field(f"{field}.rectangle", "exactly one rectangle is required")
    return BoxPrompt(box, _IS_POSITIVE[message.label])


def _mask_prompt(message: prompt_pb2.MaskPrompt, field: str) -> MaskPrompt:
    match message.WhichOneof("mask"):
        case "encoded":
            return MaskPrompt(mask_from_proto(message.encoded, f"{field}.encoded"))
        case "logits":
            return MaskPrompt(mask_logits_from_proto(message.logits, f"{field}.logits"))
        case _:
            raise invalid_field(f"{field}.mask", "exactly one mask is required")


def _text_prompt(message: prompt_pb2.TextPrompt) -> TextPrompt:
    threshold = message.score_threshold if message.HasField("score_threshold") else None
    return TextPrompt(message.text, threshold)
