"""The two equations on the nodes of a grid: how far an object bulges, and depth across gaps.

Inflation follows Baran and Lehtinen, "Notes on Inflating Curves": ∇²u = -4 within the mask, u = 0
on its border, height √u, which makes a sphere of a disc. The border lies between nodes; it enters
the equation at its true distance (Gibou et al. 2002), which keeps the matrix symmetric.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from .grid import Grid


def inflation_heights(grid: Grid) -> NDArray[np.float64]:
    """Return how far the surface stands off the mask's plane at each node inside.

    Returns:
        Shape (n,), float64, in pixels of the image, above 0; in the order of the flat indices.
    """
    adjacency, to_border = _neighbours(grid)
    diagonal = np.asarray(adjacency.sum(axis=1)).ravel() + to_border
    squares = _solve(sparse.diags(diagonal) - adjacency, np.full(len(diagonal), 4.0))
    return np.sqrt(np.maximum(squares, 1e-6)) * grid.stride_px


def fill_harmonically(grid: Grid, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values at all nodes inside: the given ones, and between them what is smoothest.

    A component of the mask without any value takes the one of the nearest node that has one.

    Args:
        grid: The grid.
        values: Shape (n,), NaN where unknown, at least one known.
    """
    known = np.isfinite(values)
    if known.all():
        return values
    adjacency, _ = _neighbours(grid)
    filled = _given_to_lone_components(grid, adjacency, values)
    unknown = ~np.isfinite(filled)
    if not unknown.any():
        return filled
    diagonal = np.asarray(adjacency.sum(axis=1)).ravel()
    rows = (sparse.diags(diagonal) - adjacency).tocsr()[unknown]
    right = -(rows[:, ~unknown] @ filled[~unknown])
    filled[unknown] = _solve(rows[:, unknown], right)
    return filled


def _neighbours(grid: Grid) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """Return which nodes inside are neighbours along the axes, and what the border adds to each.

    The first is a symmetric matrix of ones; the second is the sum of 1 / (share of the edge up to
    the border) over a node's neighbours outside.
    """
    inside = grid.inside
    nodes = np.flatnonzero(inside)
    number = np.zeros(inside.size, np.int64)
    number[nodes] = np.arange(len(nodes))
    to_border = np.zeros(len(nodes))
    pairs = []
    for step in (1, -1, inside.shape[1], -inside.shape[1]):
        others = nodes + step  # within the array: the outermost ring has no node inside
        are_inside = inside.ravel()[others]
        pairs.append((np.flatnonzero(are_inside), number[others[are_inside]]))
        shares = grid.border_shares(nodes[~are_inside], others[~are_inside])
        to_border[~are_inside] += 1 / shares
    firsts = np.concatenate([pair[0] for pair in pairs])
    seconds = np.concatenate([pair[1] for pair in pairs])
    shape = (len(nodes), len(nodes))
    matrix = sparse.csr_matrix((np.ones(len(firsts)), (firsts, seconds)), shape=shape)
    return matrix, to_border


def _given_to_lone_components(
    grid: Grid, adjacency: sparse.csr_matrix, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the values, with components that have none filled from the nearest known node."""
    known = np.isfinite(values)
    count, labels = csgraph.connected_components(adjacency, directed=False)
    has_value = np.zeros(count, np.bool_)
    has_value[labels[known]] = True
    lone = ~has_value[labels]
    filled = values.copy()
    if lone.any():
        positions = grid.positions(np.flatnonzero(grid.inside))
        _, nearest = cKDTree(positions[known]).query(positions[lone])
        filled[lone] = values[known][nearest]
    return filled


def _solve(matrix: sparse.csr_matrix, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve a symmetric, positive definite system."""
    factors = splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.asarray(factors.solve(right), np.float64)
