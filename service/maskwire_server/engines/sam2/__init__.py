"""The SAM 2 engine: prompts on still images and video with the `sam2` package's networks.

`loading` builds a network and fits weights to it, `preprocessing` turns pixels into its input,
`embedding` is what is kept of an image, `engine` ties them together behind `domain.engine`. For
video, `video_network` runs the network's parts on several objects at once, `object_memory` is what
is kept of an object, `prompting` decodes prompts on a frame, and `tracker` ties them together
behind `domain.tracking`. Prompts become tensors in `engines.visual_prompts`.
"""

from .engine import Sam2Engine, Sam2EngineFactory

__all__ = ["Sam2Engine", "Sam2EngineFactory"]
