"""A service that cannot start says why and leaves nothing behind."""

from __future__ import annotations

import socket

import pytest

from maskwire_server.app import Application, local_server
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.settings import Settings


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _free_port() -> int:
    with _listening() as listener:
        return int(listener.getsockname()[1])


def _settings(grpc_port: int, metrics_port: int) -> Settings:
    return Settings.read(
        grpc={"port": grpc_port, "drain_notice_s": 0}, metrics={"port": metrics_port}
    )


async def test_a_taken_grpc_port_is_named_and_the_metrics_port_is_given_back() -> None:
    metrics_port = _free_port()
    with _listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await Application.start(_settings(port, metrics_port))
    with socket.create_server(("127.0.0.1", metrics_port)):
        pass


async def test_a_taken_metrics_port_is_named() -> None:
    with _listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} for metrics"):
            await Application.start(_settings(0, port))


def test_a_model_that_is_not_there_is_named() -> None:
    settings = Settings.read(
        models={"serve": [{"name": "sam2.1-hiera-tiny"}], "cache_folder": "/nonexistent"},
        metrics={"enabled": False},
    )
    with (
        pytest.raises(MaskwireError, match="maskwire models pull sam2") as failure,
        local_server(settings),
    ):
        pass
    assert failure.value.code is ErrorCode.MODEL_UNAVAILABLE
