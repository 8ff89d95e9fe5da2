"""A SAM 3 network at random that upstream can run on video, for comparisons with it.

Upstream's tracker reads object pointers only where the network is wider than a memory (64), which
the network of `sam3_checkpoint` is not. The thresholds let a network at random find, follow, lose
and drop objects all the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Sam2VideoVideoProcessor,
    Sam3ImageProcessor,
    Sam3VideoModel,
    Sam3VideoProcessor,
)

from tests.support import sam3_checkpoint
from tests.support.sam3_checkpoint import MASK_SIDE, SIDE

WIDTH = 128


def write(folder: Path, **changes: Any) -> Path:
    """Write the checkpoint with changes of its configuration; return the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sam3_checkpoint, "WIDTH", WIDTH)
        configuration = sam3_checkpoint.configuration()
    for name, value in changes.items():
        setattr(configuration, name, value)
    torch.manual_seed(5)
    model = Sam3VideoModel(configuration)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                torch.nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, torch.nn.Embedding):
                torch.nn.init.normal_(module.weight, std=0.5)
        head = model.tracker_model.mask_decoder.pred_obj_score_head
        head.proj_out.bias.fill_(2.0)
    model.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    mask_size = {"height": MASK_SIDE, "width": MASK_SIDE}
    Sam3VideoProcessor(
        Sam3ImageProcessor(size=size, mask_size=mask_size),
        Sam2VideoVideoProcessor(size=size, mask_size=mask_size),  # type: ignore[call-arg]
        sam3_checkpoint.tokenizer(),
    ).save_pretrained(folder)
    return folder
