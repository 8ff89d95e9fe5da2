"""Writes scenes of the generator to disk, in the form that the evaluation reads.

For looking at what the network learns from, and for scores on scenes that training never saw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.dataset import LEAST_VISIBLE, SMALLEST_TARGET
from training.scenes import make_scene
from training.textures import TextureBank


def write_scenes(seed: int, count: int, folder: Path) -> int:
    """Writes `count` scenes as `<index>/image.jpg` with a PNG per object; returns the objects."""
    bank = TextureBank(seed)
    written = 0
    for index in range(count):
        scene = make_scene(seed, index, bank)
        place = folder / f"{index:04d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(place / "image.jpg", quality=95)
        for number in range(1, len(scene.areas)):
            mask = scene.objects == number
            if mask.sum() < max(SMALLEST_TARGET, LEAST_VISIBLE * scene.areas[number]):
                continue
            Image.fromarray(mask.astype(np.uint8) * 255).save(place / f"{number}.png")
            written += 1
    return written
