"""Two sheets of triangles over a grid, sewn together along the mask's border.

Marching triangles: each square of the grid is split into two triangles, and a triangle that the
border crosses is cut there. Every edge within a sheet has a node as an end, every edge between two
border vertices belongs to exactly one triangle of either sheet: the sewn surface is closed and
two-manifold whatever the mask, with its holes, components and lines of one pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grid import Grid


@dataclass(frozen=True, slots=True)
class Sheets:
    """The closed surface's connections; vertices are front nodes, border, back nodes in this order.

    Attributes:
        nodes: Shape (n,), flat indices of the nodes inside; vertices 0 to n - 1 are their front,
            vertices n + m to 2n + m - 1 their back.
        border_inner: Shape (m,), the inner end of the edge that each border vertex lies on.
        border_outer: Shape (m,), its outer end.
        border_positions: Shape (m, 2), float64, where border vertices lie in the image frame.
        faces: Shape (k, 3), int32, counter-clockwise from outside; the front's, then the back's.
    """

    nodes: NDArray[np.intp]
    border_inner: NDArray[np.intp]
    border_outer: NDArray[np.intp]
    border_positions: NDArray[np.float64]
    faces: NDArray[np.int32]


def sew_sheets(grid: Grid) -> Sheets:
    """Triangulate the inside of a grid's mask as a front and a back that share their border."""
    size = grid.inside.size
    nodes = np.flatnonzero(grid.inside)
    faces = _march(grid.inside)
    edges = np.unique(faces[faces >= size])
    inner, outer = np.divmod(edges - size, size)
    codes = np.concatenate([nodes, edges])  # sorted: every edge's code is above every node's
    front = np.searchsorted(codes, faces)
    back = np.where(front < len(nodes), front + len(codes), front)[:, ::-1]
    share = grid.border_shares(inner, outer)[:, None]
    positions = grid.positions(inner) * (1 - share) + grid.positions(outer) * share
    return Sheets(nodes, inner, outer, positions, np.concatenate([front, back]).astype(np.int32))


def _march(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the triangles of the inside, counter-clockwise as the camera sees them.

    Shape (k, 3), int64: the flat index of a node, or for the border vertex on an edge the grid's
    size + inner node · size + outer node.
    """
    triangles = _split_squares(inside)
    flags = inside.ravel()[triangles]
    counts = flags.sum(axis=1)
    size = inside.size

    def between(inner: NDArray[np.int64], outer: NDArray[np.int64]) -> NDArray[np.int64]:
        return size + inner * size + outer

    # Turned so that the odd one out is the last: the outer one of three, or the inner one.
    a, b, outer = _turned(triangles[counts == 2], np.argmin(flags[counts == 2], axis=1)).T
    two = [[a, b, between(b, outer)], [a, between(b, outer), between(a, outer)]]
    c, d, inner = _turned(triangles[counts == 1], np.argmax(flags[counts == 1], axis=1)).T
    one = [inner, between(inner, c), between(inner, d)]
    parts = [triangles[counts == 3], *(np.stack(part, axis=1) for part in (*two, one))]
    return np.concatenate(parts)


def _split_squares(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Split the squares that the inside touches into triangles.

    The diagonal joins opposite nodes that are inside while the others are not, so that what
    touches at a corner holds together; elsewhere diagonals alternate.
    """
    rows, columns = inside.shape
    index = np.arange(inside.size, dtype=np.int64).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    in_a, in_b, in_c, in_d = (inside.ravel()[corner] for corner in (a, b, c, d))
    falling, rising = in_a & in_d & ~(in_b & in_c), in_b & in_c & ~(in_a & in_d)
    alternate = (np.add.outer(np.arange(rows - 1), np.arange(columns - 1)) % 2).astype(np.bool_)
    falls = falling | (alternate & ~rising)
    touched = in_a | in_b | in_c | in_d
    first, second = touched & falls, touched & ~falls
    corners = [
        ((a, c, d), first),
        ((a, d, b), first),
        ((a, c, b), second),
        ((b, c, d), second),
    ]
    return np.concatenate(
        [np.stack([corner[chosen] for corner in three], axis=1) for three, chosen in corners]
    )


def _turned(triangles: NDArray[np.int64], last: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return triangles with their corners turned so that the given one of each comes last."""
    order = (last[:, None] + np.array([1, 2, 3])) % 3
    return np.take_along_axis(triangles, order, axis=1)
