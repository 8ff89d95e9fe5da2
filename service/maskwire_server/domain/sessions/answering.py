"""When a session answers, and with which masks."""

from __future__ import annotations

from collections.abc import Collection

from ..executor import BoundedExecutor
from ..geometry import ImageSize
from ..observer import Observer
from ..tracked_masks import ObjectHistory, TrackedMask
from .answers import Sightings, make_masks
from .costs import Costs
from .messages import SessionConfig


class Answering:
    """What was answered so far, and with it what is due next; one answer is made at a time."""

    def __init__(
        self, config: SessionConfig, model: str, pixels: BoundedExecutor, observer: Observer
    ) -> None:
        """Answer nothing yet.

        Args:
            config: The session's config.
            model: Name of the model, for the observer.
            pixels: Where masks are made.
            observer: Hears how long that took.
        """
        self._config = config
        self._model = model
        self._pixels = pixels
        self._observer = observer
        self._history = ObjectHistory(config.postprocess)
        self._given_up: set[int] = set()
        self._skipped = 0

    @property
    def size_bytes(self) -> int:
        """Memory that is held of earlier answers."""
        return self._history.size_bytes

    @property
    def given_up(self) -> Collection[int]:
        """Objects that the model gave up, until an answer has shown that they are gone."""
        return self._given_up

    def give_up(self, before: Collection[int], now: Collection[int]) -> None:
        """Note objects that the model gave up; one that prompts began anew is not given up."""
        self._given_up.update(before)
        self._given_up.difference_update(now)

    def forget(self, object_ids: Collection[int]) -> None:
        """Forget objects that were removed."""
        self._history.forget(object_ids)

    def clear(self) -> None:
        """Forget all objects."""
        self._history.clear()
        self._given_up.clear()

    def resume(self, object_id: int, *, is_visible: bool) -> None:
        """Take an object over from a session that went before."""
        self._history.resume(object_id, is_visible=is_visible)

    async def sampled(
        self, seen: Sightings, size: ImageSize, costs: Costs, *, must_answer: bool
    ) -> tuple[TrackedMask, ...] | None:
        """Answer a frame where the config's sampling says so; return None where it does not.

        Args:
            seen: What the tracker saw in it.
            size: Its size.
            costs: Where the time that it takes is noted.
            must_answer: Whether it is answered whatever the sampling says.
        """
        self._skipped += 1
        sampling = self._config.sampling
        if not must_answer and self._skipped < sampling.every_nth_frame:
            return None
        only = sampling.on_change_only and not must_answer
        masks = await self.finish(seen, size, costs, is_whole=True, on_change_only=only)
        self._skipped = 0
        if masks is not None:
            self._history.forget(self._given_up)
            self._given_up.clear()
        return masks

    async def finish(
        self,
        seen: Sightings,
        size: ImageSize,
        costs: Costs,
        *,
        is_whole: bool = False,
        on_change_only: bool = False,
    ) -> tuple[TrackedMask, ...] | None:
        """Make the masks of an answer; None where only a change is answered and there is none.

        Args:
            seen: What the tracker saw.
            size: Size of the frame.
            costs: Where the time that it takes is noted.
            is_whole: Whether these are all objects.
            on_change_only: Whether no answer is due where nothing changed.
        """
        done = await self._pixels.run(
            lambda: make_masks(
                seen,
                size,
                self._config,
                self._history,
                is_whole=is_whole,
                on_change_only=on_change_only,
            ),
            is_refusable=False,
        )
        costs.queue_s += done.queue_s
        costs.postprocess_s += done.run_s
        self._observer.stage_finished("postprocess", self._model, done.run_s)
        return done.value
