"""Gaussian splats as PLY files, the way the viewers of 3D Gaussian splatting read them.

A file has one element, `vertex`, of float32 in little endian: position x y z, a normal that nothing
uses, the first coefficient f_dc of each colour channel, the logit of the opacity, the natural
logarithms of the three standard deviations, and the rotation as w x y z.

PLY says nothing of frames. Splats of a scene stand in the camera frame, x right, y down, z into the
scene: that is how training on photographs leaves splats, which is why viewers such as SuperSplat
turn what they load by half a turn about z and then show y up. Splats of an object by itself stand
in the object frame, with y up, as the contract has it.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement, PlyParseError

from ..geometry import Pose, Splats
from ..rotations import (
    matrices_from_quaternions,
    quaternions_from_matrices,
    rotation_matrix,
)

PLY_TYPE = "application/octet-stream"
"""Media type of the files: PLY has no registered one."""

PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
"""The properties of a file, in order."""

_READ = tuple(name for name in PROPERTIES if name not in ("nx", "ny", "nz"))

SH_C0 = 0.28209479177387814
"""The spherical harmonic of degree 0, 1 / (2 √π): colour = 0.5 + SH_C0 · f_dc."""

_LEAST_OPACITY = 1e-6  # and as little below 1, so that logits are finite
_LEAST_SCALE = 1e-12
_EQUAL_SCALES = 1e-9  # relative difference up to which a pose's scales are one
_LEAST_VARIANCE = 1e-24


def splats_to_ply(splats: Splats) -> bytes:
    """Write splats as a PLY file.

    Raises:
        ValueError: Something in them is not finite.
    """
    opacities = np.clip(splats.opacities.astype(np.float64), _LEAST_OPACITY, 1 - _LEAST_OPACITY)
    scales = np.maximum(splats.scales.astype(np.float64), _LEAST_SCALE)
    columns = np.column_stack(
        [
            splats.positions,
            np.zeros((len(splats.positions), 3)),
            (splats.colors.astype(np.float64) - 0.5) / SH_C0,
            np.log(opacities) - np.log1p(-opacities),
            np.log(scales),
            splats.rotations[:, [3, 0, 1, 2]],
        ]
    ).astype("<f4")
    if not np.isfinite(columns).all():
        raise ValueError("splats must be finite")
    vertices = columns.view([(name, "<f4") for name in PROPERTIES])[:, 0]
    file = io.BytesIO()
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(file)
    return file.getvalue()


def splats_from_ply(data: bytes) -> Splats:
    """Read splats from a PLY file; further properties, as of higher degrees, are not read.

    Raises:
        ValueError: The bytes are no PLY file or lack a property of splats.
    """
    try:
        columns = _read_columns(data)
    except (PlyParseError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"not a PLY file of Gaussian splats: {error}") from error

    def together(*names: str) -> NDArray[np.float64]:
        return np.column_stack([columns[name] for name in names])

    rotations = together("rot_1", "rot_2", "rot_3", "rot_0")
    lengths = np.linalg.norm(rotations, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError("not a PLY file of Gaussian splats: a rotation is 0 or not a number")
    return Splats(
        positions=together("x", "y", "z").astype(np.float32),
        scales=np.exp(together("scale_0", "scale_1", "scale_2")).astype(np.float32),
        rotations=(rotations / lengths).astype(np.float32),
        opacities=(1 / (1 + np.exp(-columns["opacity"]))).astype(np.float32),
        colors=(0.5 + SH_C0 * together("f_dc_0", "f_dc_1", "f_dc_2")).astype(np.float32),
    )


def _read_columns(data: bytes) -> dict[str, NDArray[np.float64]]:
    # From a real file, which plyfile maps; anything else it reads number by number.
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        vertices = PlyData.read(file)["vertex"]
        return {name: np.array(vertices[name], dtype=np.float64) for name in _READ}


def place_splats(splats: Splats, pose: Pose) -> Splats:
    """Transform splats from the object to the camera frame.

    Scales that differ between the axes shear a splat's axes against each other; what comes back is
    the Gaussian of the transformed covariance, which is exact, with axes of its own.
    """
    rotation = rotation_matrix(pose.rotation)
    matrix = rotation * pose.scale
    positions = splats.positions.astype(np.float64) @ matrix.T + pose.translation
    axes = matrices_from_quaternions(splats.rotations) if len(positions) else np.zeros((0, 3, 3))
    sigmas = splats.scales.astype(np.float64)
    if np.ptp(pose.scale) <= _EQUAL_SCALES * np.max(pose.scale):
        axes, sigmas = rotation @ axes, sigmas * float(np.mean(pose.scale))
    else:
        axes, sigmas = _principal_axes(matrix @ (axes * sigmas[:, None, :]))
    return Splats(
        positions=positions.astype(np.float32),
        scales=sigmas.astype(np.float32),
        rotations=_quaternions(axes),
        opacities=splats.opacities,
        colors=splats.colors,
    )


def merge_splats(parts: Sequence[Splats]) -> Splats:
    """Put splats that share a frame together, in order."""
    return Splats(
        positions=_joined([one.positions for one in parts], 3),
        scales=_joined([one.scales for one in parts], 3),
        rotations=_joined([one.rotations for one in parts], 4),
        opacities=_joined([one.opacities[:, None] for one in parts], 1)[:, 0],
        colors=_joined([one.colors for one in parts], 3),
    )


def _principal_axes(
    factors: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes, as columns of rotations, and deviations of the covariances F Fᵀ."""
    variances, axes = np.linalg.eigh(factors @ factors.transpose(0, 2, 1))
    axes[:, :, 0] *= np.sign(np.linalg.det(axes))[:, None]
    return axes, np.sqrt(np.maximum(variances, _LEAST_VARIANCE))


def _quaternions(axes: NDArray[np.float64]) -> NDArray[np.float32]:
    if not len(axes):
        return np.zeros((0, 4), dtype=np.float32)
    return quaternions_from_matrices(axes).astype(np.float32)


def _joined(parts: list[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    return np.concatenate([np.zeros((0, width), dtype=np.float32), *parts])
