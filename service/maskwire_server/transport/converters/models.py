"""Descriptions of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from maskwire.v1 import model_pb2

from ...domain.engine import ModelDescription
from ...domain.models import ServedModel
from ...domain.prompts import PromptKind
from ...domain.residency import LoadState

_PROMPT_KINDS: Mapping[PromptKind, model_pb2.PromptKind.ValueType] = {
    PromptKind.POINT: model_pb2.PROMPT_KIND_POINT,
    PromptKind.BOX: model_pb2.PROMPT_KIND_BOX,
    PromptKind.NEGATIVE_BOX: model_pb2.PROMPT_KIND_NEGATIVE_BOX,
    PromptKind.MASK: model_pb2.PROMPT_KIND_MASK,
    PromptKind.TEXT: model_pb2.PROMPT_KIND_TEXT,
}

_LOAD_STATES: Mapping[LoadState, model_pb2.LoadState.ValueType] = {
    LoadState.LOADED: model_pb2.LOAD_STATE_LOADED,
    LoadState.LOADING: model_pb2.LOAD_STATE_LOADING,
    LoadState.ON_DEMAND: model_pb2.LOAD_STATE_ON_DEMAND,
    LoadState.FAILED: model_pb2.LOAD_STATE_FAILED,
}

_VISUAL = frozenset({PromptKind.POINT, PromptKind.BOX, PromptKind.MASK})


def model_to_proto(model: ServedModel) -> model_pb2.Model:
    """Write the description of a served model."""
    description = model.description
    return model_pb2.Model(
        name=description.name,
        engine=description.engine,
        architecture=description.architecture,
        checkpoint_digest=description.checkpoint_digest,
        prompt_kinds=[
            number for kind, number in _PROMPT_KINDS.items() if kind in description.prompt_kinds
        ],
        capabilities=list(_capabilities(description)),
        masks_per_object=description.masks_per_object,
        max_objects=description.max_objects,
        native_resolution_px=description.native_resolution_px,
        device=description.device,
        precision=description.precision,
        license=description.license,
        load_state=_LOAD_STATES[model.load_state],
        is_default=model.is_default,
    )


def _capabilities(description: ModelDescription) -> Iterator[model_pb2.Capability.ValueType]:
    """Yield what a caller can ask of the model in this version of the server."""
    if description.prompt_kinds & _VISUAL:
        yield model_pb2.CAPABILITY_SEGMENT_IMAGE
    if description.supports_video:
        yield model_pb2.CAPABILITY_TRACK_VIDEO
    if PromptKind.POINT in description.prompt_kinds:
        yield model_pb2.CAPABILITY_AUTO_SEGMENT
    if PromptKind.TEXT in description.prompt_kinds:
        yield model_pb2.CAPABILITY_DETECT_CONCEPT
