"""Clips made from photographs: objects cut from one moved over another, with exact masks.

Everything follows from a seed. What is cut from which photograph is `cutouts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwire_server.domain.geometry import ImageSize, Point
from tests.support.cutouts import Bitmap, Cutout, Picture, photograph, shipped_cutouts

DEFAULT_SIZE = ImageSize(320, 240)
BACKGROUNDS = ("motorcycle_left", "rocket", "chelsea", "coffee", "astronaut")
OCCLUSION = (0.3, 0.7)
"""What part of the clip an occluder or an absence takes: its object is gone around the middle."""


@dataclass(frozen=True)
class Clip:
    """Frames, uint8 RGB (h, w, 3), and for each the visible mask of every object by its id.

    An object that is hidden or outside has an all-false mask.
    """

    frames: list[Picture]
    masks: list[dict[int, Bitmap]]
    size: ImageSize = field(default=DEFAULT_SIZE)

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.masks[0])

    def click(self, object_id: int, frame: int = 0) -> Point:
        """The innermost point of an object's visible mask, as the evaluation clicks."""
        padded = np.pad(self.masks[frame][object_id].astype(np.uint8), 1)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        return Point(float(column) - 0.5, float(row) - 0.5)

    def hidden_frames(self, object_id: int) -> list[int]:
        return [frame for frame, masks in enumerate(self.masks) if not masks[object_id].any()]


def make_clip(
    seed: int,
    frames: int = 48,
    size: ImageSize = DEFAULT_SIZE,
    *,
    objects: int = 1,
    occlusion: bool = False,
    leaving: bool = False,
    camera_motion: bool = True,
    cutouts: Sequence[Cutout] | None = None,
    background: Picture | None = None,
) -> Clip:
    """Move objects 1..`objects` over a background that pans and zooms.

    With `occlusion` a strip passes over object 1 and hides it wholly for some frames around the
    middle; with `leaving` object 1 leaves the picture there and comes back. In frame 0 everything
    is inside the picture and nothing overlaps much.
    """
    rng = np.random.default_rng(seed)
    available = list(shipped_cutouts() if cutouts is None else cutouts)
    chosen = [available[index] for index in rng.permutation(len(available))[:objects]]
    if background is None:
        taken = {cutout.photograph for cutout in chosen}
        free = [name for name in BACKGROUNDS if name not in taken]
        background = photograph(free[int(rng.integers(len(free)))])
    scenery = _Scenery(background, size, rng, moves=camera_motion)
    actors = _placed(chosen, size, frames, rng)
    if leaving:
        actors[0] = actors[0].leaving(frames)
    strip = _strip(actors[0], rng) if occlusion else None
    clip = Clip([], [], size)
    for index in range(frames):
        picture, masks = scenery.frame(index, frames), dict[int, Bitmap]()
        for object_id, actor in enumerate(actors, start=1):
            _lay(picture, masks, *actor.drawn(index), object_id)
        if strip is not None:
            _lay(picture, masks, *strip.drawn(index, frames, size), None)
        noise = rng.normal(0, 2, picture.shape).astype(np.float32)
        clip.frames.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
        clip.masks.append(masks)
    return clip


def write_mp4(clip: Clip, path: Path, fps: int = 12, codec: str = "libx264") -> Path:
    return _write_video(clip, path, fps, codec, "yuv420p")


def write_webm(clip: Clip, path: Path, fps: int = 12, codec: str = "libvpx-vp9") -> Path:
    return _write_video(clip, path, fps, codec, "yuv420p")


def write_gif(clip: Clip, path: Path, fps: int = 10) -> Path:
    return _write_video(clip, path, fps, "gif", "rgb8")


def write_images(clip: Clip, folder: Path) -> list[Path]:
    """Write the frames as `00000.png` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.png" for index in range(len(clip.frames))]
    for frame, path in zip(clip.frames, paths, strict=True):
        Image.fromarray(frame).save(path)
    return paths


class _Scenery:
    """A background larger than the picture, seen through a camera that pans and zooms."""

    def __init__(
        self, picture: Picture, size: ImageSize, rng: np.random.Generator, *, moves: bool
    ) -> None:
        self._size = size
        scale = 1.5 * max(size.width_px / picture.shape[1], size.height_px / picture.shape[0])
        wide = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        self._picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=wide)
        self._way = rng.uniform(0.2, 0.8, (2, 2)) if moves else np.full((2, 2), 0.5)
        self._zoom = rng.uniform(1.0, 1.3, 2) if moves else np.ones(2)

    def frame(self, index: int, frames: int) -> NDArray[np.float32]:
        part = index / max(1, frames - 1)
        zoom = self._zoom[0] + (self._zoom[1] - self._zoom[0]) * part
        where = self._way[0] + (self._way[1] - self._way[0]) * part
        width, height = self._size.width_px, self._size.height_px
        room = np.array(
            [self._picture.shape[1] - width / zoom, self._picture.shape[0] - height / zoom]
        )
        left, top = room * where
        warp = np.array([[1 / zoom, 0, left], [0, 1 / zoom, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(self._picture, warp, (width, height), flags=flags)
        return np.asarray(seen, np.float32)


@dataclass(frozen=True)
class _Pose:
    x: float
    y: float
    scale: float
    angle: float


@dataclass(frozen=True)
class _Actor:
    """A cut-out and how it moves: its pose at each frame."""

    cutout: Cutout
    size: ImageSize
    pose: Callable[[int], _Pose]

    def drawn(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Its pixels and alpha, of the picture's size."""
        pose = self.pose(index)
        height, width = self.cutout.alpha.shape
        cosine, sine = pose.scale * np.cos(pose.angle), pose.scale * np.sin(pose.angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        shift = np.array([pose.x, pose.y]) - turn @ np.array([width / 2, height / 2])
        warp = np.column_stack([turn, shift])
        canvas = (self.size.width_px, self.size.height_px)
        pixels = self.cutout.pixels.astype(np.float32)
        colours = cv2.warpAffine(pixels, warp, canvas, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.cutout.alpha, warp, canvas)
        return np.asarray(colours, np.float32), np.asarray(alpha, np.float32)

    def leaving(self, frames: int) -> _Actor:
        """The same actor, but out of the picture around the middle of the clip."""
        side = 1.0 if self.pose(frames // 2).x > self.size.width_px / 2 else -1.0
        reach = self.size.width_px + max(self.cutout.alpha.shape)

        def pose(index: int) -> _Pose:
            start, end = OCCLUSION
            part = np.clip((index / max(1, frames - 1) - start) / (end - start), 0, 1)
            before = self.pose(index)
            away = side * reach * float(np.sin(np.pi * part) ** 2)
            return _Pose(before.x + away, before.y, before.scale, before.angle)

        return _Actor(self.cutout, self.size, pose)


def _placed(
    cutouts: Sequence[Cutout], size: ImageSize, frames: int, rng: np.random.Generator
) -> list[_Actor]:
    """Actors on smooth ways, of those tried the ones that overlap least in the first frame."""
    tries = [[_actor(cutout, size, frames, rng) for cutout in cutouts] for _ in range(24)]

    def overlap(actors: Sequence[_Actor]) -> float:
        covered = np.sum([actor.drawn(0)[1] > 0.5 for actor in actors], axis=0)
        return float((covered > 1).sum())

    return min(tries, key=overlap) if len(cutouts) > 1 else tries[0]


def _actor(cutout: Cutout, size: ImageSize, frames: int, rng: np.random.Generator) -> _Actor:
    short = min(size.width_px, size.height_px)
    largest = rng.uniform(0.3, 0.45) * short
    fine = min(1.0, 1.2 * largest / max(cutout.alpha.shape))
    smaller = Cutout(
        cutout.photograph,
        np.asarray(_shrunk(cutout.pixels, fine), np.uint8),
        np.asarray(_shrunk(cutout.alpha, fine), np.float32),
    )
    base = largest / max(smaller.alpha.shape)
    room = np.array([size.width_px, size.height_px]) - largest * 1.2
    corner, swing = rng.uniform(0, 1, 2), rng.uniform(0.2, 0.5, 2) * rng.choice([-1, 1], 2)
    phase, turns = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.5, 1.2, 4)
    angle, growth = rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.25)

    def pose(index: int) -> _Pose:
        part = index / max(1, frames - 1)
        wave = np.sin(2 * np.pi * turns * part + phase) - np.sin(phase)
        where = np.clip(corner + swing * wave[:2], -0.1, 1.1) * room + largest * 0.6
        scale = base * (1 + growth * wave[2])
        return _Pose(float(where[0]), float(where[1]), float(scale), float(angle * wave[3]))

    return _Actor(smaller, size, pose)


def _shrunk(values: NDArray[Any], scale: float) -> NDArray[Any]:
    return cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class _Strip:
    """An upright strip of another photograph that passes over an actor and stays on it a while."""

    actor: _Actor
    texture: Picture
    side: float

    def drawn(
        self, index: int, frames: int, size: ImageSize
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        start, end = OCCLUSION
        part = 2 * (index / max(1, frames - 1) - start) / (end - start) - 1
        pose = self.actor.pose(index)
        extent = max(self.actor.cutout.alpha.shape) * pose.scale
        width = round(1.7 * extent)
        # Slow in the middle, so that the object is hidden for more than a frame.
        left = round(pose.x - width / 2 + self.side * 1.6 * size.width_px * part**3)
        texture = cv2.resize(self.texture, (width, size.height_px)).astype(np.float32)
        colours = np.zeros((size.height_px, size.width_px, 3), np.float32)
        alpha = np.zeros((size.height_px, size.width_px), np.float32)
        low, high = max(0, left), min(size.width_px, left + width)
        if high > low:
            colours[:, low:high] = texture[:, low - left : high - left]
            alpha[:, low:high] = 1
        return colours, alpha


def _strip(actor: _Actor, rng: np.random.Generator) -> _Strip:
    texture = photograph(str(rng.choice(["brick", "grass", "gravel"])))
    return _Strip(actor, texture, float(rng.choice([-1, 1])))


def _lay(
    picture: NDArray[np.float32],
    masks: dict[int, Bitmap],
    colours: NDArray[np.float32],
    alpha: NDArray[np.float32],
    object_id: int | None,
) -> None:
    """Paint over a picture, and take what is covered from the masks of what lies below."""
    picture += (colours - picture) * alpha[..., None]
    covered = alpha > 0.5
    for below in masks.values():
        below &= ~covered
    if object_id is not None:
        masks[object_id] = covered


def _write_video(clip: Clip, path: Path, fps: int, codec: str, layout: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=fps))
        stream.width, stream.height, stream.pix_fmt = (
            clip.size.width_px,
            clip.size.height_px,
            layout,
        )
        for frame in clip.frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
