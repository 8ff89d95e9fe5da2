"""What SAM 2 proposes at a grid of points: clicks decoded in batches, filtered on the device.

Predicted IoU is judged before a mask is made. Stability is judged before a mask leaves an
accelerator, at the resolution at which the caller measures it; on a CPU, where nothing has to be
copied, that is left to the caller, who does it faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from maskwire_server.domain.auto_segmentation.proposals import (
    Proposal,
    ProposalBatch,
    ProposalCriteria,
    measuring_size,
)
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits

from .embedding import Sam2Embedding
from .point_decoder import DecodedClicks, PointDecoder

# Interpolation rounds otherwise there than here: what misses the threshold by less is let through.
_STABILITY_MARGIN = 0.005
_MASKS_AT_ONCE = 16

# Points of one step. A CPU gains while a batch stays in its caches: a network of 2.6 M parameters
# at 512 px took 3.6 ms a point one by one, 2.6 ms by four and 2.4 ms by eight on two cores,
# hiera-tiny at 1024 px 26 ms, 25 ms by two, 26 ms by four and 30 ms by eight.
_ACCELERATOR_BATCH = 64
_CPU_BATCH_PIXELS = 8 * 512 * 512


def propose(
    network: Any,
    position_encoding: Tensor,
    embedding: Sam2Embedding,
    points: NDArray[np.float32],
    criteria: ProposalCriteria,
    computing: Callable[[], AbstractContextManager[None]],
) -> Iterator[ProposalBatch]:
    """Decode points batch by batch; see `ProposingEngine.propose`.

    Args:
        network: The `SAM2Base` whose encoder made the embedding.
        position_encoding: Its prompt encoder's dense encoding.
        embedding: The image.
        points: Shape (n, 2), float32, in the image frame.
        criteria: What masks are wanted.
        computing: Makes the context that each step computes in.
    """
    size = embedding.image_size
    window = Box.covering(size)
    scale = np.array(
        [network.image_size / size.width_px, network.image_size / size.height_px], np.float32
    )
    device = embedding.image_features.device
    batch_size = _points_at_once(device, network.image_size)
    prepared: PointDecoder | None = None
    for start in range(0, len(points), batch_size):
        chunk = points[start : start + batch_size]
        with computing():
            prepared = prepared or PointDecoder(network, position_encoding, embedding)
            clicks = torch.from_numpy(chunk * scale).to(device)
            decoded = prepared.decode(
                clicks, multimask=criteria.multimask, min_quality=criteria.pred_iou_thresh
            )
            if device.type != "cpu":
                decoded = only_stable(decoded, measuring_size(size), criteria)
            proposals = _on_the_host(decoded, start, window)
        yield ProposalBatch(len(chunk), proposals)


def _points_at_once(device: torch.device, side: int) -> int:
    if device.type != "cpu":
        return _ACCELERATOR_BATCH
    return max(1, _CPU_BATCH_PIXELS // side**2)


def only_stable(
    decoded: DecodedClicks, size: ImageSize, criteria: ProposalCriteria
) -> DecodedClicks:
    """Return the masks that are stable enough when they are measured at a size."""
    offset, least = criteria.stability_score_offset, criteria.stability_score_thresh
    is_stable = [
        _stability(chunk, size, offset) >= least - _STABILITY_MARGIN
        for chunk in torch.split(decoded.logits, _MASKS_AT_ONCE)
    ]
    kept = torch.nonzero(torch.cat(is_stable))[:, 0]
    return DecodedClicks(decoded.clicks[kept], decoded.qualities[kept], decoded.logits[kept])


def _stability(logits: Tensor, size: ImageSize, offset: float) -> Tensor:
    values = functional.interpolate(
        logits[None], (size.height_px, size.width_px), mode="bilinear", align_corners=False
    )[0]
    smaller = (values > offset).flatten(1).sum(1)
    return smaller / (values > -offset).flatten(1).sum(1).clamp(min=1)


def _on_the_host(decoded: DecodedClicks, start: int, window: Box) -> tuple[Proposal, ...]:
    logits = decoded.logits.cpu().numpy()
    qualities, clicks = decoded.qualities.tolist(), decoded.clicks.tolist()
    return tuple(
        Proposal(start + click, MaskLogits(mask, window), quality)
        for click, mask, quality in zip(clicks, logits, qualities, strict=True)
    )
