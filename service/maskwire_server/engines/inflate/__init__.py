"""Inflate, the embedded engine for 3D objects: image and mask to a closed, textured mesh.

It needs no weights. `grid` is where an object is solved, `poisson` solves how far it bulges,
`sheets` sews a front and a back along the mask's border, `known_points` and `placing` put them into
the camera frame, `textures` and `splatting` colour them, `engine` stands behind
`domain.reconstruction.engine`.
"""

from .engine import InflateEngine, InflateFactory

__all__ = ["InflateEngine", "InflateFactory"]
