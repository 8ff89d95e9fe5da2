"""The tree of exceptions and where in it a failure lands."""

from __future__ import annotations

import inspect
import re

import grpc
import pytest

from maskwire_client import _errors, errors
from maskwire_client.cli.exit_codes import DESCRIPTIONS, ExitCode, epilog, exit_code_for
from maskwire_server.domain.errors import ErrorCode
from maskwire_server.transport.errors import STATUS_OF_CODE


def exception_classes() -> dict[str, type[errors.MaskwireError]]:
    return {
        name: value
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.MaskwireError)
    }


def test_the_docstring_draws_the_tree() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^(?:    MaskwireError$| +(?:│ +)?[├└]─ (\w+) )", line)
        if match:
            drawn.append((line.find("─"), match[1] or "MaskwireError"))
    assert {name for _, name in drawn} == set(exception_classes())
    for position, (indent, name) in enumerate(drawn[1:], start=1):
        parent = next(other for depth, other in reversed(drawn[:position]) if depth < indent)
        assert exception_classes()[name].__bases__[0].__name__ == parent


def test_everything_is_exported() -> None:
    assert set(errors.__all__) == set(exception_classes()) | {
        "FieldViolation",
        "QuotaViolation",
    }


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_status_has_an_exception(code: grpc.StatusCode) -> None:
    assert issubclass(_errors._class_for(code, ""), errors.MaskwireError)


def test_every_reason_is_one_that_the_server_gives() -> None:
    assert set(_errors._BY_REASON) <= set(ErrorCode.__members__)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_reason_refines_what_its_status_says(code: ErrorCode) -> None:
    status = STATUS_OF_CODE[code]
    general = _errors._class_for(status, "")
    special = _errors._class_for(status, code.name)
    assert issubclass(special, general)
    assert special is _errors._BY_REASON.get(code.name, general)


def test_a_reason_never_contradicts_its_status() -> None:
    assert _errors._class_for(grpc.StatusCode.INTERNAL, "IMAGE_NOT_FOUND") is errors.InternalError


def test_every_exception_has_an_exit_code_and_every_code_is_documented() -> None:
    kinds = [kind for kind in exception_classes().values() if kind is not errors.JobFailed]
    codes = {exit_code_for(kind("failed")) for kind in kinds}
    assert codes | {ExitCode.OK, ExitCode.USAGE} == set(ExitCode) == set(DESCRIPTIONS)
    for code in ExitCode:
        assert f"{code.value}: " in epilog()


def test_a_failed_job_has_the_exit_code_of_what_failed() -> None:
    cause = errors.ModelNotFound("no model x", status="NOT_FOUND", reason="MODEL_NOT_FOUND")
    failed = errors.JobFailed("jobs/1", cause)
    assert exit_code_for(failed) is ExitCode.NOT_FOUND
    assert (failed.job_name, failed.message, failed.status) == ("jobs/1", "no model x", "NOT_FOUND")
