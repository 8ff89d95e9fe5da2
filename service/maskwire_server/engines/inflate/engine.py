"""The engine: objects one after the other, each through the same stages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.errors import invalid_field
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.camera import default_intrinsics, fit_intrinsics
from maskwire_server.domain.reconstruction.engine import (
    ObjectEngine,
    ObjectModel,
    ObjectScene,
    ReconstructedScene,
    ReconstructionDescription,
    ReconstructionFactory,
    ReconstructionSpecification,
    StageReport,
)
from maskwire_server.domain.reconstruction.geometry import Intrinsics, Mesh

from .grid import make_grid
from .known_points import find_known_points
from .placing import object_pose, place_in_units, place_on_points, to_object_frame
from .poisson import inflation_heights
from .sheets import sew_sheets
from .splatting import scatter_splats
from .textures import make_texture

_NAME = "inflate"
_STAGES = ("prepare", "solve", "mesh", "texture", "splats")


class InflateEngine(ObjectEngine):
    """Objects by inflation of their masks; needs no weights, runs on the CPU.

    Without points the camera is assumed: a focal length of the image's diagonal, the object's
    middle at depth 1. The scene is then right up to the size and depth of each object.
    """

    def __init__(self, specification: ReconstructionSpecification) -> None:
        self._specification = specification

    @property
    def description(self) -> ReconstructionDescription:
        """What it is."""
        return ReconstructionDescription(_NAME, "", "cpu")

    def reconstruct(self, scene: ObjectScene, report: StageReport) -> ReconstructedScene:
        """Reconstruct every object; see `ObjectEngine.reconstruct`."""
        report(_STAGES[0], 0.0)
        intrinsics = _camera_of(scene)
        count = len(scene.masks)
        objects = []
        for index in range(count):

            def begin(stage: str, index: int = index) -> None:
                report(stage, (index + _STAGES.index(stage) / len(_STAGES)) / count)

            objects.append(self._reconstruct_one(scene, index, intrinsics, begin))
        report(_STAGES[-1], 1.0)
        return ReconstructedScene(tuple(objects), intrinsics, scene.points is not None, np.eye(4))

    def _reconstruct_one(
        self,
        scene: ObjectScene,
        index: int,
        intrinsics: Intrinsics,
        begin: Callable[[str], None],
    ) -> ObjectModel:
        begin("prepare")
        mask = scene.masks[index]
        grid = make_grid(mask, self._specification.mesh_resolution_px)
        known = None
        if scene.points is not None:
            known = find_known_points(grid, mask, scene.points, intrinsics)
            if known is None:
                raise invalid_field(f"masks[{index}]", "must cover points whose depth is known")
        begin("solve")
        heights = inflation_heights(grid)
        begin("mesh")
        sheets = sew_sheets(grid)
        if known is None:
            placed = place_in_units(grid, sheets, heights, intrinsics)
        else:
            placed = place_on_points(grid, sheets, heights, known, intrinsics)
        pose = object_pose(placed.points)
        begin("texture")
        texture = make_texture(scene.pixels, mask, grid.box, self._specification.texture_px)
        mesh = Mesh(
            to_object_frame(placed.points, pose),
            sheets.faces,
            texture.coordinates(placed.positions),
            texture.pixels,
        )
        begin("splats")
        splats = scatter_splats(mesh, texture, self._specification.max_splats, (scene.seed, index))
        return ObjectModel(mesh, splats, pose)


class InflateFactory(ReconstructionFactory):
    """Makes the engine; there is nothing to load."""

    def load(self, specification: ReconstructionSpecification) -> InflateEngine:
        """Make the engine; never fails."""
        return InflateEngine(specification)


def _camera_of(scene: ObjectScene) -> Intrinsics:
    """Return the camera that is given, that the points were made with, or that is assumed."""
    if scene.intrinsics is not None:
        return scene.intrinsics
    if scene.points is not None:
        return fit_intrinsics(scene.points)
    height, width = _shape_of(scene.pixels)
    return default_intrinsics(ImageSize(width, height))


def _shape_of(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return int(pixels.shape[0]), int(pixels.shape[1])
