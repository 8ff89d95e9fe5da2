"""The `sam2` package's own predictor on a checkpoint of the tests: the judge of parity."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.support.sam2_checkpoints import Sam2Files

# What upstream's `build_sam2` sets unless told otherwise; it takes only configurations by name.
_BUILD_SAM2_DEFAULTS = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


def upstream_predictor(files: Sam2Files) -> Any:
    """Return a `SAM2ImagePredictor` on the CPU for any configuration file and image size."""
    configuration: Any = OmegaConf.load(files.config)
    configuration.model.sam_mask_decoder_extra_args = _BUILD_SAM2_DEFAULTS
    network = instantiate(configuration.model, _recursive_=True)
    state = torch.load(files.checkpoint, map_location="cpu", weights_only=True)["model"]
    network.load_state_dict(state)
    return _predictor(network.eval())


def upstream_official_predictor(config_name: str, checkpoint: Path) -> Any:
    """Return a `SAM2ImagePredictor` built exactly as upstream's README does, on the CPU."""
    from sam2.build_sam import build_sam2

    return _predictor(build_sam2(config_name, str(checkpoint), device="cpu"))


def _predictor(network: Any) -> Any:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        predictor = SAM2ImagePredictor(network)
    # Upstream's sizes of the feature maps are those of 1024 px, whatever the network's size is.
    side = network.image_size
    predictor._bb_feat_sizes = [(side // stride,) * 2 for stride in (4, 8, 16)]
    return predictor
