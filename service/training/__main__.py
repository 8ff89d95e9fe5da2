"""`python -m training`: train maskwire-nano, export its weights, look at its data.

`maskwire eval` scores weights: those that a settings file names as the `checkpoint` of a model.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from training.presets import PRESETS


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from training.train import train

    device = torch.device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(arguments.threads)
    preset = PRESETS[arguments.preset]
    if arguments.steps:
        preset = dataclasses.replace(preset, steps=arguments.steps)
    train(preset, arguments.seed, arguments.folder, device, arguments.start)


def _export(arguments: argparse.Namespace) -> None:
    from training.export import export_weights

    step = export_weights(arguments.folder / "checkpoint.pt", arguments.target)
    print(f"{arguments.target}: step {step}, {arguments.target.stat().st_size / 1e6:.1f} MB")


def _plot(arguments: argparse.Namespace) -> None:
    from training.plot import plot_log

    plot_log(arguments.folder / "log.csv", arguments.target)


def _scenes(arguments: argparse.Namespace) -> None:
    from training.samples import write_scenes

    written = write_scenes(arguments.seed, arguments.count, arguments.target)
    print(f"{arguments.target}: {arguments.count} scenes, {written} objects")


def main() -> None:
    """Reads the command line and runs one command."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train, or resume training, in a folder")
    train.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    train.add_argument("--folder", type=Path, required=True)
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--steps", type=int, default=0, help="instead of the preset's number")
    train.add_argument("--start", type=Path, help="exported weights to start from")
    train.add_argument("--device", default="cpu")
    train.add_argument("--threads", type=int, default=2)
    train.set_defaults(run=_train)
    export = commands.add_parser("export", help="write the averaged weights as safetensors")
    export.add_argument("--folder", type=Path, required=True)
    export.add_argument("--target", type=Path, required=True)
    export.set_defaults(run=_export)
    scenes = commands.add_parser("scenes", help="write labelled scenes of the generator")
    scenes.add_argument("--seed", type=int, default=977, help="training uses 1")
    scenes.add_argument("--count", type=int, default=10)
    scenes.add_argument("--target", type=Path, required=True)
    scenes.set_defaults(run=_scenes)
    plot = commands.add_parser("plot", help="draw the training curves")
    plot.add_argument("--folder", type=Path, required=True)
    plot.add_argument("--target", type=Path, required=True)
    plot.set_defaults(run=_plot)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
