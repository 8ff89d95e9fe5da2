"""The training loop: interactive rounds, averaging, checkpoints, a log.

A step trains on fresh windows and on windows of the step before, which got a corrective click and
their own last answer. All randomness comes from streams named by (seed, step), and a checkpoint
holds all that the next step needs, so that a resumed run ends with the same weights.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwire_server.engines.nano.network import SINGLE, NanoNetwork, WindowPrompts
from maskwire_server.engines.weights import read_state
from training.dataset import Chunk, ChunkLoader, join
from training.losses import Loss, click_weights, loss_of
from training.presets import Preset
from training.rounds import continue_round

LOG_EVERY = 20
CHECKPOINT_EVERY = 200
CHECKPOINT_NAME = "checkpoint.pt"
LOG_NAME = "log.csv"


def to_tensors(chunk: Chunk, device: torch.device) -> tuple[Tensor, WindowPrompts, Tensor]:
    """Colours (n, 3, s, s) in 0..1, prompts, and targets (n, 1, s, s) in 0..1."""
    colours = torch.from_numpy(chunk.colours).to(device).permute(0, 3, 1, 2).float() / 255
    targets = torch.from_numpy(chunk.targets).to(device)[:, None].float() / 255
    drawn = WindowPrompts(
        boxes=torch.from_numpy(chunk.boxes).to(device),
        clicks=torch.from_numpy(chunk.clicks).to(device),
        previous=torch.from_numpy(chunk.previous).to(device)[:, None],
    )
    return colours, drawn, targets


def widened(state: Mapping[str, Tensor], network: NanoNetwork) -> dict[str, Tensor]:
    """Weights to start from, in float32; inputs that they do not know yet count nothing."""
    wanted, floats = network.stem.weight, {name: value.float() for name, value in state.items()}
    known = floats["stem.weight"]
    if known.shape != wanted.shape:
        floats["stem.weight"] = torch.zeros_like(wanted)
        floats["stem.weight"][:, : known.shape[1]] = known
    return floats


class Trainer:
    """Network, average, optimiser and the windows that are carried to the next step."""

    def __init__(
        self, preset: Preset, seed: int, device: torch.device, start: Path | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.preset = preset
        self.seed = seed
        self.device = device
        self.step = 0
        self.network = NanoNetwork().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if start is not None:
            self.network.load_state_dict(widened(read_state(start), self.network))
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": preset.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=preset.peak_rate,
        )
        self._carried: Chunk | None = None

    def train_step(self, fresh: Chunk) -> tuple[Loss, Chunk]:
        """One optimiser step on fresh windows and on those carried over; returns its batch."""
        preset = self.preset
        carried = self._carried
        if carried is not None and carried.targets.shape[1] != fresh.targets.shape[1]:
            carried = None
        chunk = fresh if carried is None else join([fresh, carried])
        colours, drawn, targets = to_tensors(chunk, self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = preset.rate_at(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=preset.bf16):
            logits, quality = self.network(colours, drawn)
        weights = click_weights(drawn.clicks, targets.shape[-1], preset.click_weight)
        loss = loss_of(logits, quality, targets, weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._update_average()
        rng = np.random.default_rng([self.seed, 17, self.step])
        count = preset.batch - preset.fresh
        self._carried = continue_round(rng, chunk, logits.detach(), loss.iou, count)
        self.step += 1
        return loss, chunk

    def _update_average(self) -> None:
        decay = min(self.preset.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        carried = self._carried
        return {
            "preset": asdict(self.preset),
            "seed": self.seed,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "carried": None
            if carried is None
            else {k: torch.from_numpy(v) for k, v in asdict(carried).items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        carried = state["carried"]
        self._carried = (
            None if carried is None else Chunk(**{k: v.numpy() for k, v in carried.items()})
        )

    def save(self, path: Path) -> None:
        """Writes a checkpoint in one piece: a crash leaves the old one or the new one."""
        scratch = path.with_suffix(".partial")
        torch.save(self.state(), scratch)
        scratch.replace(path)


def summarise(loss: Loss, chunk: Chunk) -> dict[str, float]:
    """Loss and mean IoU of the single mask by kind of prompt."""
    iou = loss.iou.cpu().numpy()
    used = (chunk.clicks[..., 2] >= 0).sum(1)
    boxed, masked = ~np.isnan(chunk.boxes[:, 0]), chunk.previous[:, 0, 0] >= 0
    kinds: dict[str, NDArray[np.bool_]] = {
        "box": boxed & ~masked,
        "click": ~boxed & ~masked,
        "refine": masked & (used > 0),
        "mask": masked & (used == 0),
    }
    row = {"loss": float(loss.total.detach()), "quality_loss": float(loss.quality)}
    for name, chosen in kinds.items():
        row[name] = float(iou[chosen, SINGLE].mean()) if chosen.any() else float("nan")
    first = kinds["click"]
    row["click_best"] = float(iou[first, 1:].max(1).mean()) if first.any() else float("nan")
    return row


COLUMNS = (
    "step", "seconds", "rate", "size", "loss", "quality_loss",
    "box", "click", "click_best", "refine", "mask",
)  # fmt: skip


class Log:
    """Means over the last steps, appended to a CSV file and printed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._start = time.monotonic()
        if not path.exists():
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(COLUMNS)

    def add(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Takes the figures of a step; writes a line every `LOG_EVERY` steps."""
        self._rows.append(row)
        if trainer.step % LOG_EVERY:
            return
        keys = [key for key in COLUMNS if key in row]
        table = np.array([[entry[key] for key in keys] for entry in self._rows])
        counts = np.maximum((~np.isnan(table)).sum(0), 1)
        means = dict(zip(keys, np.nansum(table, 0) / counts, strict=True))
        last = trainer.step - 1
        line: dict[str, float] = {
            "step": trainer.step,
            "seconds": time.monotonic() - self._start,
            "rate": trainer.preset.rate_at(last),
            "size": trainer.preset.size_at(last),
            **means,
        }
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([f"{line[column]:.6g}" for column in COLUMNS])
        print(" ".join(f"{column} {line[column]:.4g}" for column in COLUMNS), flush=True)
        self._rows = []


def train(
    preset: Preset, seed: int, folder: Path, device: torch.device, start: Path | None = None
) -> Trainer:
    """Trains to the end of the preset, from the folder's checkpoint where there is one.

    Without a checkpoint it starts from the exported weights `start`, or from random ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(preset, seed, device, start)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.exists():
        trainer.restore(torch.load(checkpoint, map_location=device, weights_only=True))
        print(f"resumed at step {trainer.step}", flush=True)
    log = Log(folder / LOG_NAME)
    stream = (seed, preset.fresh, preset.open_scenes)
    loader = ChunkLoader(stream, preset.size_at, trainer.step, preset.workers)
    try:
        while trainer.step < preset.steps:
            loss, chunk = trainer.train_step(loader.get())
            log.add(trainer, summarise(loss, chunk))
            if trainer.step % CHECKPOINT_EVERY == 0 or trainer.step == preset.steps:
                trainer.save(checkpoint)
    finally:
        loader.close()
    return trainer
