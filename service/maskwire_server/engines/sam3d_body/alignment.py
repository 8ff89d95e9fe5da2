"""Fits a body to the points of a scene by scale and translation, as upstream's example does.

Upstream's `notebook/mesh_alignment.py` (facebookresearch/sam-3d-objects, cf06676) brings SAM 3D
Body's meshes to the scale of SAM 3D Objects' scenes: heights are made equal, then centres. It works
in PyTorch3D's camera frame; here all is in OpenCV's, where the same steps give the same scale and
the same translation, turned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.engine import Alignment
from maskwire_server.domain.reconstruction.geometry import Intrinsics, Mesh
from maskwire_server.domain.reconstruction.visibility import visible_triangles

# Points farther than a quantile of the depths are taken to have flown off behind the outline; the
# more so the deeper the points reach, in metres.
_QUANTILES = ((6.0, 0.90), (2.0, 0.93), (0.0, 0.95))


def align_to_points(
    mesh: Mesh,
    points: NDArray[np.float32],
    focal_length_px: float,
    mask: NDArray[np.bool_] | None,
) -> Alignment | None:
    """Return how a body is scaled and moved to lie on the points that show it.

    Args:
        mesh: The body, in the camera frame.
        points: Shape (height, width, 3), float32, in the camera frame, NaN where unknown.
        focal_length_px: Focal length; the principal point is the image's centre.
        mask: Shape (height, width): the person; None takes all pixels that the mesh covers.

    Returns:
        None where no known point shows the body.
    """
    height, width = points.shape[:2]
    camera = Intrinsics(focal_length_px, focal_length_px, width / 2, height / 2)
    triangles = visible_triangles(mesh, camera, ImageSize(width, height))
    visible = triangles >= 0 if mask is None else (triangles >= 0) & mask
    targets = _without_flown(points[visible].astype(np.float64))
    if len(targets) == 0:
        return None
    cropped = mesh.vertices[np.unique(mesh.faces[triangles[visible]])].astype(np.float64)
    scale = float(np.ptp(targets[:, 1]) / np.ptp(cropped[:, 1]))
    return Alignment(
        scale_factor=scale,
        translation=targets.mean(axis=0) - cropped.mean(axis=0) * scale,
        focal_length_px=focal_length_px,
        target_point_count=len(targets),
        cropped_vertex_count=len(cropped),
    )


def _without_flown(points: NDArray[np.float64]) -> NDArray[np.float64]:
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        return points
    depths = points[:, 2]
    share = next(share for reach, share in _QUANTILES if np.ptp(depths) > reach or reach == 0.0)
    return points[depths <= np.quantile(depths, share)]
