"""What reconstruction engines are loaded with, from the settings."""

from __future__ import annotations

from ..domain.reconstruction.engine import ReconstructionSpecification
from ..settings import Settings


def reconstruction_specification(settings: Settings, engine: str) -> ReconstructionSpecification:
    """Return what to load as the engine of a name."""
    chosen = settings.reconstruction
    return ReconstructionSpecification(
        engine=engine,
        device=settings.models.device,
        mesh_resolution_px=chosen.mesh_resolution_px,
        texture_px=chosen.texture_px,
        max_splats=chosen.max_splats,
        sam3d_objects_config=chosen.sam3d_objects_config,
        sam3d_objects_sha256=chosen.sam3d_objects_sha256,
        sam3d_body_checkpoint=chosen.sam3d_body_checkpoint,
        sam3d_body_sha256=chosen.sam3d_body_sha256,
        sam3d_body_rig=chosen.sam3d_body_rig,
    )
