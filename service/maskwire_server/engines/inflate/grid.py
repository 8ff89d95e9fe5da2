"""The grid that an object is solved on: how much of each cell its mask covers, and where inside is.

A node stands for a square cell of the image, at the cell's centre. The mask's border is where the
covered share, interpolated along the grid's edges, is one half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

_HALF = np.float32(0.5)
_CLEARANCE = np.float32(0.1)  # of shares from one half: lines of one node do not wither
_SMOOTHING_PX = 1.0
_NEAREST_BORDER, _FARTHEST_BORDER = 0.05, 0.95
"""How near to a node the border may come, as a share of the edge: no triangle degenerates."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """Whole pixels [left, right) × [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels along x."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels along y."""
        return self.bottom - self.top

    def crop(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the view of an array of the image's size that lies in the box."""
        return array[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True, slots=True)
class Grid:
    """The nodes over the box of one object, with a ring of nodes outside the mask around them.

    Attributes:
        box: The tight box of the mask.
        stride_px: Distance of neighbouring nodes.
        shares: Shape (rows, columns), float32: which share of its cell counts as covered; at least
            one half inside, less outside.
        inside: Shape (rows, columns), bool; none on the outermost ring.
    """

    box: PixelBox
    stride_px: float
    shares: NDArray[np.float32]
    inside: NDArray[np.bool_]

    def positions(self, nodes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return where nodes (flat indices) lie: shape (n, 2), in the image frame."""
        rows, columns = np.divmod(nodes, self.inside.shape[1])
        x = self.box.left + (columns - 0.5) * self.stride_px
        y = self.box.top + (rows - 0.5) * self.stride_px
        return np.stack([x, y], axis=1)

    def border_shares(
        self, inner: NDArray[np.intp], outer: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return how far along the edges from inner to outer nodes the mask's border lies, 0-1."""
        shares = self.shares.ravel()
        within, without = shares[inner].astype(np.float64), shares[outer].astype(np.float64)
        crossing = (within - 0.5) / np.maximum(within - without, 1e-9)
        return np.clip(crossing, _NEAREST_BORDER, _FARTHEST_BORDER)


def box_of(mask: NDArray[np.bool_]) -> PixelBox:
    """Return the tight box of a mask with at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return PixelBox(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def make_grid(mask: NDArray[np.bool_], resolution: int) -> Grid:
    """Lay a grid over a mask.

    Args:
        mask: Shape (height, width), bool, with at least one pixel.
        resolution: Most nodes along the longest side of the mask's box; a node never stands for
            less than one pixel.
    """
    box = box_of(mask)
    stride = max(1.0, max(box.width, box.height) / resolution)
    covered = _covered_shares(box.crop(mask), stride)
    inside = covered >= _HALF
    thin = _thin_parts(covered, inside)
    # A line of width w covers c = w / stride of its cells. Where both neighbours are empty, this
    # puts its border at w / 2 on either side.
    thin_shares = _HALF / (1 - np.minimum(covered, _HALF) / 2)
    smooth = _smooth_border(np.pad(covered, 1), np.pad(inside, 1), stride)
    shares = np.where(np.pad(thin, 1), np.pad(thin_shares, 1), smooth)
    return Grid(box, stride, shares, np.pad(inside | thin, 1))


def _smooth_border(
    covered: NDArray[np.float32], inside: NDArray[np.bool_], stride: float
) -> NDArray[np.float32]:
    """Return covered shares whose border has no stairs, between the same nodes as before."""
    smooth = ndimage.gaussian_filter(covered, _SMOOTHING_PX / stride, mode="constant")
    clear = np.where(
        inside, np.maximum(smooth, _HALF + _CLEARANCE), np.minimum(smooth, _HALF - _CLEARANCE)
    )
    return np.asarray(clear, np.float32)


def _covered_shares(mask: NDArray[np.generic], stride: float) -> NDArray[np.float32]:
    """Return which share of each cell of stride × stride pixels a mask covers."""
    if stride == 1.0:
        return mask.astype(np.float32)
    down = _overlaps(mask.shape[0], stride)
    across = _overlaps(mask.shape[1], stride)
    shares = across @ (down @ mask.astype(np.float32)).T
    return np.asarray(np.clip(shares.T, 0, 1), np.float32)


def _overlaps(pixels: int, stride: float) -> sparse.csr_matrix:
    """Return which share of each cell each pixel takes up: shape (cells, pixels)."""
    cells = max(1, math.ceil(pixels / stride - 1e-9))
    cuts = np.arange(cells + 1) * stride
    edges = np.unique(np.concatenate([np.arange(pixels + 1, dtype=np.float64), cuts]))
    edges = edges[edges <= pixels]
    middles = (edges[1:] + edges[:-1]) / 2
    rows = np.minimum((middles / stride).astype(np.intp), cells - 1)
    weights = (np.diff(edges) / stride).astype(np.float32)
    return sparse.csr_matrix((weights, (rows, middles.astype(np.intp))), shape=(cells, pixels))


def _thin_parts(covered: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the nodes of parts that are too thin to cover half a cell, and that would be lost."""
    around = np.ones((3, 3), dtype=np.bool_)
    lost = (covered > 0) & ~ndimage.binary_dilation(inside, around)
    if not lost.any():
        return np.zeros_like(inside)
    return np.asarray((covered > 0) & ~inside & ndimage.binary_dilation(lost, around), np.bool_)
