"""How a result came about: models, image, timings."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from maskwire.v1 import processing_pb2

from ...domain.segmentation import Processed, Timings
from .images import image_info_to_proto

_NANOSECONDS = 1_000_000_000


def duration_to_proto(seconds: float) -> Duration:
    """Write a duration that is not negative, rounded to nanoseconds."""
    whole, nanos = divmod(round(seconds * _NANOSECONDS), _NANOSECONDS)
    return Duration(seconds=whole, nanos=nanos)


def timings_to_proto(timings: Timings) -> processing_pb2.Timings:
    """Write timings; stages that did not run stay unset."""
    return processing_pb2.Timings(
        decode=_optional_duration(timings.decode_s),
        queue=duration_to_proto(timings.queue_s),
        encode=_optional_duration(timings.encode_s),
        prompt=duration_to_proto(timings.prompt_s),
        postprocess=duration_to_proto(timings.postprocess_s),
        total=duration_to_proto(timings.total_s),
    )


def processing_info_to_proto(result: Processed, request_id: str) -> processing_pb2.ProcessingInfo:
    """Write what a result says about itself."""
    return processing_pb2.ProcessingInfo(
        models=[
            processing_pb2.ModelReference(
                model=result.model, checkpoint_digest=result.checkpoint_digest
            )
        ],
        image=image_info_to_proto(result.image),
        embedding_cached=result.embedding_cached,
        timings=timings_to_proto(result.timings),
        request_id=request_id,
    )


def _optional_duration(seconds: float | None) -> Duration | None:
    return None if seconds is None else duration_to_proto(seconds)
