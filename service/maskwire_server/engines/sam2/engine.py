"""The SAM 2 engine: encodes an image once and decodes any number of prompts on the embedding.

Decoding calls the prompt encoder and mask decoder on the embedding directly, so that, unlike with
upstream's predictor, no image or prompt is ever remembered. Objects of one request whose prompts
have the same structure are decoded in one batch; requests are never batched with each other, so
that no request's masks depend on another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

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
    MaskCandidate,
    ModelDescription,
    ModelSpecification,
    ObjectPrediction,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.domain.tracking import TrackingEngine, TrackingLimits
from maskwire_server.engines import catalogue
from maskwire_server.engines.device import Placement, reporting_device_failure, resolve
from maskwire_server.engines.visual_prompts import PromptBatch, batched
from maskwire_server.engines.weight_parking import ParkedWeights, ReadState, of_same_files
from maskwire_server.engines.weights import read_state, verified_digest

from .embedding import Sam2Embedding
from .loading import build_network, load_weights, packaged_config
from .preprocessing import network_input
from .prompting import Prompting
from .proposals import propose
from .tracker import Sam2Tracker
from .video_network import VideoNetwork

_MAX_OBJECTS = 128
# Objects decoded at once; each takes some tens of MB of the device's memory meanwhile at 1024 px.
_ACCELERATOR_BATCH_LIMIT = 64
# A CPU gains while a batch stays in its caches. Measured for 16 objects on one core: a network of
# 2.6 M parameters at 512 px took 124 ms one by one, 91 ms by four, 98 ms at once; hiera-tiny at
# 1024 px took 1.6 s, 1.9 s and 2.9 s. So: four at 512 px, one from 1024 px on.
_CPU_BATCH_PIXELS = 4 * 512 * 512
# Objects followed at once; from the shapes, each takes about 0.2 GB meanwhile at 1024 px.
_ACCELERATOR_TRACKING_BATCH_LIMIT = 16
# A CPU gains while a pass's time goes into calls more than into arithmetic. Measured for 1, 4 and 8
# objects on one core of a busy machine, best of a dozen frames: a network of 2.6 M parameters took
# at 128 px 20, 71 and 156 ms one by one, 36 by four for 4, and 68 by four or 54 at once for 8; at
# 512 px 86, 306 and 580 ms one by one, 279 by four for 4, and 640 by four or 915 at once for 8. So:
# four at 512 px, one from 1024 px on.
_CPU_TRACKING_PIXELS = 4 * 512 * 512


class Sam2Engine(TrackingEngine, ProposingEngine):
    """One SAM 2 network on one device."""

    def __init__(
        self,
        network: Any,
        description: ModelDescription,
        placement: Placement,
        read_state: ReadState,
    ) -> None:
        """Take over a network with its weights.

        Args:
            network: A `sam2.modeling.sam2_base.SAM2Base`; moved to the placement's device.
            description: What the engine says about itself.
            placement: Where and how to compute.
            read_state: Reads the weights again.
        """
        self._description = description
        self._placement = placement
        self._batch_limit = _ACCELERATOR_BATCH_LIMIT
        self._tracking_batch_limit = _ACCELERATOR_TRACKING_BATCH_LIMIT
        if placement.device.type == "cpu":
            self._batch_limit = max(1, _CPU_BATCH_PIXELS // network.image_size**2)
            self._tracking_batch_limit = max(1, _CPU_TRACKING_PIXELS // network.image_size**2)
        with self._computing():
            self._network = network.to(placement.device).eval()
            # Depends on the architecture alone; upstream computes it anew for every prompt.
            self._position_encoding = network.sam_prompt_encoder.get_dense_pe()
        self._weights = ParkedWeights(self._network, read_state)
        self._video: VideoNetwork | None = None

    @property
    def description(self) -> ModelDescription:
        """What the model is and can do."""
        return self._description

    def encode(self, pixels: NDArray[np.uint8]) -> Sam2Embedding:
        """Encode an image; see `SegmentationEngine.encode`."""
        network = self._network
        with self._computing():
            image = network_input(pixels, network.image_size, self._placement.device)
            levels = network.forward_image(image)["backbone_fpn"]
            features = levels[-1]
            high_res = tuple(levels[-3:-1]) if network.use_high_res_features_in_sam else ()
        return Sam2Embedding(
            image_size=ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0]),
            size_bytes=sum(tensor.untyped_storage().nbytes() for tensor in (features, *high_res)),
            image_features=features,
            high_res_features=high_res,
        )

    def decode(
        self,
        embedding: ImageEmbedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool,
    ) -> list[ObjectPrediction]:
        """Decode prompts into logits at a quarter of the network's side.

        A mask alone is a valid prompt, but a weak one for this family of networks, as upstream.
        The logits are not bounded, so that thresholding them at the image's resolution gives what
        upstream's predictor gives. See `SegmentationEngine.decode`.
        """
        if not isinstance(embedding, Sam2Embedding):
            raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
        window = Box.covering(embedding.image_size)
        candidates: list[tuple[MaskCandidate, ...]] = [()] * len(objects)
        network, encoder = self._network, self._network.sam_prompt_encoder
        with self._computing():
            features = embedding.image_features
            if network.directly_add_no_mem_embed:
                features = features + network.no_mem_embed.view(1, -1, 1, 1)
            for batch in batched(
                objects,
                embedding.image_size,
                network_side=network.image_size,
                mask_side=encoder.mask_input_size[0],
                batch_limit=self._batch_limit,
                device=self._placement.device,
            ):
                logits, scores = self._decode_batch(embedding, features, batch, multimask)
                for position, masks, ious in zip(batch.positions, logits, scores, strict=True):
                    candidates[position] = tuple(
                        MaskCandidate(MaskLogits(mask, window), float(iou))
                        for mask, iou in zip(masks, ious, strict=True)
                    )
        return [
            ObjectPrediction(prompts.object_id, answers)
            for prompts, answers in zip(objects, candidates, strict=True)
        ]

    def new_tracker(self, size: ImageSize, limits: TrackingLimits) -> Sam2Tracker:
        """Make a tracker; see `TrackingEngine.new_tracker`."""
        device = self._placement.device
        with self._computing():
            if self._video is None:
                self._video = VideoNetwork(self._network, device, self._position_encoding)
        return Sam2Tracker(
            self._video,
            size,
            limits,
            prompting=Prompting(self._video, size, device, self._batch_limit),
            computing=self._computing,
            batch_limit=self._tracking_batch_limit,
        )

    def propose(
        self,
        embedding: ImageEmbedding,
        points: NDArray[np.float32],
        criteria: ProposalCriteria,
    ) -> Iterator[ProposalBatch]:
        """Look for masks at points; see `ProposingEngine.propose`."""
        if not isinstance(embedding, Sam2Embedding):
            raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
        return propose(
            self._network, self._position_encoding, embedding, points, criteria, self._computing
        )

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
        del self._network, self._position_encoding, self._video, self._weights
        if self._placement.device.type == "cuda":
            torch.cuda.empty_cache()

    def _decode_batch(
        self,
        embedding: Sam2Embedding,
        features: torch.Tensor,
        batch: PromptBatch,
        multimask: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (objects, candidates, rows, columns) and predicted IoUs of a batch."""
        points = None if batch.coordinates is None else (batch.coordinates, batch.labels)
        sparse, dense = self._network.sam_prompt_encoder(
            points=points, boxes=None, masks=batch.masks
        )
        logits, scores, _, _ = self._network.sam_mask_decoder(
            image_embeddings=features,
            image_pe=self._position_encoding,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=len(batch.positions) > 1,
            high_res_features=list(embedding.high_res_features),
        )
        return logits.float().cpu().numpy(), scores.float().cpu().numpy()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with (
            reporting_device_failure(self._description.name),
            torch.inference_mode(),
            self._placement.autocast(),
        ):
            yield


class Sam2EngineFactory(EngineFactory):
    """Loads SAM 2 networks: the published ones by name, any other by configuration and weights."""

    def load(self, specification: ModelSpecification) -> Sam2Engine:
        """Load a network onto its device; see `EngineFactory.load`."""
        name, checkpoint = specification.name, specification.checkpoint
        if checkpoint is None:
            raise MaskwireError(
                ErrorCode.MODEL_UNAVAILABLE,
                f"model {name} has no checkpoint: run `maskwire models pull {name}` "
                "or name a file in the settings",
                resource=name,
            )
        config, architecture = _architecture(specification)
        placement = resolve(specification.device, specification.precision)
        digest = verified_digest(checkpoint, specification.sha256)
        network = build_network(config)
        load_weights(network, read_state(checkpoint), checkpoint)
        entry = catalogue.find(name)
        description = ModelDescription(
            name=name,
            engine=specification.engine,
            architecture=architecture,
            checkpoint_digest=f"sha256:{digest}",
            prompt_kinds=frozenset({PromptKind.POINT, PromptKind.BOX, PromptKind.MASK}),
            masks_per_object=network.sam_mask_decoder.num_multimask_outputs,
            max_objects=_MAX_OBJECTS,
            native_resolution_px=network.image_size,
            supports_video=network.num_maskmem > 0 and network.directly_add_no_mem_embed,
            device=str(placement.device),
            precision=placement.precision,
            license=entry.license if entry is not None else "unknown",
        )
        read = of_same_files(partial(read_state, checkpoint), checkpoint, digest)
        return Sam2Engine(network, description, placement, read)


def _architecture(specification: ModelSpecification) -> tuple[Path, str]:
    """Return the configuration's file and the architecture's name."""
    if specification.config is not None:
        return specification.config, specification.config.stem
    entry = catalogue.find(specification.name)
    if entry is None or not entry.config:
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"the name {specification.name!r} implies no SAM 2 architecture: "
            "name a configuration file in the settings",
            resource=specification.name,
        )
    return packaged_config(entry.config), entry.name
