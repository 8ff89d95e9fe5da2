"""Decoding visual prompts on an embedding, whatever size of the image the model saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .engine import ObjectPrediction
from .executor import Completed
from .image_access import EncodedImage
from .inference_size import enlarge_predictions, reduce_prompts
from .models import ServedModel
from .observer import Observer
from .prompts import ObjectPrompts


@dataclass(frozen=True, slots=True)
class Decoded:
    """Answers, and the prompts that they answer.

    Attributes:
        predictions: The answers for each object.
        prompts: What was decoded; what a concept found and nothing else was said about is not
            among it.
    """

    predictions: list[ObjectPrediction]
    prompts: tuple[ObjectPrompts, ...]


async def decode_objects(
    model: ServedModel,
    encoded: EncodedImage,
    objects: Sequence[ObjectPrompts],
    observer: Observer,
    *,
    multimask: bool,
    is_refusable: bool = True,
) -> Completed[list[ObjectPrediction]]:
    """Decode prompts on the executor of the model.

    Args:
        model: The model.
        encoded: What it made of the image.
        objects: At least one, in the frame of the image; so are the answers.
        observer: Hears how long it took.
        multimask: Whether alternatives are wanted.
        is_refusable: Whether a full queue refuses it.

    Raises:
        MaskwireError: `OVERLOADED`, `MODEL_UNAVAILABLE`.
    """
    size, seen = encoded.info.size, encoded.embedding.image_size

    def decode() -> list[ObjectPrediction]:
        prompts = objects if seen == size else reduce_prompts(objects, size, seen)
        predictions = model.engine.decode(encoded.embedding, prompts, multimask=multimask)
        return predictions if seen == size else enlarge_predictions(predictions, seen, size)

    decoded = await model.run(decode, is_refusable=is_refusable)
    name = model.description.name
    observer.stage_finished("prompt", name, decoded.run_s, decoded.ended_s)
    observer.batch_decoded(name, len(objects))
    return decoded
