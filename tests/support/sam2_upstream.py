"""The `sam2` package's own predictors on a checkpoint of the tests: the judges of parity."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.sam2.preprocessing import network_input
from tests.support.sam2_checkpoints import Sam2Files

# What upstream's `build_sam2` sets unless told otherwise; it takes only configurations by name.
_BUILD_SAM2_DEFAULTS = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


def upstream_predictor(files: Sam2Files) -> Any:
    """Return a `SAM2ImagePredictor` on the CPU for any configuration file and image size."""
    return _predictor(_network(files))


def upstream_official_predictor(config_name: str, checkpoint: Path) -> Any:
    """Return a `SAM2ImagePredictor` built exactly as upstream's README does, on the CPU."""
    from sam2.build_sam import build_sam2

    return _predictor(build_sam2(config_name, str(checkpoint), device="cpu"))


@dataclass(frozen=True)
class UpstreamMask:
    """What upstream makes of an object in a frame.

    Attributes:
        logits: At a quarter of the network's side.
        bitmap: At the frame's size.
        presence: Probability that the object is visible.
    """

    logits: NDArray[np.float32]
    bitmap: NDArray[np.bool_]
    presence: float


class UpstreamVideo:
    """A `SAM2VideoPredictor` on frames that it holds all at once, driven frame by frame.

    It sees exactly the pixels that our engine sees: the frames are prepared by our preprocessing,
    which `test_parity` compares with upstream's for still images.
    """

    def __init__(self, files: Sam2Files, frames: Sequence[NDArray[np.uint8]]) -> None:
        self.predictor = _network(
            files,
            _target_="sam2.sam2_video_predictor.SAM2VideoPredictor",
            # What `build_sam2_video_predictor` sets. It also fills holes, where upstream's CUDA
            # extension is built; without, filling only warns.
            binarize_mask_from_pts_for_mem_enc=True,
        )
        side, device = self.predictor.image_size, torch.device("cpu")
        images = torch.cat([network_input(frame, side, device) for frame in frames])
        height, width, _ = frames[0].shape
        with mock.patch("sam2.sam2_video_predictor.load_video_frames") as load:
            load.return_value = images, height, width
            self.state = self.predictor.init_state("frames of the test")
        # Upstream measures distances in time by the clip's length where that is under 16 frames; a
        # stream has no length.
        self.state["num_frames"] = max(len(frames), self.predictor.max_obj_ptrs_in_encoder)

    def encode(self, frame: int) -> None:
        """Encode a frame, so that what comes next finds it encoded."""
        with torch.inference_mode():
            self.predictor._get_image_feature(self.state, frame, batch_size=1)

    def follow(self, frame: int, frames: int = 1) -> dict[int, UpstreamMask]:
        """Follow all objects into a frame, and into those after it; masks are the last frame's."""
        ids: list[int] = []
        masks = None
        for at, ids, masks in self.predictor.propagate_in_video(  # noqa: B007
            self.state, start_frame_idx=frame, max_frame_num_to_track=frames - 1
        ):
            assert at >= frame
        return {
            object_id: self._mask(frame + frames - 1, object_id, ids, masks) for object_id in ids
        }

    def prompt(self, frame: int, prompts: ObjectPrompts) -> UpstreamMask:
        """Say something about an object: a mask alone, or a box, clicks or both."""
        if prompts.mask is not None:
            _, ids, masks = self.predictor.add_new_mask(
                self.state, frame, prompts.object_id, prompts.mask
            )
        else:
            box, has_points = prompts.box, len(prompts.points) > 0
            _, ids, masks = self.predictor.add_new_points_or_box(
                self.state,
                frame,
                prompts.object_id,
                points=prompts.points if has_points else None,
                labels=prompts.point_labels.astype(np.int32) if has_points else None,
                box=box and np.array([box.x_min, box.y_min, box.x_max, box.y_max], np.float32),
            )
        return self._mask(frame, prompts.object_id, ids, masks)

    def remove(self, object_id: int) -> None:
        self.predictor.remove_object(self.state, object_id)

    def _mask(self, frame: int, object_id: int, ids: Sequence[int], masks: Any) -> UpstreamMask:
        index = self.state["obj_id_to_idx"][object_id]
        output = next(
            outputs[kind][frame]
            for outputs in (
                self.state["temp_output_dict_per_obj"][index],
                self.state["output_dict_per_obj"][index],
            )
            for kind in ("cond_frame_outputs", "non_cond_frame_outputs")
            if frame in outputs[kind]
        )
        return UpstreamMask(
            logits=output["pred_masks"][0, 0].float().numpy(),
            bitmap=(masks[list(ids).index(object_id), 0] > 0).numpy(),
            presence=float(output["object_score_logits"].sigmoid()),
        )


def _network(files: Sam2Files, **settings: Any) -> Any:
    configuration: Any = OmegaConf.load(files.config)
    configuration.model.sam_mask_decoder_extra_args = _BUILD_SAM2_DEFAULTS
    configuration.model.update(settings)
    network = instantiate(configuration.model, _recursive_=True)
    state = torch.load(files.checkpoint, map_location="cpu", weights_only=True)["model"]
    network.load_state_dict(state)
    return network.eval()


def _predictor(network: Any) -> Any:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        predictor = SAM2ImagePredictor(network)
    # Upstream's sizes of the feature maps are those of 1024 px, whatever the network's size is.
    side = network.image_size
    predictor._bb_feat_sizes = [(side // stride,) * 2 for stride in (4, 8, 16)]
    return predictor
