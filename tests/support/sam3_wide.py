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
from transformers import Sam3VideoModel

from tests.support import sam3_checkpoint

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
        sam3_checkpoint.randomise_zeros(model)
        head = model.tracker_model.mask_decoder.pred_obj_score_head
        head.proj_out.bias.fill_(2.0)
    model.save_pretrained(folder)
    sam3_checkpoint.write_processor(folder, configuration)
    return folder
