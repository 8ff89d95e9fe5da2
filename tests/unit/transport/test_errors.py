from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.errors import ErrorCode, FieldViolation, MaskwireError, invalid_field
from maskwire_server.domain.quotas import QuotaLimit, quota_exceeded
from maskwire_server.transport.errors import (
    INTERNAL_MESSAGE,
    STATUS_OF_CODE,
    internal_status,
    status_from_error,
    to_grpc_status,
)

_CLIENTS_TRAILER_LIMIT_BYTES = 8192


def _unpack(status: status_pb2.Status, kind):
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


def test_every_code_has_a_status_and_nothing_else_has():
    assert set(STATUS_OF_CODE) == set(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_status_says_code_message_reason_and_request(code):
    status = status_from_error(MaskwireError(code, "what went wrong"), "request-1")
    assert status.code == STATUS_OF_CODE[code].value[0]
    assert status.message == "what went wrong"
    [info] = _unpack(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("maskwire.v1", code.name)
    [request] = _unpack(status, error_details_pb2.RequestInfo)
    assert request.request_id == "request-1"


def test_violations_become_a_bad_request():
    status = status_from_error(invalid_field("prompts[2].point.x", "must be finite"), "r")
    [bad] = _unpack(status, error_details_pb2.BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("prompts[2].point.x", "must be finite")
    ]


def test_a_retry_delay_becomes_retry_info():
    error = MaskwireError(ErrorCode.OVERLOADED, "full", retry_after=timedelta(milliseconds=250))
    [retry] = _unpack(status_from_error(error, "r"), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 250


def test_a_used_up_quota_is_named():
    error = quota_exceeded(QuotaLimit.STORED_BYTES, "acme", 1000, "too much")
    status = status_from_error(error, "r")
    [failure] = _unpack(status, error_details_pb2.QuotaFailure)
    [violation] = failure.violations
    assert (violation.subject, violation.description) == ("tenant:acme", "too much")
    assert (violation.quota_id, violation.quota_value) == ("storage.max_tenant_bytes", 1000)
    # Waiting alone does not help.
    assert not _unpack(status, error_details_pb2.RetryInfo)


def test_a_quota_that_time_restores_says_when():
    error = quota_exceeded(
        QuotaLimit.CALLS_PER_MINUTE, "", 60, "too often", retry_after=timedelta(seconds=2)
    )
    status = status_from_error(error, "r")
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    [retry] = _unpack(status, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 2000
    [failure] = _unpack(status, error_details_pb2.QuotaFailure)
    assert failure.violations[0].subject == "tenant:anonymous"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCode.IMAGE_NOT_FOUND, "image"),
        (ErrorCode.MODEL_NOT_FOUND, "model"),
        (ErrorCode.FILE_NOT_FOUND, "file"),
    ],
)
def test_what_is_not_found_is_named(code, kind):
    status = status_from_error(MaskwireError(code, "gone", resource="the-name"), "r")
    [resource] = _unpack(status, error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == (kind, "the-name")


def test_an_unexpected_error_says_nothing_but_the_request_id():
    status = internal_status("request-1")
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == INTERNAL_MESSAGE
    [info] = _unpack(status, error_details_pb2.ErrorInfo)
    assert info.reason == "INTERNAL"


def _percent_encoded_bytes(text: str) -> int:
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in text.encode())


@given(st.text(min_size=1, max_size=40), st.integers(1, 200), st.integers(0, 100))
def test_whatever_is_quoted_a_status_fits_in_the_trailers_that_clients_take(
    text, times, violations
):
    quoted = text * times
    error = MaskwireError(
        ErrorCode.INVALID_ARGUMENT,
        quoted,
        violations=tuple(FieldViolation(quoted, quoted) for _ in range(violations)),
        resource=quoted,
    )
    status = to_grpc_status(status_from_error(error, "r" * 128))
    size = _percent_encoded_bytes(status.details) + sum(
        len(key) + len(value) * 4 // 3 for key, value in status.trailing_metadata
    )
    assert size < _CLIENTS_TRAILER_LIMIT_BYTES
