"""Python's enums have exactly the members that the contract has."""

from __future__ import annotations

import enum

import pytest

import maskwire_client
from maskwire.v1 import (
    file_pb2,
    job_pb2,
    mask_pb2,
    model_pb2,
    prompt_pb2,
    realtime_pb2,
    reconstruction_pb2,
    rendering_pb2,
    video_pb2,
)
from maskwire_client import _enums

# Enums of requests leave UNSPECIFIED out: the caller says what is wanted, or takes the default.
PAIRS = [
    (prompt_pb2.PointLabel, maskwire_client.PointLabel, False),
    (prompt_pb2.BoxLabel, maskwire_client.BoxLabel, False),
    (mask_pb2.MaskEncoding, maskwire_client.MaskEncoding, False),
    (rendering_pb2.RenderingStyle, maskwire_client.RenderingStyle, False),
    (rendering_pb2.PictureFormat, maskwire_client.PictureFormat, False),
    (file_pb2.Delivery, maskwire_client.Delivery, False),
    (model_pb2.PromptKind, maskwire_client.PromptKind, False),
    (model_pb2.Capability, maskwire_client.Capability, False),
    (model_pb2.LoadState, maskwire_client.LoadState, True),
    (mask_pb2.ScoreKind, maskwire_client.ScoreKind, True),
    (realtime_pb2.DropPolicy, maskwire_client.DropPolicy, False),
    (realtime_pb2.DropReason, maskwire_client.DropReason, True),
    (realtime_pb2.ObjectState, maskwire_client.ObjectState, True),
    (video_pb2.TrackDirection, maskwire_client.TrackDirection, False),
    (job_pb2.JobState, maskwire_client.JobState, True),
    (job_pb2.WebhookState, maskwire_client.WebhookState, True),
    (reconstruction_pb2.ArtifactKind, maskwire_client.ArtifactKind, True),
    (reconstruction_pb2.BodyKeypoint, maskwire_client.BodyKeypoint, False),
]


@pytest.mark.parametrize(("wire", "members", "has_unspecified"), PAIRS)
def test_members_are_the_contracts(wire, members: type[enum.Enum], has_unspecified: bool) -> None:
    prefix = _enums.prefix_of(wire.DESCRIPTOR)
    names = {value.name.removeprefix(prefix) for value in wire.DESCRIPTOR.values}
    assert set(members.__members__) | {"UNSPECIFIED"} == names
    assert ("UNSPECIFIED" in members.__members__) == has_unspecified


@pytest.mark.parametrize(("wire", "members", "has_unspecified"), PAIRS)
def test_members_survive_the_way_there_and_back(wire, members, has_unspecified) -> None:
    for member in members:
        number = _enums.to_wire(wire, member)
        assert _enums.from_wire(wire.DESCRIPTOR, members, number) is member


def test_a_number_of_a_newer_contract_is_none() -> None:
    descriptor = model_pb2.Capability.DESCRIPTOR
    assert _enums.from_wire(descriptor, maskwire_client.Capability, 999) is None
