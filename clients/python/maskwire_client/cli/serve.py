"""`maskwire serve`: runs the server until it is told to stop."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .connection import ConfigOption, read_settings, server_module, starting_server
from .exit_codes import ExitCode
from .failures import CommandFailure
from .signals import ended_by_sigterm

__all__ = ["serve"]


def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Model to serve; repeat for more."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:N, mps or auto.")
    ] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is in progress.

    Options win over environment variables, those over the settings file; `maskwire config` prints
    what is in force.
    """
    served = [{"name": name} for name in models] if models else None
    settings = read_settings(
        config,
        grpc=_given(host=host, port=port),
        models=_given(device=device, serve=served),
    )
    with ended_by_sigterm():
        app = server_module("app")
        with starting_server():
            try:
                app.run_server(settings)
            except OSError as error:
                raise CommandFailure(f"cannot serve: {error}", ExitCode.UNAVAILABLE) from error


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
