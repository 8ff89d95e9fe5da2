"""Loads the estimator of SAM 3D Body as upstream's `setup_sam_3d_body` does, from local files.

The checkpoint is a pickle that upstream reads as such: trust it as you would trust code. Its digest
is compared before upstream sees it, where one is expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from maskwire_server.engines.weights import verified_digest

from .engine import NAME, Sam3dBodyEngine

DETECTOR_FILE = "model_final_f05665.pkl"
"""Weights of ViTDet, by which upstream finds people; looked for beside the checkpoint."""


class Sam3dBodyFactory(ReconstructionFactory):
    """Loads the engine from the checkpoint, the configuration beside it, and the body rig."""

    def load(self, specification: ReconstructionSpecification) -> Sam3dBodyEngine:
        """Load the network, and the detector of people where its weights are."""
        checkpoint = require_file(
            NAME,
            specification.sam3d_body_checkpoint,
            "reconstruction.sam3d_body_checkpoint",
            "model.ckpt of SAM 3D Body, with model_config.yaml in its folder",
        )
        rig = require_file(
            NAME,
            specification.sam3d_body_rig,
            "reconstruction.sam3d_body_rig",
            "assets/mhr_model.pt of SAM 3D Body",
        )
        _require_configuration(checkpoint)
        require_device(NAME, specification.device)
        digest = verified_digest(checkpoint, specification.sam3d_body_sha256)
        package = import_upstream(NAME, "sam_3d_body")
        with loading(NAME, checkpoint):
            network, configuration = package.load_sam_3d_body(
                checkpoint_path=str(checkpoint), device="cuda", mhr_path=str(rig)
            )
            estimator = package.SAM3DBodyEstimator(
                sam_3d_body_model=network,
                model_cfg=configuration,
                human_detector=_detector(checkpoint.parent),
                human_segmentor=None,
                fov_estimator=None,
            )
        return Sam3dBodyEngine(
            estimator, ReconstructionDescription(NAME, f"sha256:{digest}", "cuda:0")
        )


def _require_configuration(checkpoint: Path) -> None:
    """Check what upstream would only fail on later: it looks here, then one folder up."""
    folders = (checkpoint.parent, checkpoint.parent.parent)
    if not any((folder / "model_config.yaml").is_file() for folder in folders):
        raise unavailable(
            NAME,
            f"there is no model_config.yaml beside {checkpoint}",
            "it comes with the checkpoint: fetch the whole folder",
        )


def _detector(folder: Path) -> Any:
    """Return upstream's detector of people, or None where its weights are not.

    Without a path it would fetch them over the network.
    """
    if not (folder / DETECTOR_FILE).is_file():
        return None
    module = import_upstream(NAME, "tools.build_detector")
    return module.HumanDetector(name="vitdet", device="cuda", path=str(folder))
