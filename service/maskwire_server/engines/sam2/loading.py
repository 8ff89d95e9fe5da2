"""Builds a SAM 2 network from its configuration and fits weights to it.

The configuration is read directly, not through Hydra's global search path, so that any file works
and loading one model cannot disturb another. A configuration names Python classes: trust it as you
would trust code.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines.weights import State

# What upstream's `build_sam2` and `build_sam2_video_predictor` set by default for inference: a
# single mask that is not stable is replaced by the best of the multiple ones, and a prompted mask
# is remembered as it is shown. A configuration that says otherwise is followed.
_INFERENCE_DEFAULTS = {
    "model": {
        "binarize_mask_from_pts_for_mem_enc": True,
        "sam_mask_decoder_extra_args": {
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    }
}
_NAMES_SHOWN = 8


def packaged_config(name: str) -> Path:
    """Return the path of a configuration that ships inside the `sam2` package."""
    return Path(str(files("sam2").joinpath(name)))


def build_network(config: Path) -> Any:
    """Build a network (`sam2.modeling.sam2_base.SAM2Base`) with random weights on the CPU.

    Args:
        config: YAML file with a `model` section of the form that upstream's have.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where the file is missing or does not describe a network.
    """
    try:
        configuration = OmegaConf.merge(_INFERENCE_DEFAULTS, OmegaConf.load(config))
        OmegaConf.resolve(configuration)
        network = instantiate(cast(DictConfig, configuration).model, _recursive_=True)
    except OSError as error:
        raise _unavailable(f"configuration {config} cannot be read", config) from error
    except (YAMLError, OmegaConfBaseException, HydraException, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise _unavailable(f"configuration {config} is not valid: {reason}", config) from error
    if not isinstance(network, torch.nn.Module):
        raise _unavailable(f"configuration {config} has no `model` section of a network", config)
    return network


def load_weights(network: torch.nn.Module, state: State, source: Path) -> None:
    """Copy weights into a network; every tensor must have its place and every place its tensor.

    Args:
        network: What `build_network` returned.
        state: The weights.
        source: The file that they came from, for messages.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE`, listing names that are missing, unexpected, or of
            another shape.
    """
    expected = network.state_dict()
    misfits = {
        "missing": expected.keys() - state.keys(),
        "unexpected": state.keys() - expected.keys(),
        "of another shape": {
            name
            for name in expected.keys() & state.keys()
            if expected[name].shape != state[name].shape
        },
    }
    complaints = [f"{kind}: {_shortened(names)}" for kind, names in misfits.items() if names]
    if complaints:
        raise _unavailable(
            f"checkpoint {source} does not fit the architecture ({'; '.join(complaints)}); "
            "give the configuration that it was trained with",
            source,
        )
    network.load_state_dict(state)


def _shortened(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(ordered[:_NAMES_SHOWN])
    more = len(ordered) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _unavailable(message: str, file: Path) -> MaskwireError:
    return MaskwireError(ErrorCode.MODEL_UNAVAILABLE, message, resource=str(file))
