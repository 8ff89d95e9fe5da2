"""The SAM 3 engine: concepts by text and exemplars, and visual prompts, with `transformers`.

`loading` reads a checkpoint's folder, `network` runs the parts of the network, `embedding` is what
is kept of an image, `texts` turns texts into what the detector takes and keeps them, `detection`
finds instances of a concept, `engine` ties them together behind `domain.engine` and
`domain.concepts`. Points, boxes and masks become tensors in `engines.visual_prompts`.
"""

from .engine import Sam3Engine, Sam3EngineFactory

__all__ = ["Sam3Engine", "Sam3EngineFactory"]
