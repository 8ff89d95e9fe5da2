"""Refuses what the contract has and this version does not serve, so that nothing is ignored."""

from __future__ import annotations

from google.protobuf.message import Message

from ...domain.errors import ErrorCode, FieldViolation, MaskwireError


def not_served(field: str) -> MaskwireError:
    """Make the error for a field whose value asks for what this version does not serve."""
    rule = "not implemented in this version"
    return MaskwireError(
        ErrorCode.UNIMPLEMENTED,
        f"{field}: {rule}",
        violations=(FieldViolation(field=field, description=rule),),
    )


def refuse_options(message: Message, field: str) -> None:
    """Refuse every option of a message that is set at all.

    Raises:
        MaskwireError: `UNIMPLEMENTED`, naming the first option that is set.
    """
    for descriptor, _ in message.ListFields():
        raise not_served(f"{field}.{descriptor.name}")
