"""SAM 3D Body: human bodies from one image through the package `sam_3d_body`.

Untested on real weights until somebody with access to them runs `maskwire doctor sam3d-body`.
"""

from .loading import Sam3dBodyFactory

__all__ = ["Sam3dBodyFactory"]
