"""Refuses what the contract has and this version does not serve, so that nothing is ignored."""

from __future__ import annotations

from ...domain.errors import ErrorCode, FieldViolation, MaskwireError


def not_served(field: str) -> MaskwireError:
    """Make the error for a field whose value asks for what this version does not serve."""
    rule = "not implemented in this version"
    return MaskwireError(
        ErrorCode.UNIMPLEMENTED,
        f"{field}: {rule}",
        violations=(FieldViolation(field=field, description=rule),),
    )
