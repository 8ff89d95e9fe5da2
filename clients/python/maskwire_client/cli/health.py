"""`maskwire health`: asks a server or worker once whether it serves; for containers' checks."""

from __future__ import annotations

from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .._errors import error_from_rpc
from .access import current_access
from .exit_codes import ExitCode, exit_code_for
from .failures import CommandFailure

__all__ = ["health"]

_DEFAULT_SERVER = "127.0.0.1:50051"
_DEFAULT_TIMEOUT_S = 3.0


def health(
    server: Annotated[
        str,
        typer.Option(
            "--server",
            envvar="MASKWIRE_SERVER",
            metavar="HOST:PORT",
            help="Server to ask, or a worker's jobs.health_port.",
        ),
    ] = _DEFAULT_SERVER,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            metavar="NAME",
            help="Service to ask for, e.g. maskwire.v1.SegmentationService; without it, all.",
        ),
    ] = "",
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long it may take."),
    ] = _DEFAULT_TIMEOUT_S,
) -> None:
    """Ask once whether a server serves; the exit code is 0 only then.

    It is 5 where it does not (it drains, or does not answer in time) and 4 where it does not know
    the service.
    """
    status = _ask(server, service, timeout_s)
    if status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        raise CommandFailure(f"{_subject(server, service)}: {name}", ExitCode.UNAVAILABLE)
    typer.echo(f"{_subject(server, service)}: SERVING")


def _ask(server: str, service: str, timeout_s: float) -> int:
    """Return what the server says.

    Raises:
        CommandFailure: It says nothing in time, or does not know the service.
    """
    request = health_pb2.HealthCheckRequest(service=service)
    tls = current_access().tls()
    with (
        grpc.insecure_channel(server)
        if tls is None
        else grpc.secure_channel(server, tls.credentials())
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            response: health_pb2.HealthCheckResponse = stub.Check(request, timeout=timeout_s)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            raise CommandFailure(
                f"{_subject(server, service)}: {error.message} ({error.status})",
                exit_code_for(error),
            ) from rpc_error
    return response.status


def _subject(server: str, service: str) -> str:
    return f"{server} {service}".rstrip()
