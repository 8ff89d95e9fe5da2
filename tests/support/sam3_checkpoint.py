"""The SAM 3 test checkpoint: small configurations of the real classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPTokenizer,
    Sam3ImageProcessor,
    Sam3Processor,
    Sam3VideoConfig,
    Sam3VideoModel,
)

SIDE, PATCH = 168, 14
_TOKENS = SIDE // PATCH
_WIDTH = 48


def configuration() -> Sam3VideoConfig:
    vision: dict[str, Any] = {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
            "pretrain_image_size": SIDE // 2,
            "window_size": _TOKENS // 2,
            "global_attn_indexes": [1, 2],
        },
        "fpn_hidden_size": _WIDTH,
        "backbone_feature_sizes": [[_TOKENS * n, _TOKENS * n] for n in (4, 2, 1)],
    }
    attention = {"hidden_size": _WIDTH, "num_attention_heads": 4, "intermediate_size": 96}
    detector = {
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
        "detr_decoder_config": {**attention, "num_layers": 3, "num_queries": 16, "dropout": 0.0},
        "mask_decoder_config": {"hidden_size": _WIDTH, "num_attention_heads": 4},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": SIDE,
        "prompt_encoder_config": {
            "hidden_size": _WIDTH,
            "image_size": SIDE,
            "patch_size": PATCH,
            "mask_input_channels": 8,
        },
        "mask_decoder_config": {
            "hidden_size": _WIDTH,
            "mlp_dim": 96,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": _WIDTH,
        },
        "memory_attention_hidden_size": _WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 96,
        "memory_attention_rope_feat_sizes": [_TOKENS, _TOKENS],
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_encoder_hidden_size": _WIDTH,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": _WIDTH,
        "memory_fuser_num_layers": 1,
        "memory_fuser_embed_dim": _WIDTH,
        "memory_fuser_intermediate_dim": 64,
    }
    return Sam3VideoConfig(
        detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * _TOKENS
    )


def tokenizer() -> CLIPTokenizer:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = list(bytes_to_unicode().values())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])


if __name__ == "__main__":
    m = Sam3VideoModel(configuration())
    print(sum(p.numel() for p in m.parameters()))
    for n, c in m.named_children():
        print(n, sum(p.numel() for p in c.parameters()))
        for k, d in c.named_children():
            print("  ", k, sum(p.numel() for p in d.parameters()))
    t = tokenizer()
    print(t("red disc", padding="max_length", max_length=32))
