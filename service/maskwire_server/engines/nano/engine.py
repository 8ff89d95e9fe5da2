"""The nano engine: the image itself is the embedding, and prompts decide where to look at it.

Encoding keeps the pixels; decoding cuts windows around each object's prompts and runs the network
on them. Nothing is kept between calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.auto_segmentation.proposals import (
    ProposalBatch,
    ProposalCriteria,
    ProposingEngine,
)
from maskwire_server.domain.engine import (
    EngineFactory,
    ImageEmbedding,
    ModelDescription,
    ModelSpecification,
    ObjectPrediction,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.domain.tracking import TrackingEngine, TrackingLimits
from maskwire_server.engines.device import Placement, reporting_device_failure, resolve
from maskwire_server.engines.weight_parking import ParkedWeights, ReadState
from maskwire_server.engines.weights import read_state, verified_digest

from .embedding import NanoEmbedding
from .network import MASKS, NanoNetwork
from .predictor import WINDOW_SIZE, NanoPredictor
from .proposals import propose
from .tracker import NanoTracker

ARCHITECTURE = "maskwire-nano-unet"
_MAX_OBJECTS = 128


class NanoEngine(TrackingEngine, ProposingEngine):
    """One nano network on one device."""

    def __init__(
        self,
        network: NanoNetwork,
        description: ModelDescription,
        placement: Placement,
        read_state: ReadState,
    ) -> None:
        """Take over a network with its weights; it is moved to the placement's device.

        Args:
            network: The network.
            description: What the engine says about itself.
            placement: Where and how to compute.
            read_state: Reads the weights again.
        """
        self._description = description
        with reporting_device_failure(description.name):
            self._predictor = NanoPredictor(network, placement)
        self._weights = ParkedWeights(network, read_state)

    @property
    def description(self) -> ModelDescription:
        """What the model is and can do."""
        return self._description

    def encode(self, pixels: NDArray[np.uint8]) -> NanoEmbedding:
        """Keep the image; see `SegmentationEngine.encode`."""
        kept = pixels.copy()
        kept.flags.writeable = False
        size = ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0])
        return NanoEmbedding(image_size=size, size_bytes=kept.nbytes, pixels=kept)

    def decode(
        self,
        embedding: ImageEmbedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool,
    ) -> list[ObjectPrediction]:
        """Decode prompts into logits over the windows that they led to.

        All windows of the request go through the network together. See
        `SegmentationEngine.decode`.
        """
        if not isinstance(embedding, NanoEmbedding):
            raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
        with reporting_device_failure(self._description.name):
            return self._predictor.predict(embedding.pixels, objects, multimask=multimask)

    def new_tracker(self, size: ImageSize, limits: TrackingLimits) -> NanoTracker:
        """Make a tracker without objects; see `TrackingEngine.new_tracker`."""
        return NanoTracker(self._predictor, self._description.name, limits)

    def propose(
        self,
        embedding: ImageEmbedding,
        points: NDArray[np.float32],
        criteria: ProposalCriteria,
    ) -> Iterator[ProposalBatch]:
        """Look for masks from coarse to fine; see `ProposingEngine.propose`."""
        if not isinstance(embedding, NanoEmbedding):
            raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
        return propose(self._predictor, embedding.pixels, points, criteria, self._description.name)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights while they are loaded."""
        return self._weights.size_bytes

    def drop_weights(self) -> None:
        """Give the memory of the weights back."""
        self._weights.drop()

    def load_weights(self) -> None:
        """Load the weights that were dropped; see `SegmentationEngine.load_weights`."""
        with reporting_device_failure(self._description.name):
            self._weights.load()

    def close(self) -> None:
        """Free the device's memory; the engine is not used again."""
        del self._predictor, self._weights
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class NanoEngineFactory(EngineFactory):
    """Loads nano networks: the one that ships with Maskwire, or weights of the same form."""

    def load(self, specification: ModelSpecification) -> NanoEngine:
        """Load the network onto its device; see `EngineFactory.load`."""
        checkpoint = specification.checkpoint or bundled_weights()
        placement = resolve(specification.device, specification.precision)
        digest = verified_digest(checkpoint, specification.sha256)
        network = NanoNetwork()
        try:
            network.load_state_dict(_float_state(checkpoint))
        except RuntimeError as error:
            raise MaskwireError(
                ErrorCode.MODEL_UNAVAILABLE,
                f"checkpoint {checkpoint} does not fit {ARCHITECTURE}: {error}",
                resource=specification.name,
            ) from error
        description = ModelDescription(
            name=specification.name,
            engine=specification.engine,
            architecture=ARCHITECTURE,
            checkpoint_digest=f"sha256:{digest}",
            prompt_kinds=frozenset({PromptKind.POINT, PromptKind.BOX, PromptKind.MASK}),
            masks_per_object=MASKS - 1,
            max_objects=_MAX_OBJECTS,
            native_resolution_px=WINDOW_SIZE,
            supports_video=True,
            device=str(placement.device),
            precision=placement.precision,
            license="Apache-2.0" if specification.checkpoint is None else "unknown",
        )
        return NanoEngine(network, description, placement, partial(_float_state, checkpoint))


def _float_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read weights; they are stored in half precision."""
    return {name: tensor.float() for name, tensor in read_state(checkpoint).items()}


def bundled_weights() -> Path:
    """Return the path of the weights that ship with Maskwire."""
    weights = files("maskwire_server.engines.nano").joinpath("weights/maskwire-nano.safetensors")
    return Path(str(weights))
