"""Draws the curves of a training run from its log."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # the backend must be chosen first

_CURVES = ("box", "click", "click_best", "refine", "mask")
_WINDOW = 10


def plot_log(log: Path, target: Path) -> None:
    """Writes a picture with IoU by kind of prompt, loss and learning rate over the steps."""
    with log.open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(9, 8), sharex=True)
    for name in _CURVES:
        upper.plot(columns["step"], _smoothed(columns[name]), label=name)
    upper.set_ylabel("IoU on fresh synthetic windows")
    upper.set_ylim(0, 1)
    upper.legend()
    lower.plot(columns["step"], _smoothed(columns["loss"]), color="black", label="loss")
    lower.set_ylabel("loss")
    rate = lower.twinx()
    rate.plot(columns["step"], columns["rate"], color="grey", linestyle=":")
    rate.set_ylabel("learning rate")
    lower.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(target, dpi=100)
    pyplot.close(figure)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Running mean over the last lines of the log."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    starts = np.maximum(np.arange(len(values)) + 1 - _WINDOW, 0)
    ends = np.arange(len(values)) + 1
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
