"""The models that are served: which there are, which is the default, and where each runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .concept_tracking import ConceptTrackingEngine
from .concepts import ConceptEngine
from .engine import ModelDescription, SegmentationEngine
from .errors import ErrorCode, MaskwireError
from .executor import BoundedExecutor, Completed
from .prompts import PromptKind
from .residency import LoadState, WeightResidency
from .tracking import TrackingEngine

Value = TypeVar("Value")

_TEXT_REMEDY = (
    "no model served here does: fetch SAM 3 with `maskwire models pull sam3`, and serve it beside "
    "with `maskwire serve --model maskwire-nano --model sam3`"
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model with the executor that owns its device.

    Attributes:
        engine: The loaded model.
        executor: Where every call of the engine runs.
        is_default: Whether requests that name no model use it.
        residency: Keeps the weights of the device's models; None where all stay loaded.
    """

    engine: SegmentationEngine
    executor: BoundedExecutor
    is_default: bool
    residency: WeightResidency | None = None

    @property
    def description(self) -> ModelDescription:
        """What the model is and can do."""
        return self.engine.description

    @property
    def load_state(self) -> LoadState:
        """Where its weights are."""
        if self.residency is None:
            return LoadState.LOADED
        return self.residency.state_of(self.description.name)

    async def run(
        self,
        function: Callable[[], Value],
        *,
        is_refusable: bool = True,
        is_followed: bool = False,
    ) -> Completed[Value]:
        """Run a call of the engine on its executor, with its weights in place.

        Arguments and errors as `BoundedExecutor.run`; `MODEL_UNAVAILABLE` where the weights cannot
        be loaded.
        """
        residency = self.residency
        if residency is None:
            return await self.executor.run(
                function, is_refusable=is_refusable, is_followed=is_followed
            )
        return await self.executor.run(
            lambda: residency.run(self.engine, function),
            is_refusable=is_refusable,
            is_followed=is_followed,
        )


class ModelRegistry:
    """The served models by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Take the models, of which the first must be the default one."""
        self._models = {model.description.name: model for model in models}

    def list(self) -> tuple[ServedModel, ...]:
        """Return all models, the default one first."""
        return tuple(self._models.values())

    def resolve(self, name: str | None) -> ServedModel:
        """Return the model of that name; None or empty means the default.

        Raises:
            MaskwireError: `MODEL_NOT_FOUND`, naming the models that there are.
        """
        if not name:
            return next(iter(self._models.values()))
        model = self._models.get(name)
        if model is None:
            raise MaskwireError(
                ErrorCode.MODEL_NOT_FOUND,
                f"model: {name!r} is not served here; served are {', '.join(self._models)}",
                resource=name,
            )
        return model

    def require(self, model: ServedModel, kinds: frozenset[PromptKind]) -> None:
        """Check that a model serves all of the prompt kinds.

        Raises:
            MaskwireError: `UNSUPPORTED_BY_MODEL`, naming the kinds and what would serve them.
        """
        missing = kinds - model.description.prompt_kinds
        if not missing:
            return
        able = [
            other.description.name
            for other in self.list()
            if kinds <= other.description.prompt_kinds
        ]
        if able:
            remedy = f"name one that does: {', '.join(able)}"
        elif PromptKind.TEXT in missing:
            remedy = _TEXT_REMEDY
        else:
            remedy = "no model served here does"
        kind_names = " and ".join(sorted(kind.value.replace("_", " ") for kind in missing))
        raise MaskwireError(
            ErrorCode.UNSUPPORTED_BY_MODEL,
            f"prompts: model {model.description.name} does not take {kind_names} prompts; {remedy}",
            resource=model.description.name,
        )

    def concept_model(self, preferred: ServedModel) -> ServedModel:
        """Return a model that finds concepts: the preferred one if it does, else the first.

        Raises:
            MaskwireError: `UNSUPPORTED_BY_MODEL` where none does, with the command that would help.
        """
        for model in (preferred, *self.list()):
            if isinstance(model.engine, ConceptEngine):
                return model
        name = preferred.description.name
        raise MaskwireError(
            ErrorCode.UNSUPPORTED_BY_MODEL,
            f"prompts: model {name} does not take texts or negative boxes; {_TEXT_REMEDY}",
            resource=name,
        )

    def concept_tracking_model(self, preferred: ServedModel, *, is_named: bool) -> ServedModel:
        """Return a model that looks for texts in video: the preferred one if it does.

        Args:
            preferred: The model of the request.
            is_named: Whether the request named it; else another may take its place.

        Raises:
            MaskwireError: `UNSUPPORTED_BY_MODEL` where it does not, with what would help.
        """
        able = [one for one in self.list() if isinstance(one.engine, ConceptTrackingEngine)]
        if isinstance(preferred.engine, ConceptTrackingEngine):
            return preferred
        if able and not is_named:
            return able[0]
        names = ", ".join(one.description.name for one in able)
        remedy = f"name one that does: {names}" if able else _TEXT_REMEDY
        name = preferred.description.name
        raise MaskwireError(
            ErrorCode.UNSUPPORTED_BY_MODEL,
            f"prompts: model {name} does not take text prompts; {remedy}",
            resource=name,
        )

    def require_tracking(self, model: ServedModel) -> TrackingEngine:
        """Return a model's engine, which must be one that tracks.

        Raises:
            MaskwireError: `UNSUPPORTED_BY_MODEL`, naming models that track.
        """
        if isinstance(model.engine, TrackingEngine) and model.description.supports_video:
            return model.engine
        able = [
            other.description.name
            for other in self.list()
            if isinstance(other.engine, TrackingEngine) and other.description.supports_video
        ]
        remedy = f"name one that does: {', '.join(able)}" if able else "no model served here does"
        raise MaskwireError(
            ErrorCode.UNSUPPORTED_BY_MODEL,
            f"model: {model.description.name} does not track objects through frames; {remedy}",
            resource=model.description.name,
        )
