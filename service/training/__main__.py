"""`python -m training`: train maskwire-nano, export its weights, score them, look at its data."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from training.presets import PRESETS
    from training.train import train

    device = torch.device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(arguments.threads)
    preset = PRESETS[arguments.preset]
    if arguments.steps:
        preset = dataclasses.replace(preset, steps=arguments.steps)
    train(preset, arguments.seed, arguments.folder, device)


def _export(arguments: argparse.Namespace) -> None:
    from training.export import export_weights

    step = export_weights(arguments.folder / "checkpoint.pt", arguments.target)
    print(f"{arguments.target}: step {step}, {arguments.target.stat().st_size / 1e6:.1f} MB")


def _evaluate(arguments: argparse.Namespace) -> None:
    import torch

    from maskwire_server.domain.engine import ModelSpecification
    from maskwire_server.engines.nano import NanoEngineFactory
    from training.evaluate import evaluate

    torch.set_num_threads(arguments.threads)
    specification = ModelSpecification("maskwire-nano", "nano", arguments.weights)
    engine = NanoEngineFactory().load(specification)
    scores = evaluate(engine, arguments.pictures, arguments.most_clicks, arguments.out)
    print(json.dumps(scores.summary(), indent=2))


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
    train.add_argument("--preset", choices=["cpu", "gpu", "smoke"], default="cpu")
    train.add_argument("--folder", type=Path, required=True)
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--steps", type=int, default=0, help="instead of the preset's number")
    train.add_argument("--device", default="cpu")
    train.add_argument("--threads", type=int, default=2)
    train.set_defaults(run=_train)
    export = commands.add_parser("export", help="write the averaged weights as safetensors")
    export.add_argument("--folder", type=Path, required=True)
    export.add_argument("--target", type=Path, required=True)
    export.set_defaults(run=_export)
    evaluate = commands.add_parser("evaluate", help="score weights on labelled pictures")
    evaluate.add_argument("pictures", type=Path, help="<scene>/image.jpg and one PNG per object")
    evaluate.add_argument("--weights", type=Path, help="instead of the bundled ones")
    evaluate.add_argument("--out", type=Path, help="folder for the masks of the box prompts")
    evaluate.add_argument("--most-clicks", type=int, default=20)
    evaluate.add_argument("--threads", type=int, default=2)
    evaluate.set_defaults(run=_evaluate)
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
