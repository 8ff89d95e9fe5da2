"""Finds the engines that are installed and lets them load models.

Engines register in the entry-point group `maskwire.engines`, so that another distribution adds one
without changing this one. An engine's module is imported only when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from maskwire_server.domain.engine import EngineFactory, ModelSpecification, SegmentationEngine
from maskwire_server.domain.errors import ErrorCode, MaskwireError

GROUP = "maskwire.engines"


def engine_names() -> tuple[str, ...]:
    """Return the names of the installed engines, sorted."""
    return tuple(sorted(entry_point.name for entry_point in entry_points(group=GROUP)))


def create_factory(engine: str) -> EngineFactory:
    """Import an engine and return its factory.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where no such engine is installed, where a package that
            it needs is missing, or where the entry point is not an `EngineFactory`.
    """
    found = tuple(entry_points(group=GROUP, name=engine))
    if not found:
        installed = ", ".join(engine_names()) or "none"
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"no engine {engine!r} is installed; installed: {installed}",
            resource=engine,
        )
    target = _import(found[0])
    if isinstance(target, type) and issubclass(target, EngineFactory):
        target = target()
    if not isinstance(target, EngineFactory):
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"entry point {found[0].value} of engine {engine!r} is not an EngineFactory",
            resource=engine,
        )
    return target


def load_engine(specification: ModelSpecification) -> SegmentationEngine:
    """Load a model with the engine that its specification names; blocks for seconds to minutes.

    Raises:
        MaskwireError: As `create_factory` and `EngineFactory.load`.
    """
    return create_factory(specification.engine).load(specification)


def _import(entry_point: EntryPoint) -> object:
    try:
        return entry_point.load()
    except ImportError as error:
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"engine {entry_point.name!r} cannot be imported: {error}; "
            "install the extra that provides it, for example maskwire[server]",
            resource=entry_point.name,
        ) from error
