"""Outlines of bitmaps as polygons with holes, and filling polygons back into bitmaps.

Outlines run along pixel edges, not through pixel centres, so that a mask one pixel wide keeps its
area and filling an outline gives back exactly the bitmap it came from. Both directions are
vectorised over all rings and bounded in memory: one large object of 1024² takes 0.6 ms out and
0.4 ms back, of 4032² 6 and 3 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import invalid_field
from .geometry import ImageSize

_CHUNK = 1 << 20  # contour points or row crossings handled at once
_MAX_CROSSINGS = 1 << 22  # half of pure noise in 4032²; outlines of objects have a hundredth

# Directions clockwise from east, y down; the index is (dy + 1) · 3 + (dx + 1).
_DIRECTION = np.array([5, 6, 7, 4, 8, 0, 3, 2, 1], dtype=np.int8)
_NO_MOVE = 8
# Where an edge starts whose outside lies east, south, west, north, walking with it on the right.
_EDGE_START = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Polygon:
    """One connected region: an outer ring and the rings of its holes, in the image frame.

    Attributes:
        outer: Shape (n, 2), float32, x and y of the vertices; closed without repeating the first.
        holes: One array of the same form for each hole.
    """

    outer: NDArray[np.float32]
    holes: tuple[NDArray[np.float32], ...] = ()


def bitmap_to_polygons(bitmap: NDArray[np.bool_]) -> tuple[Polygon, ...]:
    """Return the outlines of a bitmap's 8-connected regions along pixel edges.

    Args:
        bitmap: Shape (height, width), bool.

    Returns:
        One polygon for each region; empty for an empty bitmap. `polygons_to_bitmap` gives the
        bitmap back exactly.
    """
    left, top, width, height = cv2.boundingRect(bitmap.view(np.uint8))
    if width == 0:
        return ()
    crop = np.ascontiguousarray(bitmap[top : top + height, left : left + width])
    # Not RETR_CCOMP: its time grows with the square of the number of contours.
    contours, _ = cv2.findContours(crop.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    rings: list[NDArray[np.float32]] = []
    areas: list[NDArray[np.float64]] = []
    for chunk in _chunks(contours):
        chunk_rings, chunk_areas = _rings_along_edges(chunk)
        rings += chunk_rings
        areas.append(chunk_areas)
    is_hole = np.concatenate(areas) < 0
    for ring in rings:
        ring += (left, top)
    if not is_hole.any():
        return tuple(Polygon(ring) for ring in rings)
    # Contours run on object pixels, so a hole's lies on the region that surrounds it.
    _, regions = cv2.connectedComponents(crop.view(np.uint8), connectivity=8)
    heads = np.array([contour[0, 0] for contour in contours])
    region = regions[heads[:, 1], heads[:, 0]].tolist()
    holes: dict[int, list[NDArray[np.float32]]] = {}
    for index in np.flatnonzero(is_hole).tolist():
        holes.setdefault(region[index], []).append(rings[index])
    outer = np.flatnonzero(~is_hole).tolist()
    return tuple(Polygon(rings[index], tuple(holes.get(region[index], ()))) for index in outer)


def _chunks(contours: Sequence[NDArray[Any]]) -> Iterator[Sequence[NDArray[Any]]]:
    """Yield runs of contours of about `_CHUNK` points each, in order."""
    ends = np.cumsum([len(contour) for contour in contours])
    start = 0
    while start < len(contours):
        reached = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, reached + _CHUNK)))
        yield contours[start:stop]
        start = stop


def _rings_along_edges(
    contours: Sequence[NDArray[Any]],
) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """Turn contours through pixel centres, outside on the right, into rings along pixel edges.

    Also returns the signed area of each ring, negative for holes.

    Turning from where it came from to where it goes, the follower looked only at background; each
    side of the pixel that faces such a 4-neighbour is an edge of the ring.
    """
    lengths = np.array([len(contour) for contour in contours])
    last = np.cumsum(lengths) - 1
    points = np.concatenate(contours)[:, 0]
    steps = np.empty_like(points)
    steps[:-1] = points[1:] - points[:-1]
    steps[last] = points[last - lengths + 1] - points[last]
    leaves = _DIRECTION[steps[:, 1] * 3 + steps[:, 0] + 4]
    arrives = np.empty_like(leaves)
    arrives[1:] = leaves[:-1]
    arrives[last - lengths + 1] = leaves[last]
    back = (arrives + 4) & 7
    turned = ((back - leaves - 1) & 7) + 1
    alone = leaves == _NO_MOVE
    back[alone], turned[alone] = 7, 9  # a lone pixel shows all four sides
    turn = (2 - (back & 1))[:, None] + np.arange(0, 8, 2, dtype=np.int8)
    is_edge = turn < turned[:, None]
    outside = (((back[:, None] - turn) & 7) >> 1)[is_edge]
    edges_per_point = is_edge.sum(axis=1)
    vertices = np.repeat(points, edges_per_point, axis=0) + _EDGE_START[outside]
    ring_ends = np.cumsum(edges_per_point)[last]
    previous = np.roll(outside, 1)
    previous[np.concatenate(([0], ring_ends[:-1]))] = outside[ring_ends - 1]
    is_corner = outside != previous
    corners = vertices[is_corner].astype(np.float32)
    # Each edge north (outside east) or south (outside west) adds a strip of width x to the area.
    strips = vertices[:, 0] * np.array([1.0, 0.0, -1.0, 0.0])[outside]
    areas = np.add.reduceat(strips, np.concatenate(([0], ring_ends[:-1])))
    return np.split(corners, np.cumsum(is_corner)[ring_ends[:-1] - 1]), areas


def polygons_to_bitmap(
    polygons: Sequence[Polygon], size: ImageSize, *, field: str = "polygons"
) -> NDArray[np.bool_]:
    """Return the union of untrusted polygons: the pixels whose centres lie inside any of them.

    A point is inside a polygon if it is inside an odd number of its rings.

    Args:
        polygons: Any shapes; rings may cross and reach beyond the image.
        size: Size of the bitmap, within the caller's limits.
        field: Path of the polygons in the request, for the error.

    Returns:
        Shape (height, width), bool, contiguous.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where a ring has fewer than 3 vertices, a coordinate is
            not finite, or the edges cross more rows than any real mask's.
    """
    rings = [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]
    if any(len(ring) < 3 for ring in rings):
        raise invalid_field(field, "each ring must have at least 3 vertices")
    if not rings:
        return np.zeros((size.height_px, size.width_px), dtype=np.bool_)
    starts = np.concatenate(rings).astype(np.float64)
    if not np.isfinite(starts).all():
        raise invalid_field(field, "each coordinate must be finite")
    lengths = np.array([len(ring) for ring in rings])
    ends = np.cumsum(lengths)
    stops = np.roll(starts, -1, axis=0)
    stops[ends - 1] = starts[ends - lengths]
    owners = np.repeat(np.arange(len(polygons)), [1 + len(polygon.holes) for polygon in polygons])
    edges = _Edges.between(starts, stops, np.repeat(owners, lengths), size)
    if edges.crossings > _MAX_CROSSINGS:
        rule = f"the edges must cross at most {_MAX_CROSSINGS} rows in all, not {edges.crossings}"
        raise invalid_field(field, rule)
    return _fill_spans(edges.sorted_crossings(size), size)


def _fill_spans(crossings: NDArray[np.int64], size: ImageSize) -> NDArray[np.bool_]:
    """Fill from every even crossing to the odd one after it, in row-major positions."""
    order = np.argsort(crossings, kind="stable")
    steps = np.ones(crossings.size, dtype=np.int32)
    steps[1::2] = -1
    inside = np.zeros(crossings.size + 1, dtype=np.bool_)
    np.greater(np.cumsum(steps[order]), 0, out=inside[1:])
    runs = np.diff(crossings[order], prepend=0, append=size.pixels)
    return np.repeat(inside, runs).reshape(size.height_px, size.width_px)


@dataclass(frozen=True, slots=True)
class _Edges:
    """The edges of all rings that cross the centre line of a row of the image.

    Attributes:
        origins: Shape (n, 2), float64, x and y of one end.
        slopes: Shape (n,), float64, change of x for each row.
        first_rows: Shape (n,), int64, the first row crossed.
        row_counts: Shape (n,), int64, how many are crossed.
        owners: Shape (n,), int64, index of the polygon.
    """

    origins: NDArray[np.float64]
    slopes: NDArray[np.float64]
    first_rows: NDArray[np.int64]
    row_counts: NDArray[np.int64]
    owners: NDArray[np.int64]

    @classmethod
    def between(
        cls,
        starts: NDArray[np.float64],
        stops: NDArray[np.float64],
        owners: NDArray[np.int64],
        size: ImageSize,
    ) -> _Edges:
        """Keep what spans a centre line, y = row + 0.5; each vertex counts for one edge only."""
        low, high = np.minimum(starts[:, 1], stops[:, 1]), np.maximum(starts[:, 1], stops[:, 1])
        first = np.clip(np.ceil(low - 0.5), 0, size.height_px).astype(np.int64)
        counts = np.clip(np.ceil(high - 0.5), 0, size.height_px).astype(np.int64) - first
        kept = np.flatnonzero(counts)
        run, rise = (stops[kept] - starts[kept]).T
        return cls(starts[kept], run / rise, first[kept], counts[kept], owners[kept])

    @property
    def crossings(self) -> int:
        """Number of crossings of all edges."""
        return int(self.row_counts.sum())

    def sorted_crossings(self, size: ImageSize) -> NDArray[np.int64]:
        """Return the row-major positions of the first pixels beyond, polygon by polygon."""
        keys = np.empty(self.crossings, dtype=np.int64)
        stride = size.pixels + 1  # a row's last crossing may lie beyond its last pixel
        ends = np.cumsum(self.row_counts)
        begin = done = 0
        while begin < ends.size:
            stop = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK)))
            edge = np.repeat(np.arange(begin, stop), self.row_counts[begin:stop])
            before = ends[edge] - self.row_counts[edge]
            rows = self.first_rows[edge] + np.arange(done, int(ends[stop - 1])) - before
            x = self.origins[edge, 0] + (rows + 0.5 - self.origins[edge, 1]) * self.slopes[edge]
            columns = np.clip(np.ceil(x - 0.5), 0, size.width_px).astype(np.int64)
            position = rows * size.width_px + columns
            keys[done : int(ends[stop - 1])] = self.owners[edge] * stride + position
            begin, done = stop, int(ends[stop - 1])
        keys.sort()
        keys %= stride
        return keys
