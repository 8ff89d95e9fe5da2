from __future__ import annotations

import math

import pytest

from maskwire.v1 import job_service_pb2, model_pb2, segmentation_pb2
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.transport.ring_counts import MAX_RINGS
from maskwire_server.transport.validation import RequestValidator

SMALL = 1000


@pytest.fixture(scope="module")
def validator():
    return RequestValidator()


def _request() -> segmentation_pb2.SegmentImageRequest:
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = b"image"
    request.prompts.add().point.point.x = 1.0
    return request


def _violations(validator, request, size_bytes=SMALL):
    with pytest.raises(MaskwireError) as raised:
        validator.check(request, size_bytes)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    return {violation.field: violation.description for violation in raised.value.violations}


def test_what_keeps_the_rules_passes(validator):
    validator.check(_request(), SMALL)
    validator.check(model_pb2.ListModelsRequest(), 0)


def test_paths_have_indexes_and_message_rules_name_their_field(validator):
    request = _request()
    request.prompts.add().point.point.y = math.nan
    box = request.prompts.add().box.box
    box.x_min, box.x_max, box.y_max = 9.0, 3.0, 5.0
    request.prompts.add().point.label = 7  # type: ignore[assignment]  # not a label, on purpose
    request.mask_options.max_masks = 33
    violations = _violations(validator, request)
    assert violations["prompts[1].point.point.y"] == "must be finite"
    assert violations["prompts[2].box.box.x_max"] == "x_max must be greater than x_min"
    assert "prompts[3].point.label" in violations
    assert "32" in violations["mask_options.max_masks"]


def test_missing_parts_are_named(validator):
    violations = _violations(validator, segmentation_pb2.SegmentImageRequest())
    assert set(violations) == {"image", "prompts"}


def test_of_a_large_request_only_the_first_broken_rule_is_sought(validator):
    request = _request()
    request.mask_options.max_masks = 33
    for _ in range(10_000):
        request.prompts.add().point.point.x = math.nan
    assert set(_violations(validator, request, size_bytes=1 << 20)) == {"prompts"}


def test_the_number_of_violations_told_is_bounded(validator):
    request = _request()
    for _ in range(100):
        request.prompts.add().point.point.x = math.nan
    assert len(_violations(validator, request)) <= 8


def test_a_number_beyond_what_rules_can_count_with_is_the_callers_error(validator):
    """Found by fuzzing: rows × columns × 4 past 64 bits was INTERNAL."""
    request = _request()
    logits = request.prompts.add().mask.logits
    logits.window.x_max = logits.window.y_max = 4.0
    logits.rows = logits.columns = 2**32 - 1
    logits.values = b"1234"
    assert "too large" in _violations(validator, request)[""]


def _with_rings(count: int) -> segmentation_pb2.SegmentImageRequest:
    request = _request()
    polygons = request.prompts.add().mask.encoded.polygons
    polygons.size.width_px = polygons.size.height_px = 8
    square = [1.0, 1.0, 5.0, 1.0, 5.0, 5.0]
    while count > 0:
        polygon = polygons.polygons.add()
        polygon.outer.coordinates.extend(square)
        for _ in range(min(1024, count - 1)):
            polygon.holes.add().coordinates.extend(square)
        count -= 1 + len(polygon.holes)
    return request


def test_masks_have_a_bounded_number_of_rings_in_all(validator):
    """The lists are bounded one by one, but multiply: a million rings took the server 7 s."""
    request = _with_rings(MAX_RINGS)
    validator.check(request, request.ByteSize())
    request = _with_rings(MAX_RINGS + 1)
    violations = _violations(validator, request, request.ByteSize())
    assert set(violations) == {"prompts[1].mask.encoded.polygons.polygons"}
    queued = job_service_pb2.SubmitJobRequest()
    queued.call.segment_image.CopyFrom(request)
    violations = _violations(validator, queued, queued.ByteSize())
    assert set(violations) == {"call.segment_image.prompts[1].mask.encoded.polygons.polygons"}
