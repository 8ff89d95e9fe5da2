"""The palette: stable by id, and told apart with any colour vision."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from maskwire_server.domain.palette import PALETTE, object_colour, outline_colour

# What the eye sees of linear RGB: Machado, Oliveira, Fernandes, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency" (2009), severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
LEAST_DISTANCE = 16.0  # that of the closest two of Okabe and Ito's seven


def seen_as_lab(colours, vision):
    srgb = np.array(colours) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1).astype(np.float32)
    return cv2.cvtColor(seen[None], cv2.COLOR_LRGB2LAB)[0]


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colours_are_told_apart(vision):
    lab = seen_as_lab(PALETTE, vision)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() >= LEAST_DISTANCE


def test_an_id_has_one_colour_and_the_palette_repeats():
    assert len({object_colour(number) for number in range(1, 17)}) == len(PALETTE) == 16
    assert object_colour(1) == object_colour(17) == (86, 180, 233)
    assert object_colour(0) in PALETTE
    assert object_colour(2**31 - 1) in PALETTE


def test_outlines_are_lighter_than_fills():
    for number in range(1, 17):
        assert sum(outline_colour(number)) > sum(object_colour(number))
