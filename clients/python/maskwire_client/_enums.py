"""Maps Python enums to the contract's and back by the names of their members.

`PointLabel.FOREGROUND` is `POINT_LABEL_FOREGROUND` on the wire.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.descriptor import EnumDescriptor

if TYPE_CHECKING:
    # The stubs' name for the type of generated enums; the runtime has it under another one.
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

_MemberT = TypeVar("_MemberT", bound=enum.Enum)
_NumberT = TypeVar("_NumberT", bound=int)


def prefix_of(descriptor: EnumDescriptor) -> str:
    """Return what the names of an enum's values begin with, for example `POINT_LABEL_`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", descriptor.name).upper() + "_"


def to_wire(wire: _EnumTypeWrapper[_NumberT], member: enum.Enum) -> _NumberT:
    """Return the number of an enum's member."""
    return wire.Value(prefix_of(wire.DESCRIPTOR) + member.name)


def from_wire(descriptor: EnumDescriptor, members: type[_MemberT], number: int) -> _MemberT | None:
    """Return the member of a number, or None for one that this client does not know (yet)."""
    value = descriptor.values_by_number.get(number)
    name = value.name.removeprefix(prefix_of(descriptor)) if value is not None else ""
    return members.__members__.get(name)
