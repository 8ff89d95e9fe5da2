"""SAM 3D Objects: objects from one image through the package `sam3d_objects`.

Untested on real weights until somebody with access to them runs `maskwire doctor sam3d-objects`.
"""

from .loading import Sam3dObjectsFactory

__all__ = ["Sam3dObjectsFactory"]
