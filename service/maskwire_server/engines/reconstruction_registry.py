"""Finds reconstruction engines by their entry points and loads them."""

from __future__ import annotations

from importlib.metadata import entry_points

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.reconstruction.engine import (
    ReconstructionEngine,
    ReconstructionFactory,
    ReconstructionSpecification,
)

GROUP = "maskwire.reconstruction_engines"
"""The entry-point group of reconstruction engines."""


def reconstruction_engine_names() -> tuple[str, ...]:
    """Return the names of the installed engines."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def load_reconstruction_engine(
    specification: ReconstructionSpecification,
) -> ReconstructionEngine:
    """Load an engine; blocks for up to minutes.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where none of that name is installed or it cannot be
            loaded.
    """
    name = specification.engine
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"no reconstruction engine {name!r} is installed; "
            f"installed: {', '.join(reconstruction_engine_names()) or 'none'}",
            resource=name,
        )
    try:
        target = found[0].load()
    except ImportError as error:
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"reconstruction engine {name!r} cannot be imported: {error}",
            resource=name,
        ) from error
    factory = target() if isinstance(target, type) else target
    if not isinstance(factory, ReconstructionFactory):
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"entry point {found[0].value} is not a ReconstructionFactory",
            resource=name,
        )
    return factory.load(specification)
