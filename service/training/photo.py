"""What a camera, a printer or a painter's light does to a finished picture.

All functions take and return height x width x 3 float32 images around 0..1 and change no
geometry, so the labels of a scene stay valid.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.textures import random_colour

Image = NDArray[np.floating[Any]]
Generator = np.random.Generator


def _smooth_field(rng: Generator, height: int, width: int, cells: int) -> NDArray[np.float32]:
    coarse = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32
    )


def _blurred(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def light(rng: Generator, image: Image, low_key: bool) -> Image:
    """Uneven light: slow gradients, a spot, and hard patches of sun or shade across everything."""
    height, width = image.shape[:2]
    if rng.random() < 0.6 or low_key:
        field = _smooth_field(rng, height, width, int(rng.integers(2, 5)))
        strength = rng.uniform(0.4, 0.9) if low_key else rng.uniform(0.05, 0.5)
        image = image * (1 - strength + strength * field[..., None])
    if rng.random() < 0.15:
        mask = np.zeros((height, width), np.uint8)
        corners = rng.uniform(-0.3, 1.3, (4, 2)) * [width, height]
        cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 255, cv2.LINE_AA)
        soft = cv2.blur(mask, (int(rng.integers(1, 15)),) * 2).astype(np.float32)[..., None] / 255
        image = image * (1 + rng.uniform(-0.5, 0.5) * soft)
    return np.asarray(image, np.float32)


def grade(rng: Generator, image: Image, low_key: bool) -> Image:
    """Exposure, contrast, colour cast, saturation; sometimes grey, sepia or nearly black."""
    tint: Image = 1 + rng.normal(0, 0.06, 3)
    if rng.random() < 0.15:
        tint = 0.6 + 0.8 * random_colour(rng)
    image = image * tint.astype(np.float32)
    saturation = rng.choice([0.0, rng.uniform(0.2, 1.3)], p=[0.06, 0.94])
    grey = image.mean(2, keepdims=True)
    image = grey + saturation * (image - grey)
    bent = np.clip(image, 0, 1) ** np.exp(rng.normal(0.35 if low_key else 0.0, 0.25))
    gain = rng.uniform(0.5, 1.0) if low_key else np.exp(rng.normal(0, 0.15))
    lift = rng.uniform(-0.06, 0.1)
    return np.asarray(bent * gain + lift, np.float32)


def lens(rng: Generator, image: Image) -> Image:
    """Vignetting, defocus, motion blur and haze."""
    height, width = image.shape[:2]
    if rng.random() < 0.3:
        ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        falloff = 1 - rng.uniform(0.1, 0.5) * (xs**2 + ys**2) / 2
        image = image * falloff[..., None].astype(np.float32)
    chance = rng.random()
    if chance < 0.45:
        image = _blurred(image, rng.uniform(0.3, 1.4))
    elif chance < 0.5:
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1.0 / length
        turn = cv2.getRotationMatrix2D(((length - 1) / 2,) * 2, rng.uniform(0, 180), 1.0)
        streak = np.asarray(cv2.warpAffine(kernel, turn, (length, length)), np.float32)
        image = np.asarray(cv2.filter2D(image, -1, streak / max(float(streak.sum()), 1e-3)))
    elif chance < 0.6:  # oversharpened, as cameras and scalers leave it
        image = image + rng.uniform(0.3, 1.5) * (image - _blurred(image, 1.2))
    return np.asarray(image, np.float32)


def sensor(rng: Generator, image: Image) -> NDArray[np.uint8]:
    """Noise, rounding to 8 bits and JPEG; returns uint8."""
    if rng.random() < 0.6:
        sigma = rng.exponential(0.015)
        noise: Image = rng.standard_normal(image.shape, dtype=np.float32) * sigma
        if rng.random() < 0.3:
            noise = _blurred(noise, 0.8) * 2
        image = image + noise
    pixels = np.asarray(np.clip(image, 0, 1) * 255, np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(35, 96))
        _, buffer = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def develop(rng: Generator, image: Image, low_key: bool = False) -> NDArray[np.uint8]:
    """The whole chain from a painted scene to an 8-bit picture."""
    image = light(rng, image, low_key)
    image = grade(rng, image, low_key)
    image = lens(rng, image)
    return sensor(rng, image)
