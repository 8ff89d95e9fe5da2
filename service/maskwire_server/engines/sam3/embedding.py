"""What the SAM 3 engine keeps of an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from maskwire_server.domain.engine import ImageEmbedding


@dataclass(frozen=True, slots=True, eq=False)
class Sam3Embedding(ImageEmbedding):
    """The vision encoder's output for both heads; on the engine's device.

    At the published size it is 127 MiB in float32, of which 107 are the detector's.

    With n the side of the encoder's grid (the network's side / its patch) and C the width of the
    necks:

    Attributes:
        detector_levels: For concepts, shapes (1, C, 4n, 4n), (1, C, 2n, 2n) and (1, C, n, n); empty
            in what `without_concepts` returns.
        tracker_levels: For visual prompts, shapes (1, C/8, 4n, 4n) and (1, C/4, 2n, 2n), projected
            for the mask decoder, and (1, C, n, n), as it left the neck: what says that there is no
            memory is added where there is none.
    """

    detector_levels: tuple[torch.Tensor, ...]
    tracker_levels: tuple[torch.Tensor, ...]

    def without_concepts(self) -> Sam3Embedding:
        """Return what is left to keep of a frame in which no concept is looked for any more."""
        size_bytes = sum(level.untyped_storage().nbytes() for level in self.tracker_levels)
        return replace(self, detector_levels=(), size_bytes=size_bytes)
