"""The generated code: it stands alone, and its validation rules are found and can fail."""

import importlib
import math
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import protovalidate
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import maskwire.v1
from maskwire.v1 import geometry_pb2


def messages_of(descriptors: list[Descriptor]) -> Iterator[Descriptor]:
    for descriptor in descriptors:
        if not descriptor.GetOptions().map_entry:
            yield descriptor
            yield from messages_of(list(descriptor.nested_types))


def contract_messages() -> list[Descriptor]:
    modules = [
        importlib.import_module(f"maskwire.v1.{module.name}")
        for module in pkgutil.iter_modules(maskwire.v1.__path__)
        if module.name.endswith("_pb2")
    ]
    top = [
        descriptor
        for module in modules
        for descriptor in module.DESCRIPTOR.message_types_by_name.values()
    ]
    return list(messages_of(top))


MESSAGES = contract_messages()


def test_a_client_needs_neither_protovalidate_nor_a_buf_package():
    names = [
        module.name
        for module in pkgutil.iter_modules(maskwire.v1.__path__)
        if module.name.endswith("_pb2_grpc")
    ]
    assert names
    program = "import importlib, sys\n" + "".join(
        f"importlib.import_module('maskwire.v1.{name}')\n" for name in names
    )
    program += "sys.exit(any(name in sys.modules for name in ('buf', 'protovalidate')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.name)
def test_rules_compile(descriptor: Descriptor):
    message = message_factory.GetMessageClass(descriptor)()
    protovalidate.collect_violations(message)


def test_rules_are_found_without_the_import_of_validate_proto():
    box = geometry_pb2.Box(x_min=math.nan, y_min=2, x_max=3, y_max=1)
    violations = [violation.proto for violation in protovalidate.collect_violations(box)]
    fields = {
        (violation.field.elements[0].field_name if violation.field else "", violation.rule_id)
        for violation in violations
    }
    assert ("x_min", "float.finite") in fields
    assert ("", "box.y_max") in fields


VALIDATION_OPTION_TAG = b"\xba\x48"
"""Wire tag of `buf.validate.field`: extension 1159 of FieldOptions, length-delimited."""

BOUNDED_TYPES = {
    FieldDescriptor.TYPE_FLOAT,
    FieldDescriptor.TYPE_DOUBLE,
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_ENUM,
}


def messages_in_requests() -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    waiting = [message for message in MESSAGES if message.name.endswith("Request")]
    while waiting:
        message = waiting.pop()
        if message.full_name.startswith("maskwire.") and message.full_name not in found:
            found[message.full_name] = message
            waiting += [field.message_type for field in message.fields if field.message_type]
    return found


def test_whatever_a_caller_can_send_has_a_rule():
    """Integers may use their whole range; anything else needs a bound that somebody thought of."""
    without = [
        field.full_name
        for message in messages_in_requests().values()
        for field in message.fields
        if (field.is_repeated or field.type in BOUNDED_TYPES)
        and VALIDATION_OPTION_TAG not in field.GetOptions().SerializeToString()
    ]
    assert without == []
