"""An object as it was last seen well, and how much of it a place in another frame shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits

from .motion import Move, SmallPicture
from .windows import Window

TOLERANCE = 22
"""How far a channel (uint8) may be off from what lies next to it in the template."""

_NEIGHBOURHOOD = np.ones((5, 5), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """What an object looked like in one frame.

    Attributes:
        colours: Shape (height, width, 3), uint8, RGB: its box in the frame's small picture.
        inside: Shape (height, width), uint8, 1 in the object.
        box: That box in the frame.
        logits: The object's mask in the frame.
    """

    colours: NDArray[np.uint8]
    inside: NDArray[np.uint8]
    box: Box
    logits: MaskLogits

    @classmethod
    def of(cls, small: SmallPicture, logits: MaskLogits) -> Template | None:
        """Cut a mask's object out of a frame; None where nothing of it lies in the picture."""
        rows, columns = small.grey.shape
        across, down = (float(factor) for factor in small.scale)
        window = logits.window
        reduced = Box(
            window.x_min * across, window.y_min * down, window.x_max * across, window.y_max * down
        )
        mask = MaskLogits(logits.values, reduced).to_bitmap(ImageSize(columns, rows))
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        if width == 0:
            return None
        cut = np.s_[top : top + height, left : left + width]
        box = Box(left / across, top / down, (left + width) / across, (top + height) / down)
        return cls(small.colours[cut].copy(), mask[cut].astype(np.uint8), box, logits)

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """What it holds in memory."""
        yield self.colours
        yield self.inside
        yield self.logits.values

    def explains(
        self, colours: NDArray[np.uint8], window: Window, since: Move
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pixels of a window show the object as it was.

        Args:
            colours: Shape (size, size, 3), uint8, RGB: the window.
            window: Where it lies in its frame.
            since: From the template's frame to the window's.

        Returns:
            Where the object is expected and, of that, where its colours are found; both of shape
            (size, size). A colour counts as found if the template has it within two cells, so
            that a small turn or an error of the move does no harm.
        """
        size = colours.shape[0]
        warp = self._from_window(window, size, since)
        flags = cv2.WARP_INVERSE_MAP
        shape = (size, size)
        expected = cv2.warpAffine(self.inside, warp, shape, flags=flags | cv2.INTER_NEAREST) > 0
        seen = cv2.warpAffine(
            self.colours,
            warp,
            shape,
            flags=flags | cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        low = cv2.erode(seen, _NEIGHBOURHOOD).astype(np.int16) - TOLERANCE
        high = cv2.dilate(seen, _NEIGHBOURHOOD).astype(np.int16) + TOLERANCE
        smooth = cv2.blur(colours, (3, 3)).astype(np.int16)
        found = expected & ((smooth >= low) & (smooth <= high)).all(2)
        return expected, found

    def _from_window(self, window: Window, size: int, since: Move) -> NDArray[np.float64]:
        """The affine map from cells of a window to cells of the template."""
        height, width = self.inside.shape
        cell = np.array([self.box.width / width, self.box.height / height])
        turn = np.linalg.inv(since.matrix[:, :2])
        corner = np.array([window.left, window.top]) + 0.5 * window.side / size
        start = turn @ (corner - since.matrix[:, 2])
        start = (start - np.array([self.box.x_min, self.box.y_min])) / cell - 0.5
        return np.column_stack([turn * (window.side / size) / cell[:, None], start])
