"""Channels: the service config, TLS, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskwire.v1 import file_pb2, job_service_pb2, model_pb2, segmentation_pb2
from maskwire_client import Client, Tls
from maskwire_client._channel import IDEMPOTENT_METHODS, service_config

FILES = (file_pb2, job_service_pb2, model_pb2, segmentation_pb2)


def test_the_methods_that_are_tried_again_exist() -> None:
    services = {
        service.full_name: set(service.methods_by_name)
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    for service, method in IDEMPOTENT_METHODS:
        assert service in services
        assert method is None or method in services[service]


def test_retries_can_be_switched_off() -> None:
    assert "methodConfig" in json.loads(service_config(2))
    assert "methodConfig" not in json.loads(service_config(1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"target": ""},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"retry_attempts": 0},
        {"retry_attempts": 6},
        {"overload_retries": -1},
        {"tls": Tls(client_certificate=b"certificate")},
    ],
)
def test_arguments_out_of_range_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Client(**({"target": "localhost:1"} | arguments))


def test_a_certificate_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client("localhost:1", tls=Tls(root_certificates=tmp_path / "absent.pem"))
