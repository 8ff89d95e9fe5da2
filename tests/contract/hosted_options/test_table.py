"""Every row of the table has a field, a range that is held, and a test that shows its effect."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from maskwire.v1 import (
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from tests.contract.hosted_options import test_everything, test_masks, test_pictures, test_prompts
from tests.support.hosted_options import PROMPTED, ROWS, Row
from tests.support.hosted_requests import (
    DEADLINE_S,
    everything,
    refused,
    request,
    violated_fields,
)

MODULES = (test_prompts, test_masks, test_pictures, test_everything)


def descriptor_at(name: str, path: str) -> Any:
    message = segmentation_pb2.DESCRIPTOR.message_types_by_name[name]
    field: Any = None
    for part in path.replace("[]", "").split("."):
        field = message.fields_by_name[part]
        message = field.message_type
    return field


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.endpoint}: {row.parameter}")
def test_every_parameter_has_a_field_and_a_test(row: Row) -> None:
    assert descriptor_at(row.request, row.field) is not None
    assert any(hasattr(module, f"test_{row.shown_by}") for module in MODULES)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.outside is not None],
    ids=lambda row: f"{row.endpoint}: {row.parameter}",
)
def test_what_is_out_of_range_is_refused_by_name(channel: grpc.Channel, row: Row) -> None:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    is_prompted = row.request == PROMPTED
    wanted: Any = request() if is_prompted else everything()
    call: Any = stub.SegmentImage if is_prompted else stub.AutoSegment
    *path, last = row.field.split(".")
    holder: Any = wanted
    for part in path:
        holder = getattr(holder, part)
    setattr(holder, last, row.outside)
    error = refused(lambda: call(wanted, timeout=DEADLINE_S))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == [row.field]
