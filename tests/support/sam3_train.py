"""Trains the SAM 3 test checkpoint: `python -m tests.support.sam3_train FILE --together 1500`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3VideoModel

from tests.support import sam3_tracker_training
from tests.support.sam3_checkpoint import configuration
from tests.support.sam3_training import (
    prepare,
    teach_answers,
    teach_following,
    teach_masks,
    teach_prompts,
    teach_sight,
    teach_together,
)


def main() -> None:
    """Train from the command line; a part is given its steps, and none keeps it as it is."""
    chosen = _options()
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(1)
    random = np.random.default_rng(chosen.seed)
    video = _network(chosen.file, chosen.tracker)

    def save() -> None:
        state = {name: tensor.half().contiguous() for name, tensor in video.state_dict().items()}
        save_file(state, chosen.out or chosen.file)

    rate = chosen.rate
    if chosen.sight:
        teach_sight(video, random, steps=chosen.sight, batch=32, rate=rate)
        save()
    if chosen.answers:
        teach_answers(video, random, steps=chosen.answers, batch=48, rate=rate, save=save)
        save()
    if chosen.together:
        batch = chosen.batch
        teach_together(video, random, steps=chosen.together, batch=batch, rate=rate, save=save)
        save()
    if chosen.masks:
        with_queries = chosen.with_queries
        teach_masks(
            video, random, steps=chosen.masks, batch=16, rate=rate, with_queries=with_queries
        )
        save()
    if chosen.prompts:
        if not chosen.further:
            sam3_tracker_training.begin_prompts(video)
        teach_prompts(video, random, steps=chosen.prompts, batch=24, rate=rate)
        save()
    if chosen.following:
        if not chosen.further:
            sam3_tracker_training.begin_following(video)
        teach_following(video, random, steps=chosen.following, batch=8, rate=rate, save=save)
        save()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="weights, float16 safetensors; read if there")
    for part in ("sight", "answers", "together", "masks", "prompts", "following"):
        parser.add_argument(f"--{part}", type=int, default=0, metavar="STEPS")
    parser.add_argument("--batch", type=int, default=24, help="scenes in a step of --together")
    parser.add_argument("--with-queries", action="store_true", help="--masks teaches them too")
    parser.add_argument("--further", action="store_true", help="the tracker was taught before")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where to write; the file itself where absent")
    parser.add_argument("--tracker", type=Path, help="other weights whose tracker is taken over")
    return parser.parse_args()


def _network(file: Path, tracker: Path | None) -> Any:
    """Return the network with the weights of a file, or a new one where there is none."""
    video = Sam3VideoModel(configuration())
    prepare(video)
    sam3_tracker_training.prepare(video)
    if file.is_file():
        state = load_file(file)
        if tracker:
            others = load_file(tracker)
            state |= {name: others[name] for name in state if name.startswith("tracker")}
        video.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return video.eval()


if __name__ == "__main__":
    main()
