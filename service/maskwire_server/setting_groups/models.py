"""The settings of models: segmentation models and reconstruction engines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from .group import SettingGroup


class ModelSettings(SettingGroup):
    """One model to serve."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name that requests use; a name of the catalogue implies the other fields."""
    engine: str | None = None
    """Engine that loads it, e.g. sam2; needed for models that the catalogue does not know."""
    checkpoint: Path | None = None
    """File with the weights (.safetensors, .pt), or their folder (sam3); absent means the cache
    folder or the bundle."""
    config: Path | None = None
    """File with the architecture, for models that the catalogue does not know."""
    device: str | None = None
    """Device of this model; absent means the device of all."""
    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Arithmetic of this model; absent means the precision of all."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected digest of the checkpoint file; a different one refuses to load."""


class ModelsSettings(SettingGroup):
    """Which models are served, and where they run."""

    serve: tuple[ModelSettings, ...] = Field(
        default=(ModelSettings(name="maskwire-nano"),), min_length=1
    )
    """The models, the default one first."""
    device: str = "auto"
    """cpu, cuda, cuda:N, mps, or auto: the first accelerator there is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks; auto is bf16 on cuda and fp32 elsewhere."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads of one network on the CPU; 0 leaves it to torch."""
    weight_bytes: int = Field(default=0, ge=0)
    """Most bytes of weights on one device; 0 sets no limit. Models that do not fit together take
    turns: the least recently used one's weights are dropped, and read again when it is used."""
    cache_folder: Path = Path("~/.cache/maskwire")
    """Folder of downloaded checkpoints."""
    hub_token: SecretStr | None = None
    """Token for the model hub, to pull models that want their licence accepted (sam3); never shown.
    Absent means that of the hub's own login, if there is one."""

    @field_validator("serve")
    @classmethod
    def _each_once(cls, models: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        names = [model.name for model in models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is there twice: requests tell models by their names")
        return models


class ReconstructionSettings(SettingGroup):
    """Reconstruction of 3D objects and bodies."""

    object_models: tuple[str, ...] = ("inflate",)
    """Engines that reconstruct objects, the default one first: inflate, sam3d-objects."""
    body_models: tuple[str, ...] = ()
    """Engines that reconstruct bodies: sam3d-body."""
    max_objects: int = Field(default=64, ge=1, le=64)
    """Most objects or people of one request."""
    max_geometry_bytes: int = Field(default=256 * 2**20, ge=2**10)
    """Most bytes of a point map or a depth map, unpacked; an upload may be as large as a file."""
    mesh_resolution_px: int = Field(default=256, ge=16, le=1024)
    """Longest side of the grid that inflate solves on."""
    texture_px: int = Field(default=1024, ge=16, le=8192)
    """Longest side of a texture."""
    max_splats: int = Field(default=60_000, ge=100)
    """Most splats of one object that inflate makes."""
    sam3d_objects_config: Path | None = None
    """pipeline.yaml of SAM 3D Objects' checkpoint folder."""
    sam3d_objects_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected digest of all its weights, as ListModels tells it; different ones are not loaded:
    set it, because upstream's files may hold code."""
    sam3d_body_checkpoint: Path | None = None
    """Checkpoint file of SAM 3D Body."""
    sam3d_body_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected digest of that file; a different one is not loaded: set it, because it may hold
    code."""
    sam3d_body_rig: Path | None = None
    """Momentum Human Rig asset file (mhr_model.pt) for SAM 3D Body."""
