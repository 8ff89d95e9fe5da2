"""Loads the pipeline of SAM 3D Objects as upstream's `Inference` does, without its notebook.

`notebook/inference.py` is no part of the package and imports what draws notebooks; the pipeline
that it wraps is. A configuration names Python classes, and checkpoints may be pickles: trust both
as you would trust code.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from maskwire_server.domain.reconstruction.engine import (
    ReconstructionDescription,
    ReconstructionFactory,
    ReconstructionSpecification,
)
from maskwire_server.engines.sam3d_upstream import (
    import_upstream,
    loading,
    require_device,
    require_file,
    unavailable,
)
from maskwire_server.engines.weights import sha256_of

from .engine import NAME, Sam3dObjectsEngine
from .stages import METHODS


class Sam3dObjectsFactory(ReconstructionFactory):
    """Loads the engine from the `pipeline.yaml` that the checkpoint comes with."""

    def load(self, specification: ReconstructionSpecification) -> Sam3dObjectsEngine:
        """Load all networks of the pipeline onto the first CUDA device."""
        config = require_file(
            NAME,
            specification.sam3d_objects_config,
            "reconstruction.sam3d_objects_config",
            "pipeline.yaml in the folder of SAM 3D Objects' checkpoint",
        )
        require_device(NAME, specification.device)
        # The public package lacks the module that it would import first.
        os.environ["LIDRA_SKIP_INIT"] = "true"
        import_upstream(NAME, "sam3d_objects.pipeline.inference_pipeline_pointmap")
        with loading(NAME, config):
            configuration: Any = OmegaConf.load(config)
            digest = _digest(configuration, config.parent)
            _refuse_other(digest, specification.sam3d_objects_sha256, config)
            # As `Inference` sets them: nvdiffrast is licensed for research only.
            configuration.rendering_engine = "pytorch3d"
            configuration.compile_model = False
            configuration.workspace_dir = str(config.parent)
            pipeline = instantiate(configuration)
        missing = [name for name in METHODS if not callable(getattr(pipeline, name, None))]
        if missing:
            raise unavailable(
                NAME,
                f"{config} makes a {type(pipeline).__name__} without {', '.join(missing)}",
                "use the configuration and the version of sam3d_objects that belong together",
            )
        description = ReconstructionDescription(NAME, f"sha256:{digest}", "cuda:0")
        return Sam3dObjectsEngine(pipeline, description)


def _refuse_other(digest: str, expected: str | None, config: Path) -> None:
    """Compare the digest before upstream reads weights, which may hold code.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE`.
    """
    if expected is not None and digest != expected:
        raise unavailable(
            NAME,
            f"the weights that {config} names have SHA-256 {digest} together, but {expected} was "
            "expected",
            "they are damaged or others: fetch them again",
        )


def _digest(configuration: Any, folder: Path) -> str:
    """Return one digest of all files of weights that a configuration names."""
    lines = []
    for name, value in sorted(configuration.items()):
        if str(name).endswith("_ckpt_path") and value is not None:
            lines.append(f"{sha256_of(folder / str(value))}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
