"""The SAM 3 test checkpoint: the real classes in a small configuration, trained on shapes.

The weights (`data/sam3_shapes.safetensors`, float16) know the concepts of `sam3_scenes`; how well
is measured on questions drawn by chance (`sam3_drawn_questions`). `sam3_train` made them, in two
hours of two cores: sight for 800 steps, answers for 1,200, both together for 1,500 of 24 scenes and
2,300 of 48, masks for 500 and, with the queries, for 1,300; then the tracker: prompts for 1,800
steps, following for 600, prompts for 700 more, following for 300 more.

`write` makes the folder that `transformers` loads: one `Sam3VideoModel`, from which `Sam3Model`,
`Sam3TrackerModel` and `Sam3TrackerVideoModel` load too, as from the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTokenizer,
    Sam2VideoVideoProcessor,
    Sam3ImageProcessor,
    Sam3VideoConfig,
    Sam3VideoProcessor,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

WEIGHTS = Path(__file__).parent / "data" / "sam3_shapes.safetensors"
SIDE, PATCH = 140, 14
GRID_SIDE = SIDE // PATCH
MASK_SIDE = 4 * GRID_SIDE
WIDTH = 64
QUERIES_PER_SIDE = 4


def write(folder: Path) -> Path:
    """Write the checkpoint into a folder, which is made where it does not exist; return it."""
    state = {name: tensor.to(torch.float32) for name, tensor in load_file(WEIGHTS).items()}
    return write_published(folder, state, configuration())


def write_published(
    folder: Path, state: Mapping[str, torch.Tensor], configuration: Sam3VideoConfig
) -> Path:
    """Write a network as SAM 3 is published, with the names that its tensors have there."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), folder / "model.safetensors", metadata={"format": "pt"})
    configuration.save_pretrained(folder)
    write_processor(folder, configuration)
    return folder


def randomise_zeros(model: torch.nn.Module) -> None:
    """Give values to parameters that begin as zeros: what is done with zeros is not seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)


def write_processor(folder: Path, configuration: Sam3VideoConfig) -> None:
    """Write what prepares a network's input, with a tokenizer that spells."""
    side, mask_side = configuration.image_size, configuration.low_res_mask_size
    size = {"height": side, "width": side}
    mask_size = {"height": mask_side, "width": mask_side}
    Sam3VideoProcessor(
        Sam3ImageProcessor(size=size, mask_size=mask_size),
        Sam2VideoVideoProcessor(size=size, mask_size=mask_size),  # type: ignore[call-arg]
        tokenizer(),
    ).save_pretrained(folder)


def configuration() -> Sam3VideoConfig:
    """Return the small configuration; the places that must agree are set together."""
    vision = _vision()
    return Sam3VideoConfig(
        architectures=["Sam3VideoModel"],
        detector_config=_detector(vision),
        tracker_config=_tracker(vision),
        low_res_mask_size=MASK_SIDE,
    )


def tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer that spells: an alphabet of bytes and no merges."""
    alphabet = list(bytes_to_unicode().values())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])


def _vision() -> dict[str, Any]:
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "image_size": SIDE,
            "patch_size": PATCH,
            "pretrain_image_size": SIDE,
            "window_size": GRID_SIDE // 2,
            "global_attn_indexes": [1, 2, 3],
        },
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[GRID_SIDE * n, GRID_SIDE * n] for n in (4, 2, 1)],
    }


def _detector(vision: dict[str, Any]) -> dict[str, Any]:
    attention = {"hidden_size": WIDTH, "num_attention_heads": 4, "intermediate_size": 96}
    return {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
            "bos_token_id": 512,
            "eos_token_id": 513,
        },
        "geometry_encoder_config": {**attention, "num_layers": 1, "dropout": 0.0, "roi_size": 3},
        "detr_encoder_config": {**attention, "num_layers": 2, "dropout": 0.0},
        "detr_decoder_config": {
            **attention,
            "num_layers": 3,
            "num_queries": QUERIES_PER_SIDE**2,
            "dropout": 0.0,
        },
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 4},
    }


def _tracker(vision: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": SIDE,
        "prompt_encoder_config": {
            "hidden_size": WIDTH,
            "image_size": SIDE,
            "patch_size": PATCH,
            "mask_input_channels": 8,
        },
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": 96,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": WIDTH,
        },
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 96,
        "memory_attention_rope_feat_sizes": [GRID_SIDE, GRID_SIDE],
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_num_layers": 1,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 64,
    }
