"""Training samples: windows of scenes with a target and a first prompt.

`make_sample` cuts one; `SampleStream` yields chunk after chunk, each a pure function of the seed
and the chunk's number, so that training resumes anywhere; `ChunkLoader` runs a stream in processes
of its own. Later rounds of clicking happen in the trainer, which has the network's answers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.engines.nano import windows
from training import prompts
from training.scenes import Scene, make_scene
from training.textures import TextureBank

Generator = np.random.Generator

MAXIMUM_CLICKS = 8
SMALLEST_TARGET = 90
"""Smallest target in pixels of the scene."""

SMALLEST_SEEN = 20
"""Least of a target that a window must show, in pixels of the window."""

LEAST_VISIBLE = 0.3
"""Least share of an object that must be in sight: nobody can say what a sliver belongs to."""

LEAST_CONTRAST = 5.0
"""Least standard deviation of a window's grey levels (0..255): darker than that shows nothing."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A batch of samples at one window size.

    `colours` (n, s, s, 3) uint8; `targets` (n, s, s) uint8, 255 inside; `boxes` (n, 4) float32 in
    0..1, NaN for none; `clicks` (n, MAXIMUM_CLICKS, 3) float32, label -1 for unused rows;
    `previous` (n, s, s) float32 probability, -1 for none.
    """

    colours: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    clicks: NDArray[np.float32]
    previous: NDArray[np.float32]


def choose_target(rng: Generator, scene: Scene) -> NDArray[np.bool_] | None:
    """A random object, group of parts or part that is visible enough; None where none is."""
    wanted = rng.random()
    numbers = np.unique(scene.objects)
    numbers = numbers[numbers > 0]
    if not len(numbers):
        return None
    number = int(rng.choice(numbers))
    whole = np.asarray(scene.objects == number)
    if whole.sum() < LEAST_VISIBLE * scene.areas[number]:
        return None
    mask = whole
    if wanted > 0.72:
        visible = np.unique(scene.parts[whole])
        visible = visible[visible > 0]
        part = int(rng.choice(visible))
        if wanted > 0.87:
            mask = np.asarray(scene.parts == part)
        else:
            group = scene.part_table[part, 1]
            kin = visible[scene.part_table[visible, 1] == group]
            mask = np.asarray(np.isin(scene.parts, kin))
    area = int(mask.sum())
    if area < SMALLEST_TARGET or area > 0.9 * mask.size:
        return None
    return mask


def _click_window(rng: Generator, mask: NDArray[np.bool_], x: float, y: float) -> windows.Window:
    height, width = mask.shape
    box = windows.mask_box(mask)
    assert box is not None
    extent = max(box[2] - box[0], box[3] - box[1])
    low, high = (0.5, 1.1) if rng.random() < 0.12 else (1.1, 8.0)
    side = extent * np.exp(rng.uniform(np.log(low), np.log(high)))
    side = float(np.clip(side, 40, 1.15 * max(height, width)))
    move = rng.normal(0, 0.08, 2) * side
    return windows.window_around(x + move[0], y + move[1], side, height, width)


def _box_window(
    rng: Generator, box: tuple[float, float, float, float], height: int, width: int
) -> windows.Window:
    side = max(box[2] - box[0], box[3] - box[1]) * rng.uniform(1.2, 1.7)
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return windows.window_around(centre_x, centre_y, side, height, width)


def make_sample(rng: Generator, scene: Scene, mask: NDArray[np.bool_], size: int) -> Chunk | None:
    """A window on the target with a box (40 %), a click (35 %) or a worn mask (25 %).

    None where the window shows next to nothing of the target, or nothing at all.
    """
    height, width = mask.shape
    tight = windows.mask_box(mask)
    assert tight is not None
    kind = rng.choice(["box", "click", "mask"], p=[0.4, 0.35, 0.25])
    box = prompts.jittered_box(rng, tight)
    point = prompts.random_click(rng, mask)
    if kind == "click":
        window = _click_window(rng, mask, *point)
    else:
        window = _box_window(rng, box, height, width)
    colours = windows.cut(scene.image, window, size)
    target = windows.cut(mask.astype(np.uint8) * 255, window, size, padding=0)
    if int((target > 127).sum()) < SMALLEST_SEEN or colours.std() < LEAST_CONTRAST:
        return None
    boxes = np.full((1, 4), np.nan, np.float32)
    clicks = np.full((1, MAXIMUM_CLICKS, 3), -1, np.float32)
    previous = np.full((1, size, size), -1, np.float32)
    offset = np.array([window.left, window.top], np.float64)
    if kind == "box":
        corners = (np.asarray(box).reshape(2, 2) - offset) / window.side
        boxes[0] = corners.ravel()
    if kind == "click" or (kind == "box" and rng.random() < 0.1):
        clicks[0, 0] = [*((np.asarray(point) - offset) / window.side), 1]
    if kind == "mask":
        previous[0] = prompts.worn_mask(rng, np.asarray(target / 255.0, np.float32))
        if rng.random() < 0.3:
            next_click = prompts.corrective_click(target > 127, previous[0] > 0.5)
            if next_click is not None:
                x, y, label = next_click
                clicks[0, 0] = [x / size, y / size, label]
    sample = Chunk(augment(rng, colours)[None], target[None], boxes, clicks, previous)
    return mirror(sample) if rng.random() < 0.5 else sample


def mirror(sample: Chunk) -> Chunk:
    """The sample seen in a mirror."""
    boxes, clicks = sample.boxes.copy(), sample.clicks.copy()
    boxes[:, [0, 2]] = 1 - sample.boxes[:, [2, 0]]
    used = clicks[..., 2] >= 0
    clicks[..., 0] = np.where(used, 1 - clicks[..., 0], clicks[..., 0])
    return Chunk(
        np.ascontiguousarray(sample.colours[:, :, ::-1]),
        np.ascontiguousarray(sample.targets[:, :, ::-1]),
        boxes,
        clicks,
        np.ascontiguousarray(sample.previous[:, :, ::-1]),
    )


def augment(rng: Generator, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour, blur and compression changes of one window (size x size x 3, uint8)."""
    image: NDArray[np.floating[Any]] = np.asarray(colours / 255.0, np.float32)
    if rng.random() < 0.15:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.03:
        image = 1 - image
    if rng.random() < 0.1:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.5:
        image = image ** np.exp(rng.normal(0, 0.3)).astype(np.float32)
        image = (image - 0.5) * np.exp(rng.normal(0, 0.25)) + 0.5 + rng.normal(0, 0.08)
    if rng.random() < 0.25:  # the softness of a small object, enlarged
        soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.4, 2.2))
        image = np.asarray(soft, np.float32)
    if rng.random() < 0.25:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(0, 0.06)
    pixels = np.asarray(np.clip(image, 0, 1) * 255, np.uint8)
    if rng.random() < 0.15:
        options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        _, buffer = cv2.imencode(".jpg", pixels, options)
        pixels = np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def join(samples: list[Chunk]) -> Chunk:
    """Stacks chunks of one window size."""
    return Chunk(
        *(
            np.concatenate([getattr(sample, name) for sample in samples])
            for name in ("colours", "targets", "boxes", "clicks", "previous")
        )
    )


class SampleStream:
    """Chunks of fresh samples, each a pure function of (seed, number of the chunk).

    A chunk of `chunk_size` samples draws on `open_scenes` scenes; the next chunk closes one of
    them and opens a new one.
    """

    def __init__(self, seed: int, chunk_size: int, open_scenes: int) -> None:
        self._seed = seed
        self._chunk_size = chunk_size
        self._open_scenes = open_scenes
        self._bank = TextureBank(seed)
        self._scenes: dict[int, Scene] = {}

    def chunk(self, number: int, size: int) -> Chunk:
        """Chunk `number` with windows of `size` pixels."""
        turn = range(number, number + self._open_scenes)
        self._scenes = {
            index: self._scenes.get(index) or make_scene(self._seed, index, self._bank)
            for index in turn
        }
        rng = np.random.default_rng([self._seed, 13, number])
        samples: list[Chunk] = []
        while len(samples) < self._chunk_size:
            scene = self._scenes[int(rng.choice(turn))]
            mask = choose_target(rng, scene)
            sample = None if mask is None else make_sample(rng, scene, mask, size)
            if sample is not None:
                samples.append(sample)
        return join(samples)


def _produce(
    stream_arguments: tuple[int, int, int],
    sizes: Callable[[int], int],
    first: int,
    stride: int,
    chunks: multiprocessing.Queue[Chunk],
    niceness: int,
) -> None:
    cv2.setNumThreads(1)
    os.nice(niceness)
    stream = SampleStream(*stream_arguments)
    trainer = multiprocessing.parent_process()
    number = first
    while trainer is None or trainer.is_alive():
        chunk = stream.chunk(number, sizes(number))
        if _put(chunks, chunk, trainer):
            number += stride
    # Nobody reads what is still queued: do not wait for it on the way out.
    chunks.cancel_join_thread()


def _put(
    chunks: multiprocessing.Queue[Chunk],
    chunk: Chunk,
    trainer: multiprocessing.process.BaseProcess | None,
) -> bool:
    """Queues a chunk once there is room; False where the trainer has died meanwhile."""
    while trainer is None or trainer.is_alive():
        with contextlib.suppress(queue.Full):
            chunks.put(chunk, timeout=5.0)
            return True
    return False


class ChunkLoader:
    """Prepares chunks ahead of the trainer in `workers` processes, in order.

    `stream` holds the arguments of `SampleStream`; `sizes` maps the number of a chunk to its
    window size and must be picklable; `first` is the number of the first chunk wanted.
    """

    def __init__(
        self,
        stream: tuple[int, int, int],
        sizes: Callable[[int], int],
        first: int,
        workers: int = 1,
        ahead: int = 8,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues = [context.Queue(ahead) for _ in range(workers)]
        self._next = 0
        self._processes = [
            context.Process(
                target=_produce,
                args=(stream, sizes, first + index, workers, chunks, 2),
                daemon=True,
            )
            for index, chunks in enumerate(self._queues)
        ]
        for process in self._processes:
            process.start()

    def get(self, timeout_s: float = 300.0) -> Chunk:
        """The next chunk.

        Raises:
            RuntimeError: If no chunk came in time, which means that a worker died.
        """
        try:
            chunk: Chunk = self._queues[self._next].get(timeout=timeout_s)
        except queue.Empty as error:
            raise RuntimeError("no training samples: a loader process has died") from error
        self._next = (self._next + 1) % len(self._queues)
        return chunk

    def close(self) -> None:
        """Stops the workers."""
        for process in self._processes:
            process.terminate()
            process.join()
