"""The SAM 2 engine: prompts on still images with the `sam2` package's networks.

`loading` builds a network and fits weights to it, `preprocessing` turns pixels into its input,
`prompts` turns prompts into tensors, `embedding` is what is kept of an image, `engine` ties them
together behind `domain.engine`. Tracking through video does not live here yet.
"""

from .engine import Sam2Engine, Sam2EngineFactory

__all__ = ["Sam2Engine", "Sam2EngineFactory"]
