"""Procedural textures: a bank of grey fields and the colouring that turns one into a surface.

A `TextureBank` is drawn once per process from a seed; `surface` then cuts, turns and colours a
random field for each patch that a scene needs, which costs far less than synthesising it anew.
Shading, shapes and photographic effects live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Generator = np.random.Generator

FIELD_SIZE = 256


def normalise(field: NDArray[np.floating]) -> Field:
    """Stretches a field to the range 0..1 (float32, same shape)."""
    low, high = float(field.min()), float(field.max())
    return np.asarray((field - low) / max(high - low, 1e-6), np.float32)


def fractal_noise(
    rng: Generator, height: int, width: int, exponent: float, stretch: float = 1.0
) -> Field:
    """Gaussian noise with a power-law spectrum, in 0..1.

    `exponent` is the fall-off of the amplitude with frequency (0 white, 2 smooth clouds);
    `stretch` above 1 draws the structures out horizontally.
    """
    frequency_y = np.fft.fftfreq(height)[:, None]
    frequency_x = np.fft.rfftfreq(width)[None, :] * stretch
    radius = np.sqrt(frequency_y**2 + frequency_x**2)
    radius[0, 0] = 1.0
    amplitude = radius**-exponent
    amplitude[0, 0] = 0.0
    phase = rng.normal(size=amplitude.shape) + 1j * rng.normal(size=amplitude.shape)
    return normalise(np.fft.irfft2(phase * amplitude, s=(height, width)))


def _grid() -> tuple[Field, Field]:
    ys, xs = np.mgrid[0:FIELD_SIZE, 0:FIELD_SIZE].astype(np.float32)
    return ys, xs


def _warped_coordinate(rng: Generator, amount: float) -> Field:
    """A coordinate that runs in a random direction and is bent by noise (pixels)."""
    ys, xs = _grid()
    angle = rng.uniform(0, np.pi)
    bend = fractal_noise(rng, FIELD_SIZE, FIELD_SIZE, 1.8) - 0.5
    return np.asarray(np.cos(angle) * xs + np.sin(angle) * ys + amount * bend, np.float32)


def clouds(rng: Generator) -> Field:
    """Fractal noise of a random roughness."""
    return fractal_noise(
        rng, FIELD_SIZE, FIELD_SIZE, rng.uniform(0.6, 2.0), rng.choice([1, 1, 3, 8])
    )


def patches(rng: Generator) -> Field:
    """Noise cut at two levels: camouflage, spots, peeling paint."""
    field = fractal_noise(rng, FIELD_SIZE, FIELD_SIZE, rng.uniform(1.2, 2.0))
    levels = np.sort(rng.uniform(0.3, 0.7, size=2))
    return np.asarray(0.5 * (field > levels[0]) + 0.5 * (field > levels[1]), np.float32)


def stripes(rng: Generator) -> Field:
    """Hard or soft stripes, straight or bent."""
    period = rng.uniform(8, 50)
    wave = np.sin(2 * np.pi * _warped_coordinate(rng, rng.choice([0, 0, 30, 120])) / period)
    return normalise(np.tanh(wave * rng.choice([0.5, 2.0, 8.0])))


def plaid(rng: Generator) -> Field:
    """Two crossing sets of stripes."""
    ys, xs = _grid()
    period_x, period_y = rng.uniform(12, 60, size=2)
    hardness = rng.choice([2.0, 8.0])
    across = np.tanh(hardness * np.sin(2 * np.pi * xs / period_x))
    along = np.tanh(hardness * np.sin(2 * np.pi * ys / period_y))
    return normalise(across * along if rng.random() < 0.4 else across + along)


def bricks(rng: Generator) -> Field:
    """Rows of shifted blocks with joints; each block has its own grey."""
    height = int(rng.integers(14, 48))
    width = int(height * rng.uniform(1.0, 3.5))
    field = np.full((FIELD_SIZE, FIELD_SIZE), rng.choice([0.0, 1.0]), np.float32)
    joint = int(rng.integers(1, 4))
    for row in range(FIELD_SIZE // height + 1):
        shift = int(rng.integers(0, width))
        for column in range(-1, FIELD_SIZE // width + 1):
            left, top = column * width + shift, row * height
            corner = (left + width - joint, top + height - joint)
            cv2.rectangle(field, (left, top), corner, float(rng.uniform(0.35, 0.75)), -1)
    return field


def dots(rng: Generator) -> Field:
    """Polka dots on a grid, or scattered blots."""
    field = np.zeros((FIELD_SIZE, FIELD_SIZE), np.float32)
    period = int(rng.integers(10, 40))
    radius = int(max(2, period * rng.uniform(0.15, 0.4)))
    scatter = period * rng.choice([0.0, 0.5])
    for y in range(0, FIELD_SIZE + period, period):
        for x in range(0, FIELD_SIZE + period, period):
            centre = (np.array([x, y]) + rng.uniform(-scatter, scatter, size=2)).astype(int)
            cv2.circle(field, (int(centre[0]), int(centre[1])), radius, 1.0, -1, cv2.LINE_AA)
    return field


def cells(rng: Generator) -> Field:
    """Distance to the nearest of random seeds: pebbles, scales, leather, foliage."""
    seeds = np.ones((FIELD_SIZE, FIELD_SIZE), np.uint8)
    count = int(rng.integers(40, 500))
    seeds[rng.integers(0, FIELD_SIZE, count), rng.integers(0, FIELD_SIZE, count)] = 0
    return normalise(np.sqrt(cv2.distanceTransform(seeds, cv2.DIST_L2, 3)))


def folds(rng: Generator) -> Field:
    """Soft ridges as cloth falls."""
    wave = _warped_coordinate(rng, rng.uniform(40, 160)) / rng.uniform(18, 60)
    return normalise(np.abs(np.sin(wave)) ** rng.uniform(0.5, 1.5))


def wood(rng: Generator) -> Field:
    """Fine grain along one direction."""
    grain = fractal_noise(rng, FIELD_SIZE, FIELD_SIZE, 1.0, rng.uniform(8, 20))
    ring = np.sin(grain * rng.uniform(10, 40))
    return normalise(grain + 0.3 * ring)


def scribbles(rng: Generator) -> Field:
    """Strokes in all directions: hatching, grass, scratches, hair."""
    field = np.zeros((FIELD_SIZE, FIELD_SIZE), np.float32)
    angle, spread = rng.uniform(0, np.pi), rng.choice([0.2, 0.6, 3.0])
    for _ in range(int(rng.integers(30, 250))):
        start = rng.uniform(0, FIELD_SIZE, size=2)
        turn, length = angle + rng.normal(0, spread), rng.uniform(10, 90)
        end = start + length * np.array([np.cos(turn), np.sin(turn)])
        cv2.line(
            field,
            (int(start[0]), int(start[1])),
            (int(end[0]), int(end[1])),
            float(rng.uniform(0.4, 1.0)),
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
        )
    return field


def letters(rng: Generator) -> Field:
    """Lines of marks that look like writing or print."""
    page = np.zeros((FIELD_SIZE, FIELD_SIZE), np.uint8)
    height = int(rng.integers(8, 60))
    alphabet = np.array(list("ABCDEFGHKLMNOPRSTUXYZabcdehkmnorstu0123456789  "))
    for y in range(height, FIELD_SIZE, int(height * rng.uniform(1.2, 2.0))):
        text = "".join(rng.choice(alphabet, size=40))
        font, thickness = int(rng.integers(0, 8)), max(1, height // 10)
        cv2.putText(page, text, (-5, y), font, height / 30, 255, thickness, cv2.LINE_AA)
    return np.asarray(page / 255.0, np.float32)


FIELD_MAKERS: tuple[tuple[Callable[[Generator], Field], float], ...] = (
    (clouds, 5.0),
    (patches, 1.0),
    (stripes, 1.5),
    (plaid, 0.7),
    (bricks, 1.0),
    (dots, 0.6),
    (cells, 1.5),
    (folds, 2.5),
    (wood, 1.5),
    (scribbles, 1.0),
    (letters, 0.8),
)


class TextureBank:
    """A fixed set of grey fields (float32, 256 x 256, 0..1) drawn from one seed."""

    def __init__(self, seed: int, size: int = 160) -> None:
        rng = np.random.default_rng([seed, 7])
        weights = np.array([weight for _, weight in FIELD_MAKERS])
        chosen = rng.choice(len(FIELD_MAKERS), size=size, p=weights / weights.sum())
        self._fields = [FIELD_MAKERS[index][0](rng) for index in chosen]
        self._folds = [folds(rng) for _ in range(size // 8)]

    def cut(self, rng: Generator, height: int, width: int, zoom: float) -> Field:
        """A random, turned cut of a random field; `zoom` above 1 enlarges the pattern."""
        return self._cut(rng, self._fields, height, width, zoom)

    def cut_folds(self, rng: Generator, height: int, width: int, zoom: float) -> Field:
        """Like `cut`, of the cloth folds only; used as shading."""
        return self._cut(rng, self._folds, height, width, zoom)

    @staticmethod
    def _cut(rng: Generator, fields: list[Field], height: int, width: int, zoom: float) -> Field:
        field = fields[int(rng.integers(len(fields)))]
        angle = rng.choice([0.0, 90.0, rng.uniform(0, 360)])
        matrix = cv2.getRotationMatrix2D((0, 0), float(angle), float(zoom))
        matrix[:, 2] = rng.uniform(-FIELD_SIZE, FIELD_SIZE, size=2) * zoom
        # Minifying without a filter would alias stripes into noise.
        if zoom < 0.6:
            field = np.asarray(cv2.GaussianBlur(field, (0, 0), 0.4 / zoom), np.float32)
        flags = cv2.INTER_LINEAR
        return np.asarray(
            cv2.warpAffine(field, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP),
            np.float32,
        )


def random_colour(rng: Generator) -> NDArray[np.float32]:
    """An RGB colour (float32, 0..1): mostly muted, sometimes vivid, sometimes near grey."""
    hue = rng.uniform(0, 179) if rng.random() < 0.5 else rng.normal(15, 8) % 180
    saturation = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.15, 0.6), rng.uniform(0.6, 1.0)])
    value = np.clip(rng.beta(1.6, 1.4), 0.03, 1.0)
    hsv = np.array([[[hue, saturation * 255, value * 255]]]).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] / 255.0, np.float32)


def surface(
    rng: Generator,
    bank: TextureBank,
    height: int,
    width: int,
    base: NDArray[np.float32],
    contrast: float,
) -> NDArray[np.float32]:
    """A textured surface around a base colour.

    Returns height x width x 3, float32, about 0..1. `contrast` 0 gives the plain colour; 1 lets
    the second colour differ as much as two unrelated objects would.
    """
    if contrast <= 0.01:
        return np.tile(base.astype(np.float32), (height, width, 1))
    other = base + contrast * (random_colour(rng) - base)
    if rng.random() < 0.5:  # same hue, other brightness: cloth, wood, stone
        other = base * (1 + rng.uniform(-1, 1) * contrast)
    zoom = float(np.exp(rng.uniform(np.log(0.3), np.log(1.6))))
    field = bank.cut(rng, height, width, zoom)[..., None]
    return (base * (1 - field) + other * field).astype(np.float32)
