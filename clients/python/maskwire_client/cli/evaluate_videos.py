"""Follows the objects of labelled clips through a live session and scores the masks.

The frames go to the server as the files that they are. Every object of the first frame is prompted
there, all at once, and followed to the end; each is scored by itself, whether or not the masks of
two objects overlap.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .._client import Client
from ..evaluation import Clip, TrackedScores, boundary_f, first_click, iou
from ..frames import Frame
from ..geometry import Box, Point
from ..masks import Mask
from ..prompts import MaskPrompt
from ..results import ProcessingInfo
from ..sessions import FrameResult
from .contact_sheet import evenly_spaced
from .evaluate_photographs import tight_box
from .evaluate_sheets import View

__all__ = ["FRAMES_SHOWN", "ClipJudge", "JudgedTrack", "Start"]

FRAMES_SHOWN = 4
_VOID = 255


class Start(enum.Enum):
    """What an object is given by in the first frame."""

    MASK = "mask"
    BOX = "box"
    CLICK = "click"


@dataclass(frozen=True, slots=True, eq=False)
class JudgedTrack:
    """An object's scores, and some of the answers to look at."""

    scores: TrackedScores
    views: tuple[View, ...]
    info: ProcessingInfo


@dataclass(slots=True)
class _Track:
    """What has come of one object."""

    label: int
    object_id: int
    frames: list[int] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    views: list[View] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Prompts:
    points: list[Point] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    masks: list[MaskPrompt] = field(default_factory=list)


class ClipJudge:
    """Scores the tracking of one model.

    Args:
        client: Of the server.
        model: Name of the model; empty is the server's default.
        start: What the objects are given by.
        timeout_s: How long the server may take to open a session.
    """

    def __init__(self, client: Client, model: str, start: Start, timeout_s: float) -> None:
        self._client = client
        self._model = model
        self._start = start
        self._timeout_s = timeout_s

    def judge(self, clip: Clip, advance: Callable[[], None]) -> list[JudgedTrack]:
        """Follow and score the objects of a clip.

        Args:
            clip: What to score.
            advance: Called after each frame.

        Raises:
            MaskwireError: The session or a frame failed.
            OSError: A file cannot be read.
        """
        labels = clip.object_labels()
        tracks = [_Track(label, number) for number, label in enumerate(labels, start=1)]
        if not tracks:
            return []
        shown = {
            clip.scored_frames[place]
            for place in evenly_spaced(len(clip.scored_frames), FRAMES_SHOWN)
        }
        prompts = _prompts(clip, tracks, self._start)
        session = self._client.open_session(model=self._model, timeout_s=self._timeout_s)
        with (
            session,
            session.stream(
                _frames(clip), points=prompts.points, boxes=prompts.boxes, masks=prompts.masks
            ) as results,
        ):
            for number, result in enumerate(results):
                if number in clip.scored_frames:
                    _score(clip, number, result, tracks, is_shown=number in shown)
                advance()
        return [_judged(clip, track, result.info) for track in tracks]


def _prompts(clip: Clip, tracks: list[_Track], start: Start) -> _Prompts:
    """Return what the objects are given by, in the first frame."""
    labels = clip.labels(0)
    prompts = _Prompts()
    for track in tracks:
        truth = labels == track.label
        if start is Start.MASK:
            prompts.masks.append(MaskPrompt(truth, track.object_id))
        elif start is Start.BOX:
            prompts.boxes.append(tight_box(truth, track.object_id))
        else:
            click = first_click(truth)
            prompts.points.append(Point(click.x, click.y, object_id=track.object_id))
    return prompts


def _frames(clip: Clip) -> Iterator[Frame]:
    for number, file in enumerate(clip.frames):
        yield Frame(file.read_bytes(), number)


def _score(
    clip: Clip, number: int, result: FrameResult, tracks: list[_Track], *, is_shown: bool
) -> None:
    """Score all objects in a frame that is labelled."""
    labels = clip.labels(number)
    for track in tracks:
        void = labels == _VOID if track.label != _VOID else None
        truth = labels == track.label
        mask = next((mask for mask in result if mask.object_id == track.object_id), None)
        answer = _bitmap(mask, truth)
        track.frames.append(number)
        track.similarity.append(iou(answer, truth, void))
        track.accuracy.append(boundary_f(answer, truth, void))
        if is_shown:
            track.views.append(_view(clip, number, track, mask))


def _bitmap(mask: Mask | None, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.zeros_like(truth) if mask is None or not mask.area_px else mask.bitmap


def _view(clip: Clip, number: int, track: _Track, mask: Mask | None) -> View:
    caption = (
        f"{clip.name}/{track.label}, frame {number}, "
        f"J {track.similarity[-1]:.2f} F {track.accuracy[-1]:.2f}"
    )
    truth = partial(_truth, clip, number, track.label)
    encoded = mask.encoded if mask is not None and mask.area_px else None
    return View(caption, clip.frames[number], truth, encoded, is_cropped=False)


def _truth(clip: Clip, number: int, label: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = clip.labels(number) == label
    return mask


def _judged(clip: Clip, track: _Track, info: ProcessingInfo) -> JudgedTrack:
    scores = TrackedScores(
        clip=clip.name,
        name=str(track.label),
        frames=tuple(track.frames),
        similarity=tuple(track.similarity),
        accuracy=tuple(track.accuracy),
    )
    return JudgedTrack(scores, tuple(track.views), info)
