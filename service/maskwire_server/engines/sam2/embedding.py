"""What the SAM 2 engine keeps of an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from maskwire_server.domain.engine import ImageEmbedding


@dataclass(frozen=True, slots=True, eq=False)
class Sam2Embedding(ImageEmbedding):
    """The image encoder's output, for the mask decoder and for tracking; on the engine's device.

    With S the side of the network's input and C its embedding width:

    Attributes:
        image_features: Shape (1, C, S/16, S/16), as they left the encoder: what says that there is
            no memory is added where there is none.
        high_res_features: Shapes (1, C/8, S/4, S/4) and (1, C/4, S/8, S/8), already projected for
            the mask decoder; empty for networks that do without.
    """

    image_features: torch.Tensor
    high_res_features: tuple[torch.Tensor, ...]
