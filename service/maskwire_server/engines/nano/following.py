"""One step of tracking: objects from the frame before into this one, in one pass of the network.

The mask of the frame before is moved by the flow inside it; the network sees the window that goes
with it, with the moved mask as its earlier mask. The new mask is the moved one and the network's
together, and what the object's colours and its template say of each pixel. Colours and template
also say whether it is the object at all. One that is not seen is looked for by its template, in
the same frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits

from . import views, windows
from .appearance import Appearance, colour_bins, region_histogram
from .motion import STILL, Motion, Move, SmallPicture, moved
from .network import SINGLE
from .predictor import WINDOW_SIZE, Answer, NanoPredictor
from .search import placements
from .template import Template
from .track import VISIBLE_FROM, Sample, Track
from .views import View

MARGIN = 1.5
"""Side of the window over the longer side of the object as it is expected."""

CARRIED = 0.8
"""Share of the mask that moved along in the new one; the rest is what the network says."""

EVIDENCE = 1.0
"""Weight of a pixel's colour, which says object or surroundings."""

OCCLUDED = 2.0
"""Weight of a pixel that no longer shows what the template has there: something covers it."""

MOST_LOGIT = 5.0
MOST_EVIDENCE = 2.0
"""The most that mask and network may say of a pixel, and that its colour may."""

REACH = 0.1
SEARCH_REACH = 0.35
"""How far a mask may grow in a frame, over the square root of its area: followed, and searched."""

LEARN_FROM = 0.8
LEAST_GROWTH = 0.6
LEAST_SHOWN = 0.9
"""From what presence, area over the usual one, and share of the template that shows, the look of
an object is learned anew; below, something may cover it."""

TEMPLATE_FRAMES = 6
"""Age of a template that is replaced. One taken anew in every frame would go along with what
covers the object bit by bit."""

SHARED = 0.5
"""Share of a mask that lies on another object's from which it is that object."""

_EVIDENCE_BLUR = 1.5
_COVERED_BLUR = (5, 5)
_LEARN_INSIDE, _LEARN_AROUND, _LEARN_AREA = 0.05, 0.2, 0.1

FOLLOWED_WEIGHTS = (18.0, 2.0, 5.0, -22.0)
SEARCHED_WEIGHTS = (20.0, 1.5, 4.0, -19.7)
"""What likeness, evidence and the share of the template that shows weigh in the presence of an
object, and what is added: for one that was followed and for one that was searched."""


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """A place where an object may be, as the network is asked about it.

    Attributes:
        object_id: The object.
        view: The window, with the mask that is expected there.
        expected: Shape (size, size), float32: that mask's logits.
        bins: Shape (size, size), int32: its colours as bins.
        since: How the object got there from its template's frame.
        move: How it got there from the frame before, or where it was searched, as `since`.
        inside: Shape (size, size), bool: where the template says that it is.
        found: Of that, where the window shows what the template has there.
        is_search: Whether it was searched, not followed.
    """

    object_id: int
    view: View
    expected: NDArray[np.float32]
    bins: NDArray[np.int32]
    since: Move
    move: Move
    inside: NDArray[np.bool_]
    found: NDArray[np.bool_]
    is_search: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Finding:
    """What came of an attempt.

    Attributes:
        attempt: The attempt.
        values: Shape (size, size), float32: the mask's logits.
        growth: Its area over the area that the object used to have.
        likeness: How like the object's its colours are, 0 to 1.
        evidence: How much likelier its pixels are object than surroundings, on average.
        shown: Share of the template that is seen.
    """

    attempt: _Attempt
    values: NDArray[np.float32]
    growth: float
    likeness: float
    evidence: float
    shown: float

    @property
    def presence(self) -> float:
        """Probability that this is the object, 0 to 1."""
        weights = SEARCHED_WEIGHTS if self.attempt.is_search else FOLLOWED_WEIGHTS
        score = weights[0] * self.likeness + weights[1] * self.evidence
        score += weights[2] * self.shown + weights[3]
        return float(1 / (1 + np.exp(-score)))

    @property
    def is_sure(self) -> bool:
        """Whether the object shows so well that its look may be learned from it."""
        return (
            self.presence >= LEARN_FROM
            and self.growth >= LEAST_GROWTH
            and self.shown >= LEAST_SHOWN
        )

    def lies_on(self, other: _Finding) -> bool:
        """Whether most of this mask lies on that of another object."""
        window = views.window_box(self.attempt.view.window)
        theirs = MaskLogits(other.values, views.window_box(other.attempt.view.window))
        mask = self.values > 0
        shared = mask & (moved(theirs, STILL, window, WINDOW_SIZE).values > 0)
        return int(shared.sum()) > SHARED * int(mask.sum())


class Follower:
    """Takes tracks from frame to frame with one network."""

    def __init__(self, predictor: NanoPredictor) -> None:
        self._predictor = predictor

    def begin(self, pixels: NDArray[np.uint8], small: SmallPicture, logits: MaskLogits) -> Track:
        """Make the track of an object from its mask in a frame."""
        box = views.logits_box(logits)
        if box is None:
            return Track(logits, 0.0, None)
        window = _window(box, small.image)
        colours = windows.cut(pixels, window, WINDOW_SIZE)
        mask = moved(logits, STILL, views.window_box(window), WINDOW_SIZE).values > 0
        template = Template.of(small, logits)
        if template is None:
            return Track(logits, 0.0, None)
        appearance = Appearance.of(colour_bins(colours), mask)
        return Track(logits, 1.0, Sample(appearance, template, _area(mask, window)))

    def follow(
        self,
        pixels: NDArray[np.uint8],
        small: SmallPicture,
        motion: Motion,
        tracks: Mapping[int, Track],
    ) -> dict[int, Track]:
        """Find objects in the next frame.

        Args:
            pixels: The frame, shape (height, width, 3), uint8, RGB.
            small: The same, scaled down.
            motion: The flow from the frame before.
            tracks: The objects as the frame before left them.

        Returns:
            The objects as this frame leaves them, in the order of `tracks`.
        """
        frame = _Frame(pixels, small)
        followed = [
            _followed(object_id, track, frame, motion)
            for object_id, track in tracks.items()
            if track.is_visible
        ]
        best = self._best(pixels, tracks, followed, {})
        seen = {one: found for one, found in best.items() if found.presence >= VISIBLE_FROM}
        # Where the move led astray, the object may still be near by.
        searched = [
            attempt
            for object_id, track in tracks.items()
            if object_id not in seen
            for attempt in _searched(object_id, track, frame)
        ]
        for object_id, finding in self._best(pixels, tracks, searched, seen).items():
            if object_id not in best or finding.presence > best[object_id].presence:
                best[object_id] = finding
        return {
            object_id: _next(track, best.get(object_id), small)
            for object_id, track in tracks.items()
        }

    def _best(
        self,
        pixels: NDArray[np.uint8],
        tracks: Mapping[int, Track],
        attempts: Sequence[_Attempt],
        taken: Mapping[int, _Finding],
    ) -> dict[int, _Finding]:
        """Ask the network about attempts, and keep the likeliest of each object.

        What other objects have `taken` is not found a second time: they may look alike.
        """
        answers = self._predictor.look(pixels, [attempt.view for attempt in attempts])
        best: dict[int, _Finding] = {}
        for attempt, answer in zip(attempts, answers, strict=True):
            sample = tracks[attempt.object_id].sample
            assert sample is not None
            finding = _finding(sample, attempt, answer)
            if any(finding.lies_on(other) for other in taken.values()):
                continue
            before = best.get(attempt.object_id)
            if before is None or finding.presence > before.presence:
                best[attempt.object_id] = finding
        return best


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A frame and the same scaled down."""

    pixels: NDArray[np.uint8]
    small: SmallPicture


def _followed(object_id: int, track: Track, frame: _Frame, motion: Motion) -> _Attempt:
    """Where an object that was seen should be now."""
    assert track.sample is not None
    move = motion.of(track.logits)
    attempt = _attempt(object_id, track.sample, frame, track.logits, move, move.after(track.since))
    return replace(attempt, is_search=False)


def _searched(object_id: int, track: Track, frame: _Frame) -> list[_Attempt]:
    """Where an object may be by its look."""
    if track.sample is None:
        return []
    template = track.sample.template
    attempts = [
        _attempt(object_id, track.sample, frame, template.logits, move, move)
        for move in placements(template, frame.small)
    ]
    if track.is_visible:
        # Flow that is led astray by what passes: the object may simply go on.
        since = track.last.after(track.since)
        on = _attempt(object_id, track.sample, frame, track.logits, track.last, since)
        attempts.append(replace(on, is_search=False))
    return attempts


def _attempt(
    object_id: int,
    sample: Sample,
    frame: _Frame,
    logits: MaskLogits,
    move: Move,
    since: Move,
) -> _Attempt:
    """Expect a mask after a move; `since` is the move from the template's frame."""
    box = views.logits_box(logits)
    assert box is not None
    window = _window(move.apply(box), frame.small.image)
    expected = moved(logits, move, views.window_box(window), WINDOW_SIZE).values
    colours = windows.cut(frame.pixels, window, WINDOW_SIZE)
    view = View(
        window=window,
        box=np.full(4, np.nan, np.float32),
        clicks=np.empty((0, 3), np.float32),
        previous=np.asarray(1 / (1 + np.exp(-expected)), np.float32),
    )
    inside, found = sample.template.explains(colours, window, since)
    return _Attempt(
        object_id, view, expected, colour_bins(colours), since, move, inside, found, is_search=True
    )


def _finding(sample: Sample, attempt: _Attempt, answer: Answer) -> _Finding:
    """Weigh what the network says against where the mask moved and what the colours say."""
    seen = np.clip(answer.logits[SINGLE], -MOST_LOGIT, MOST_LOGIT)
    expected = np.clip(attempt.expected, -MOST_LOGIT, MOST_LOGIT)
    evidence = sample.appearance.evidence(attempt.bins)
    evidence = np.clip(evidence, -MOST_EVIDENCE, MOST_EVIDENCE)
    covered = (attempt.inside & ~attempt.found).astype(np.float32)
    carried = 0.0 if attempt.is_search else CARRIED
    values = (1 - carried) * seen + carried * expected
    values += EVIDENCE * cv2.GaussianBlur(evidence, (0, 0), _EVIDENCE_BLUR)
    values -= OCCLUDED * cv2.blur(covered, _COVERED_BLUR)
    values = np.where(_reached(expected > 0, attempt.is_search), values, np.minimum(values, -1))
    mask = values > 0
    return _Finding(
        attempt=attempt,
        values=np.asarray(values, np.float32),
        growth=_area(mask, attempt.view.window) / max(1.0, sample.area),
        likeness=sample.appearance.likeness(region_histogram(attempt.bins, mask)),
        evidence=float(evidence[mask].mean()) if mask.any() else -MOST_EVIDENCE,
        shown=float(attempt.found.sum() / max(1, attempt.inside.sum())),
    )


def _reached(expected: NDArray[np.bool_], is_search: bool) -> NDArray[np.bool_]:
    """What lies within reach of where the mask is expected."""
    reach = (SEARCH_REACH if is_search else REACH) * float(np.sqrt(expected.sum()))
    distance = cv2.distanceTransform((~expected).view(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(distance <= max(2.0, reach))


def _next(track: Track, finding: _Finding | None, small: SmallPicture) -> Track:
    """The track after a frame: where it was found, or the same one, lost."""
    if finding is None or finding.presence < VISIBLE_FROM or track.sample is None:
        return replace(track, presence=0.0 if finding is None else finding.presence)
    attempt = finding.attempt
    found = Track(
        MaskLogits(finding.values, views.window_box(attempt.view.window)),
        finding.presence,
        track.sample,
        attempt.since,
        STILL if attempt.is_search else attempt.move,
        track.age + 1,
    )
    return _learned(found, finding, small) if finding.is_sure else found


def _learned(track: Track, finding: _Finding, small: SmallPicture) -> Track:
    """A track that takes over what its object looks like now."""
    assert track.sample is not None
    mask = finding.values > 0
    later = Appearance.of(finding.attempt.bins, mask)
    area = _area(mask, finding.attempt.view.window)
    sample = Sample(
        track.sample.appearance.blended(later, _LEARN_INSIDE, _LEARN_AROUND),
        track.sample.template,
        (1 - _LEARN_AREA) * track.sample.area + _LEARN_AREA * area,
    )
    template = Template.of(small, track.logits) if track.age >= TEMPLATE_FRAMES else None
    if template is None:
        return replace(track, sample=sample)
    return replace(track, sample=replace(sample, template=template), since=STILL, age=0)


def _window(box: Box, image: ImageSize) -> windows.Window:
    """The window on what of a box lies in the picture, so that no mask makes it any larger."""
    x_min, x_max = np.clip([box.x_min, box.x_max], 0, image.width_px)
    y_min, y_max = np.clip([box.y_min, box.y_max], 0, image.height_px)
    return views.window_on(Box(x_min, y_min, x_max, y_max), image, MARGIN)


def _area(mask: NDArray[np.bool_], window: windows.Window) -> float:
    """Pixels of the frame that a mask of a window covers."""
    return float(int(np.count_nonzero(mask)) * (window.side / mask.shape[0]) ** 2)
