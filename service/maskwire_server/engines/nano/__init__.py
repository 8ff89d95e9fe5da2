"""maskwire-nano, the embedded default: a small convolutional segmenter that works on windows.

`windows` is the geometry of squares of the image, `views` turns prompts into windows, `network` is
the network itself, `predictor` runs it over views, `engine` stands behind `domain.engine`. Video:
`tracker` holds frames and objects, `following` takes objects from one frame to the next with
`motion`, `appearance` and `template`, and `search` looks for lost ones. The
trained weights and their model card lie in `weights/`; training is the package `training`.
"""

from .engine import NanoEngine, NanoEngineFactory

__all__ = ["NanoEngine", "NanoEngineFactory"]
