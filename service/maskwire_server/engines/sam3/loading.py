"""Reads a SAM 3 checkpoint: a folder as `transformers` writes it and the model hub has it.

The folder holds `config.json` of a `Sam3VideoModel` (the published form: detector and tracker in
one), its weights as `model.safetensors` or in shards, and the processor's and tokenizer's files.
Weights in other formats are not read.

`Sam3VideoModel.save_pretrained` writes the tracker's tensors with a doubled prefix
(`tracker_model.tracker_model.`), unlike the published checkpoint. Both spellings are read, the
doubled one by `_KEY_CONVERSION`. Whatever the spelling, every tensor must have its place and every
place its tensor: a load that would leave a weight at random is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import Sam3Processor, Sam3VideoConfig, Sam3VideoModel
from transformers.utils import logging

from maskwire_server.domain.errors import ErrorCode, MaskwireError

_KEY_CONVERSION = {r"^tracker_model\.tracker_model\.": "tracker_model."}
_CONFIGURATION, _MODEL_TYPE = "config.json", "sam3_video"
_WEIGHTS, _SHARDS = "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "vocab.json")
_NAMES_SHOWN = 8
_MISFITS = {
    "missing_keys": "missing",
    "unexpected_keys": "unexpected",
    "mismatched_keys": "of another shape",
}


@dataclass(frozen=True, slots=True)
class Sam3Parts:
    """What a folder holds, loaded on the CPU.

    Attributes:
        model: A `Sam3VideoModel` in evaluation mode, float32.
        image_processor: Turns pixels into the network's input.
        tokenizer: Turns texts into tokens.
    """

    model: Any
    image_processor: Any
    tokenizer: Any


def load_parts(folder: Path) -> Sam3Parts:
    """Load the network and what prepares its input.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where a file is missing or damaged, the folder holds
            another kind of model, or its tensors do not fit its configuration: their names.
    """
    _refuse_other_contents(folder)
    try:
        with _no_progress_bar():
            processor = Sam3Processor.from_pretrained(folder, local_files_only=True)
            configuration = Sam3VideoConfig.from_pretrained(folder, local_files_only=True)
            _refuse_other_size(processor.image_processor, configuration.image_size, folder)
            # Annotated as if it always returned the model alone.
            load: Any = Sam3VideoModel.from_pretrained
            model, report = load(
                folder,
                config=configuration,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                key_mapping=_KEY_CONVERSION,
                ignore_mismatched_sizes=True,  # so that they are reported by name
                output_loading_info=True,
            )
            names = _names_in(folder)
    except MaskwireError:
        raise
    except Exception as error:  # upstream raises whatever its code meets in a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise _unavailable(f"checkpoint {folder} cannot be read: {reason}", folder) from error
    _refuse_misfits(report, _swallowed(names, model), folder)
    return Sam3Parts(model.eval(), processor.image_processor, processor.tokenizer)


def read_parameters(folder: Path, wanted: Collection[str]) -> Mapping[str, torch.Tensor]:
    """Read the parameters of a folder that was loaded before, under the loaded network's names.

    The files are read as they are where they use these names, as published ones do: a small network
    takes 5 ms then, and half a second through `load_parts`.

    Raises:
        MaskwireError: As `load_parts`.
    """
    ((doubled, single),) = _KEY_CONVERSION.items()
    try:
        stored: dict[str, torch.Tensor] = {}
        for file in _weight_files(folder):
            stored.update(load_file(file))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _unavailable(f"checkpoint {folder} cannot be read: {error}", folder) from error
    state = {re.sub(doubled, single, name): tensor for name, tensor in stored.items()}
    if state.keys() >= set(wanted):
        return state
    converted: Mapping[str, torch.Tensor] = load_parts(folder).model.state_dict()
    return converted


def _refuse_other_contents(folder: Path) -> None:
    """Check what upstream would fill with defaults: a whole network, or a tokenizer of no words."""
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise _unavailable(f"checkpoint {folder} has no {' or '.join(_TOKENIZERS)}", folder)
    try:
        stated = json.loads((folder / _CONFIGURATION).read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unavailable(
            f"checkpoint {folder} has no {_CONFIGURATION} with a model_type", folder
        ) from error
    if stated != _MODEL_TYPE:
        raise _unavailable(
            f"checkpoint {folder} is not of a Sam3VideoModel, which is how SAM 3 is published: "
            f"its {_CONFIGURATION} says {stated}, not {_MODEL_TYPE}",
            folder,
        )


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that upstream loads; others, such as a copy, may lie beside them."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = json.loads((folder / _SHARDS).read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]


def _names_in(folder: Path) -> set[str]:
    names: set[str] = set()
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as weights:
            names.update(weights.keys())
    return names


def _swallowed(names: Iterable[str], model: Any) -> list[str]:
    """Return the tracker's tensors that have no place; upstream's report leaves them out.

    The detector, which can be loaded alone from the same folder, ignores what is the tracker's, and
    upstream lets that hold for the model that has both.
    """
    places = model.state_dict().keys()
    ((doubled, single),) = _KEY_CONVERSION.items()
    return [
        name
        for name in names
        if name.startswith("tracker_") and re.sub(doubled, single, name) not in places
    ]


def _refuse_misfits(report: Mapping[str, Any], swallowed: Iterable[str], folder: Path) -> None:
    reported = {kind: set(_names(report.get(kind) or ())) for kind in _MISFITS}
    reported["unexpected_keys"].update(swallowed)
    complaints = [
        f"{word}: {_shortened(reported[kind])}" for kind, word in _MISFITS.items() if reported[kind]
    ]
    if report.get("error_msgs"):
        complaints.append(f"not converted: {_shortened(map(str, report['error_msgs']))}")
    if complaints:
        raise _unavailable(
            f"checkpoint {folder} does not fit its configuration ({'; '.join(complaints)})", folder
        )


def _refuse_other_size(image_processor: Any, side: int, folder: Path) -> None:
    size = image_processor.size
    if (size["height"], size["width"]) != (side, side):
        raise _unavailable(
            f"checkpoint {folder} has a processor for {size['width']} by {size['height']} px, "
            f"but a network for {side} by {side} px",
            folder,
        )


def _names(reported: Iterable[Any]) -> Iterator[str]:
    """Yield names; tensors of another shape are reported with both shapes."""
    for entry in reported:
        yield entry if isinstance(entry, str) else str(entry[0])


def _shortened(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(ordered[:_NAMES_SHOWN])
    more = len(ordered) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _unavailable(message: str, folder: Path) -> MaskwireError:
    return MaskwireError(ErrorCode.MODEL_UNAVAILABLE, message, resource=str(folder))
