"""Mask logits: what a mask decoder answers before it is thresholded at the image's resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import Box, ImageSize


@dataclass(frozen=True, slots=True)
class MaskLogits:
    """A grid of logits laid over a window of the image.

    Attributes:
        values: Shape (rows, columns), float32; above 0 means object. The grid's outer edges lie on
            the window's edges, so cell (r, c) is centred at
            (x_min + (c + 0.5) · width / columns, y_min + (r + 0.5) · height / rows).
        window: What part of the image the grid covers, in the image frame. Engines that look at
            the whole image (the SAM family) give the whole image; engines that zoom in give their
            window, which may reach beyond the image. Outside the window nothing is object.
    """

    values: NDArray[np.float32]
    window: Box

    def to_bitmap(self, size: ImageSize) -> NDArray[np.bool_]:
        """Return the boolean mask of shape (height, width): bilinear resampling, threshold 0.

        The resampling is that of `torch.nn.functional.interpolate(mode="bilinear",
        align_corners=False)`, which upstream SAM 2 uses for its full-resolution masks.
        """
        bitmap = np.zeros((size.height_px, size.width_px), dtype=np.bool_)
        left, top = (
            max(0, int(np.floor(self.window.x_min))),
            max(0, int(np.floor(self.window.y_min))),
        )
        right = min(size.width_px, int(np.ceil(self.window.x_max)))
        bottom = min(size.height_px, int(np.ceil(self.window.y_max)))
        if right <= left or bottom <= top:
            return bitmap
        resampled = self.resample(Box(left, top, right, bottom), right - left, bottom - top)
        bitmap[top:bottom, left:right] = resampled > 0.0
        return bitmap

    def resample(self, region: Box, columns: int, rows: int) -> NDArray[np.float32]:
        """Return the logits over `region` of the image on a grid of (rows, columns), bilinear.

        Positions beyond the window take the value of the nearest cell; `to_bitmap` never asks for
        more than the window's own pixels.
        """
        grid_rows, grid_columns = self.values.shape
        if region == self.window:
            return np.asarray(
                cv2.resize(self.values, (columns, rows), interpolation=cv2.INTER_LINEAR),
                dtype=np.float32,
            )
        scale_x = grid_columns / self.window.width
        scale_y = grid_rows / self.window.height
        step_x, step_y = region.width / columns * scale_x, region.height / rows * scale_y
        start_x = (region.x_min - self.window.x_min) * scale_x + 0.5 * step_x - 0.5
        start_y = (region.y_min - self.window.y_min) * scale_y + 0.5 * step_y - 0.5
        warp = np.array([[step_x, 0.0, start_x], [0.0, step_y, start_y]], dtype=np.float64)
        return np.asarray(
            cv2.warpAffine(
                self.values,
                warp,
                (columns, rows),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            dtype=np.float32,
        )
