"""SAM 2 checkpoints with random weights, made by the tests: no download, every path is real.

Masks of a random network mean nothing, but they depend on every weight, pixel and prompt, which is
what parity and isolation tests need. Three things are changed for that. The object-score head's
last bias is raised, because a random network otherwise says "no object" in video mode and answers
nothing. The decoder's attention is strengthened, because at random it is so even that prompts
hardly change the mask: so strengthened, a click 3 px away already lowers the IoU below 0.999. The
memory's attention and the mask's share in a memory are strengthened, because at random objects
that began with different masks are alike a frame later (IoU 0.997): so strengthened, 0.4 to 0.9;
more would let differences of rounding grow from frame to frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

_OBJECT_SCORE_BIAS = 10.0
_ATTENTION_GAIN = 4.0
_MEMORY_ATTENTION_GAIN = 2.0
_REMEMBERED_MASK_GAIN = 4.0


class Sam2Files(NamedTuple):
    """A model on disk: its configuration and its weights as torch's `{"model": state_dict}`."""

    config: Path
    checkpoint: Path


def build_small(folder: Path, *, seed: int = 0, side: int = 512) -> Sam2Files:
    """Write a SAM 2.1 network of 2.6 M parameters with random weights into a folder.

    At 512 px unless told otherwise; the side hardly changes the weights, but the time.
    """
    config = folder / "sam2_small.yaml"
    OmegaConf.save(_small_configuration(side), config)
    return Sam2Files(config, _write_random_weights(config, folder / "sam2_small.pt", seed))


def build_official_tiny(folder: Path, *, seed: int = 0) -> Sam2Files:
    """Write random weights for the published architecture hiera-tiny at 1024 px into a folder."""
    config = official_tiny_config()
    return Sam2Files(config, _write_random_weights(config, folder / "sam2.1_hiera_tiny.pt", seed))


def official_tiny_config() -> Path:
    """Return the configuration of hiera-tiny inside the `sam2` package."""
    import sam2

    return Path(sam2.__path__[0]) / "configs/sam2.1/sam2.1_hiera_t.yaml"


def _small_configuration(side: int) -> Any:
    """Shrink the published configuration; the places that must agree are set together."""
    configuration = OmegaConf.load(official_tiny_config())
    model = configuration.model
    width, memory_width = 64, 16
    model.image_size = side
    trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
    trunk.embed_dim, trunk.stages, trunk.global_att_blocks = 32, [1, 2, 3, 1], [4]
    neck.d_model = neck.position_encoding.num_pos_feats = width
    neck.backbone_channel_list = [256, 128, 64, 32]
    attention = model.memory_attention
    attention.d_model = attention.layer.d_model = width
    attention.num_layers, attention.layer.dim_feedforward = 2, 256
    attention.layer.cross_attention.kv_in_dim = memory_width
    for part in (attention.layer.self_attention, attention.layer.cross_attention):
        part.embedding_dim, part.feat_sizes = width, [side // 16, side // 16]
    memory = model.memory_encoder
    memory.in_dim = memory.mask_downsampler.embed_dim = memory.fuser.layer.dim = width
    memory.out_dim = memory.position_encoding.num_pos_feats = memory_width
    return configuration


def _write_random_weights(config: Path, checkpoint: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = instantiate(OmegaConf.load(config).model, _recursive_=True)
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(_OBJECT_SCORE_BIAS)
        for name, weights in network.sam_mask_decoder.transformer.named_parameters():
            if "attn" in name and name.endswith("proj.weight"):
                weights.mul_(_ATTENTION_GAIN)
        for name, weights in network.memory_attention.named_parameters():
            if "cross_attn" in name and name.endswith("proj.weight"):
                weights.mul_(_MEMORY_ATTENTION_GAIN)
        network.memory_encoder.mask_downsampler.encoder[-1].weight.mul_(_REMEMBERED_MASK_GAIN)
    torch.save({"model": network.state_dict()}, checkpoint)
    return checkpoint
