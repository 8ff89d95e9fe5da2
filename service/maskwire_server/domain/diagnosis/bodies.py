"""Checks of reconstructed bodies against the picture that they were made from."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import trimesh

from ..reconstruction.camera import project
from ..reconstruction.engine import BodyModel, BodyScene
from ..reconstruction.formats.glb import scene_to_glb
from ..reconstruction.formats.scene import body_meshes
from ..reconstruction.geometry import Intrinsics
from .findings import Finding, Verdict, judged

KEYPOINTS = 70
"""How many keypoints a body has."""

_MOST_REPROJECTION_PX = 2.0
_LEAST_INSIDE = 0.5  # of the keypoints: people may be cut off by the picture's edge
_PLAUSIBLE_SIZES_M = (0.4, 2.6)
_MOST_DIFFERENCE = 1e-3


def examine_bodies(
    scene: BodyScene, bodies: Sequence[BodyModel], again: Sequence[BodyModel]
) -> Iterator[Finding]:
    """Check a result.

    Args:
        scene: What was reconstructed.
        bodies: What came of it.
        again: What came of it the second time.
    """
    expected = max(len(scene.boxes), len(scene.masks))
    if not bodies:
        yield Finding("people", Verdict.FAILED, "none was found in the picture")
        return
    wanted = f"{expected} were to be" if expected else "they were to be found"
    yield judged("people", expected in (0, len(bodies)), f"{len(bodies)}; {wanted}")
    finite = _is_finite(bodies)
    yield judged("numbers", finite, "vertices and keypoints are to be finite")
    if not finite:
        return
    yield _shapes(bodies)
    yield _sizes(bodies)
    yield _reprojection(scene, bodies)
    yield _inside(scene, bodies)
    yield _glb(bodies)
    yield _repeated(bodies, again)


def _is_finite(bodies: Sequence[BodyModel]) -> bool:
    return all(
        bool(np.isfinite(array).all())
        for body in bodies
        for array in (body.mesh.vertices, body.keypoints_camera, body.keypoints_image)
    )


def _shapes(bodies: Sequence[BodyModel]) -> Finding:
    shapes = {(body.keypoints_image.shape, body.keypoints_camera.shape) for body in bodies}
    return judged(
        "keypoints",
        shapes == {((KEYPOINTS, 2), (KEYPOINTS, 3))},
        f"{KEYPOINTS} in the picture and in space are expected; seen: {sorted(shapes)}",
    )


def _sizes(bodies: Sequence[BodyModel]) -> Finding:
    sizes = [float(np.ptp(body.mesh.vertices, axis=0).max()) for body in bodies]
    nearest = min(float(body.mesh.vertices[:, 2].min()) for body in bodies)
    low, high = _PLAUSIBLE_SIZES_M
    return judged(
        "sizes",
        low <= min(sizes) and max(sizes) <= high and nearest > 0,
        f"bodies reach over {min(sizes):.2f} to {max(sizes):.2f} m, from {nearest:.2f} m away",
    )


def _reprojection(scene: BodyScene, bodies: Sequence[BodyModel]) -> Finding:
    height, width = scene.pixels.shape[:2]
    errors = []
    for body in bodies:
        focal = body.focal_length_px
        projected = project(body.keypoints_camera, Intrinsics(focal, focal, width / 2, height / 2))
        errors.append(float(np.abs(projected - body.keypoints_image).max()))
    return judged(
        "camera",
        max(errors) <= _MOST_REPROJECTION_PX,
        f"keypoints in space project onto those in the picture within {max(errors):.2f} px",
    )


def _inside(scene: BodyScene, bodies: Sequence[BodyModel]) -> Finding:
    height, width = scene.pixels.shape[:2]
    shares = [
        float(
            ((body.keypoints_image >= 0) & (body.keypoints_image <= (width, height))).all(1).mean()
        )
        for body in bodies
    ]
    return judged(
        "in the picture",
        min(shares) >= _LEAST_INSIDE,
        f"{min(shares):.0%} of the keypoints are; at least {_LEAST_INSIDE:.0%} are expected",
    )


def _glb(bodies: Sequence[BodyModel]) -> Finding:
    read = trimesh.load_scene(io.BytesIO(scene_to_glb(body_meshes(bodies))), file_type="glb")
    meshes = list(read.geometry.values())
    triangles = sum(len(mesh.faces) for mesh in meshes)
    passed = len(meshes) == len(bodies) and triangles > 0
    return judged("GLB", passed, f"{len(meshes)} meshes with {triangles} triangles, read back")


def _repeated(bodies: Sequence[BodyModel], again: Sequence[BodyModel]) -> Finding:
    if len(bodies) != len(again):
        return judged("repetition", False, f"{len(again)} people the second time")
    difference = max(
        float(np.abs(one.keypoints_camera - other.keypoints_camera).max())
        for one, other in zip(bodies, again, strict=True)
    )
    return judged(
        "repetition",
        difference <= _MOST_DIFFERENCE,
        f"keypoints of two runs differ by {difference:.2g} m",
    )
