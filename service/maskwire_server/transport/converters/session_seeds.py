"""The seed of a session: bytes that clients keep and servers write and read.

Whatever a client sends as a seed is untrusted: it is held to the contract's rules like a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message

from maskwire.v1 import mask_pb2, realtime_pb2, session_snapshot_pb2

from ...domain.concept_tracking import SoughtConcept
from ...domain.errors import MaskwireError
from ...domain.masks import EncodedRle, MaskEncoding
from ...domain.postprocessing import PostprocessOptions
from ...domain.segmentation import MaskOptions
from ...domain.sessions.messages import (
    DropPolicy,
    SessionConfig,
    Snapshot,
    SnapshotObject,
)
from ...domain.sessions.resuming import refused
from ..validation import RequestValidator
from .geometry import image_size_from_proto, image_size_to_proto
from .processing import duration_to_proto

VERSION = 1
"""Version of the layout that this server writes, and the only one that it reads."""

_DROP_POLICIES = {
    DropPolicy.PROCESS_ALL: realtime_pb2.DROP_POLICY_PROCESS_ALL,
    DropPolicy.LATEST_ONLY: realtime_pb2.DROP_POLICY_LATEST_ONLY,
}


_ENCODINGS: Mapping[MaskEncoding, mask_pb2.MaskEncoding.ValueType] = {
    MaskEncoding.COCO_RLE: mask_pb2.MASK_ENCODING_COCO_RLE,
    MaskEncoding.COCO_RLE_UNCOMPRESSED: mask_pb2.MASK_ENCODING_COCO_RLE_UNCOMPRESSED,
    MaskEncoding.PNG_1BIT: mask_pb2.MASK_ENCODING_PNG_1BIT,
    MaskEncoding.PNG_8BIT: mask_pb2.MASK_ENCODING_PNG_8BIT,
    MaskEncoding.POLYGONS: mask_pb2.MASK_ENCODING_POLYGONS,
    MaskEncoding.NONE: mask_pb2.MASK_ENCODING_NONE,
}


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed that was read, as the message that it holds."""

    message: session_snapshot_pb2.SessionSnapshot

    def snapshot(self, config: SessionConfig) -> Snapshot:
        """Return it as the domain's snapshot, given its config as read."""
        message = self.message
        has_size = message.HasField("frame_size")
        return Snapshot(
            model=message.model,
            checkpoint_digest=message.checkpoint_digest,
            tenant=message.tenant,
            config=config,
            last_sequence=message.last_sequence,
            frame_size=image_size_from_proto(message.frame_size) if has_size else None,
            next_object_id=message.next_object_id,
            frames=tuple(frame.image for frame in message.frames),
            objects=tuple(
                SnapshotObject(
                    object_id=one.object_id,
                    frame=one.frame,
                    mask=EncodedRle(one.mask.counts, image_size_from_proto(one.mask.size)),
                    is_visible=one.is_visible,
                    text=one.text,
                    confidence=one.confidence if one.text else None,
                )
                for one in message.objects
            ),
            sought=tuple(
                SoughtConcept(
                    one.text,
                    one.score_threshold if one.HasField("score_threshold") else None,
                    one.object_id if one.HasField("object_id") else None,
                )
                for one in message.texts
            ),
        )


def snapshot_from_seed(data: bytes, validator: RequestValidator) -> Seed:
    """Read a seed.

    Raises:
        MaskwireError: `SEED_REFUSED` where the bytes are no seed of a version that is known.
    """
    message = session_snapshot_pb2.SessionSnapshot()
    try:
        message.ParseFromString(data)
        if message.version == VERSION:
            validator.check(message, len(data))
    except (DecodeError, MaskwireError) as error:
        raise refused("the bytes are not a seed") from error
    if message.version != VERSION:
        raise refused(f"its version is {message.version}, this server reads {VERSION}")
    return Seed(message)


def seed_to_proto(snapshot: Snapshot) -> realtime_pb2.SessionSeed:
    """Write a seed."""
    message = session_snapshot_pb2.SessionSnapshot(
        version=VERSION,
        model=snapshot.model,
        checkpoint_digest=snapshot.checkpoint_digest,
        tenant=snapshot.tenant,
        config=_config_to_proto(snapshot.config),
        last_sequence=snapshot.last_sequence,
        frame_size=(
            None if snapshot.frame_size is None else image_size_to_proto(snapshot.frame_size)
        ),
        next_object_id=snapshot.next_object_id,
        frames=[session_snapshot_pb2.SnapshotFrame(image=data) for data in snapshot.frames],
        objects=[
            session_snapshot_pb2.SnapshotObject(
                object_id=one.object_id,
                frame=one.frame,
                mask=mask_pb2.CocoRle(
                    size=image_size_to_proto(one.mask.size), counts=one.mask.counts
                ),
                is_visible=one.is_visible,
                text=one.text,
                confidence=one.confidence or 0.0,
            )
            for one in snapshot.objects
        ],
        texts=[
            session_snapshot_pb2.SnapshotText(
                text=one.text, score_threshold=one.score_threshold, object_id=one.object_id
            )
            for one in snapshot.sought
        ],
    )
    return realtime_pb2.SessionSeed(
        seed=message.SerializeToString(deterministic=True), last_sequence=snapshot.last_sequence
    )


def config_with_seed(
    config: realtime_pb2.SessionConfig, seed: session_snapshot_pb2.SessionSnapshot
) -> realtime_pb2.SessionConfig:
    """Return a config whose unset fields are those of the seed."""
    merged = realtime_pb2.SessionConfig()
    merged.CopyFrom(seed.config)
    if not merged.model:
        merged.model = seed.model
    fields: Message = merged
    for descriptor, _ in config.ListFields():
        fields.ClearField(descriptor.name)
    merged.MergeFrom(config)
    return merged


def _config_to_proto(config: SessionConfig) -> realtime_pb2.SessionConfig:
    message = realtime_pb2.SessionConfig(
        model=config.model or "",
        mask_options=_mask_options_to_proto(config.mask_options),
        drop_policy=_DROP_POLICIES[config.drop_policy],
        sampling=realtime_pb2.ResponseSampling(
            every_nth_frame=config.sampling.every_nth_frame,
            on_change_only=config.sampling.on_change_only,
            change_iou_threshold=config.sampling.change_iou_threshold,
        ),
        mask_delta=realtime_pb2.MaskDelta(
            mark_unchanged=config.mask_delta.mark_unchanged,
            crop_to_box=config.mask_delta.crop_to_box,
        ),
        postprocess=_postprocess_to_proto(config.postprocess),
        max_objects=config.max_objects,
        held_frames=config.held_frames,
    )
    if config.heartbeat_interval_s is not None:
        message.heartbeat_interval.CopyFrom(duration_to_proto(config.heartbeat_interval_s))
    return message


def _postprocess_to_proto(options: PostprocessOptions) -> mask_pb2.PostprocessOptions:
    return mask_pb2.PostprocessOptions(
        max_hole_area_px=options.max_hole_area_px,
        min_region_area_px=options.min_region_area_px,
        smoothing_radius_px=options.smoothing_radius_px,
        morphological_cleanup=options.morphological_cleanup,
        min_score=options.min_score,
        max_overlap_iou=options.max_overlap_iou,
        coarse_masks=options.coarse_masks,
    )


def _mask_options_to_proto(options: MaskOptions) -> mask_pb2.MaskOptions:
    return mask_pb2.MaskOptions(
        encoding=_ENCODINGS[options.encoding],
        return_multiple_masks=options.return_multiple_masks,
        max_masks=options.max_masks,
        include_scores=options.include_scores,
        include_boxes=options.include_boxes,
        include_logits=options.include_logits,
    )
