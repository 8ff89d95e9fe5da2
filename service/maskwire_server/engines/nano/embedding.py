"""What the nano engine keeps of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.engine import ImageEmbedding


@dataclass(frozen=True, slots=True, eq=False)
class NanoEmbedding(ImageEmbedding):
    """The image as it was sent.

    Attributes:
        pixels: Shape (height, width, 3), uint8, RGB; read-only.
    """

    pixels: NDArray[np.uint8]
