"""Requests for jobs and reconstructions, and what a stream of one says."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwire.v1 import image_pb2, job_pb2, reconstruction_pb2
from maskwire_server.domain.masks import MaskEncoding, encode_mask
from maskwire_server.transport.converters.masks import mask_to_proto

DEADLINE_S = 120.0
WIDTH, HEIGHT = 96, 64
DONE = frozenset(
    {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}
)

ObjectsRequest = reconstruction_pb2.ReconstructObjectsRequest


def new_request_id() -> str:
    """Return an identifier that no request had."""
    return str(uuid.uuid4())


def picture(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A PNG of coloured noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def disc(
    x: float, y: float, radius: float, width: int = WIDTH, height: int = HEIGHT
) -> NDArray[np.bool_]:
    """A disc as a mask."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def objects_request(masks: Sequence[NDArray[np.bool_]] = (), **fields: Any) -> ObjectsRequest:
    """A request for objects with these masks."""
    return ObjectsRequest(
        **{
            "request_id": new_request_id(),
            "image": image_pb2.ImageSource(data=picture()),
            "masks": [mask_to_proto(encode_mask(mask, MaskEncoding.COCO_RLE)) for mask in masks],
            **fields,
        }
    )


@dataclass(frozen=True, slots=True)
class Followed:
    """A whole stream: the job's name, its events, its result."""

    name: str
    events: list[job_pb2.JobEvent]
    result: reconstruction_pb2.ReconstructObjectsResult


def follow(stream: Iterable[reconstruction_pb2.ReconstructObjectsResponse]) -> Followed:
    """Read a stream to its end; its parts must come in the contract's order."""
    first, *rest, last = list(stream)
    assert first.WhichOneof("message") == "job"
    assert all(message.WhichOneof("message") == "event" for message in rest)
    assert last.WhichOneof("message") == "result"
    return Followed(first.job, [message.event for message in rest], last.result)


def check_events(events: Sequence[job_pb2.JobEvent], first: int = 1) -> None:
    """Hold what the contract says of events: no gap, attempts in order, one end."""
    assert [event.sequence for event in events] == list(range(first, first + len(events)))
    attempts = [event.attempt for event in events]
    assert attempts == sorted(attempts)
    assert [event.state in DONE for event in events] == [False] * (len(events) - 1) + [True]
