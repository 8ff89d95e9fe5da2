"""Quaternions and matrices of rotations; quaternions are x, y, z, w and rotate column vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from .geometry import Quaternion


def rotation_matrix(rotation: Quaternion) -> NDArray[np.float64]:
    """Return the matrix of a rotation: shape (3, 3), for column vectors."""
    matrix: NDArray[np.float64] = matrices_from_quaternions(quaternion_array(rotation)[None])[0]
    return matrix


def quaternion_from_matrix(matrix: ArrayLike) -> Quaternion:
    """Return the quaternion, w not below 0, of a rotation matrix for column vectors.

    Args:
        matrix: Shape (3, 3), with determinant 1; what deviates from a rotation is taken away.
    """
    return quaternion_from_array(quaternions_from_matrices(np.asarray(matrix)[None])[0])


def quaternion_from_wxyz_rows(wxyz: ArrayLike) -> Quaternion:
    """Return the rotation that upstream SAM 3D (PyTorch3D) means.

    Its order is w, x, y, z, and its matrix stands to the right of row vectors: p' = p R(q). For
    column vectors that is the transposed matrix, and so the conjugate quaternion.

    Args:
        wxyz: Shape (4,), of any length but 0.
    """
    w, x, y, z = (float(one) for one in np.asarray(wxyz, dtype=np.float64))
    return conjugate(normalized(Quaternion(x, y, z, w)))


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """Return first · second: the rotation that does `second`, then `first`."""
    a, b = first, second
    return Quaternion(
        x=a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
        y=a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x,
        z=a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w,
        w=a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z,
    )


def conjugate(rotation: Quaternion) -> Quaternion:
    """Return the inverse rotation."""
    return Quaternion(-rotation.x, -rotation.y, -rotation.z, rotation.w)


def normalized(rotation: Quaternion) -> Quaternion:
    """Return a quaternion of length 1.

    Raises:
        ValueError: Its length is 0 or not finite.
    """
    array = quaternion_array(rotation)
    length = float(np.linalg.norm(array))
    if not 0.0 < length < np.inf:
        raise ValueError("a rotation's quaternion must be finite and not 0")
    return quaternion_from_array(array / length)


def quaternion_array(rotation: Quaternion) -> NDArray[np.float64]:
    """Return a quaternion as x, y, z, w: shape (4,)."""
    return np.array([rotation.x, rotation.y, rotation.z, rotation.w])


def quaternion_from_array(xyzw: ArrayLike) -> Quaternion:
    """Return x, y, z, w, shape (4,), as a quaternion."""
    x, y, z, w = (float(one) for one in np.asarray(xyzw, dtype=np.float64))
    return Quaternion(x, y, z, w)


def matrices_from_quaternions(quaternions: ArrayLike) -> NDArray[np.float64]:
    """Return the matrices, shape (n, 3, 3), of quaternions x, y, z, w, shape (n, 4).

    Raises:
        ValueError: A quaternion is 0.
    """
    return np.asarray(
        Rotation.from_quat(np.asarray(quaternions, dtype=np.float64)).as_matrix(), np.float64
    )


def quaternions_from_matrices(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return quaternions x, y, z, w, shape (n, 4), w not below 0, of matrices (n, 3, 3)."""
    rotations = Rotation.from_matrix(np.asarray(matrices, dtype=np.float64))
    return np.asarray(rotations.as_quat(canonical=True), np.float64)
