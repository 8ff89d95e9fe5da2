"""The contract's own rules (protovalidate) applied to requests, with full field paths.

Measured: 7 µs for a bare request with a 200 kB image, 30 µs with ten points and three boxes; a
request with too many prompts is refused at the first broken rule, 40 µs for 10,000 points.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import protovalidate
from google.protobuf.message import Message

from ..domain.errors import ErrorCode, FieldViolation, MaskwireError
from .ring_counts import check_rings

# All broken rules of a request up to this size are told; of a larger one only the first, because
# finding the rest would cost more than the request is worth.
_ALL_VIOLATIONS_BYTES = 1 << 16
_MAX_VIOLATIONS = 8


class RequestValidator:
    """Checks messages against the rules in their descriptors."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    def warm(self, messages: Iterable[Message]) -> None:
        """Compile the rules of the messages' types, which takes milliseconds once."""
        for message in messages:
            self._validator.collect_violations(message)

    def check(self, message: Message, size_bytes: int) -> None:
        """Check a message.

        Args:
            message: The parsed message.
            size_bytes: Its size on the wire, which bounds how much is told about a bad one.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` with the path and the rule of what is wrong.
        """
        check_rings(message, size_bytes)
        try:
            found = self._validator.collect_violations(message, fail_fast=True)
            if found and size_bytes <= _ALL_VIOLATIONS_BYTES:
                found = self._validator.collect_violations(message)
        except protovalidate.EvaluationError as error:
            # E.g. rows × columns beyond 64 bits; the path is not told.
            rule = "holds a number that is too large for its rules"
            raise MaskwireError(
                ErrorCode.INVALID_ARGUMENT,
                f"the request {rule}",
                violations=(FieldViolation(field="", description=rule),),
            ) from error
        if not found:
            return
        violations = tuple(
            _field_violation(violation, message.DESCRIPTOR) for violation in found[:_MAX_VIOLATIONS]
        )
        told = "; ".join(f"{one.field}: {one.description}" for one in violations)
        raise MaskwireError(ErrorCode.INVALID_ARGUMENT, told, violations=violations)


def _field_violation(violation: Any, root: Any) -> FieldViolation:
    """Return a violation with its path spelled as `prompts[2].box.box.x_max`.

    A rule on a whole message names its field by the last part of its id (`box.x_max`).
    """
    proto = violation.proto
    parts: list[str] = []
    owner = root
    for element in proto.field.elements if proto.field is not None else ():
        name = element.field_name
        subscript = element.subscript
        parts.append(name if subscript is None else f"{name}[{subscript.value}]")
        field = owner.fields_by_name.get(name) if owner is not None else None
        owner = field.message_type if field is not None else None
    _, _, last = proto.rule_id.rpartition(".")
    if owner is not None and last in owner.fields_by_name:
        parts.append(last)
    return FieldViolation(field=".".join(parts), description=proto.message or proto.rule_id)
