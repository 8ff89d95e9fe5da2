"""Gives commands a client: of the server that was named, or of one that runs in this process."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._client import Client
from .access import current_access
from .console import messages
from .exit_codes import ExitCode, exit_code_for_server_code
from .failures import CommandFailure

if TYPE_CHECKING:
    from maskwire_server.settings import Settings

__all__ = ["ConfigOption", "Connection", "LocalOption", "ServerOption", "TimeoutOption"]

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="MASKWIRE_SERVER",
        metavar="HOST:PORT",
        help="Server to call; without one the service runs in this process.",
    ),
]
LocalOption = Annotated[
    bool,
    typer.Option("--local", help="Run the service in this process, whatever the environment says."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings of the service in this process (TOML)."
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long the call may take."),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """Which server a command calls.

    Attributes:
        server: Its address; None or empty runs the service in this process.
        local: Runs the service in this process whatever `server` says.
        config: Settings file of the service in this process.
        model: Model that the service in this process must serve; empty is its settings' choice.
        folder: Where the service in this process keeps its jobs and files; None is its settings'
            choice.
    """

    server: str | None
    local: bool = False
    config: Path | None = None
    model: str = ""
    folder: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether the service runs in this process."""
        return self.local or not self.server

    @property
    def arguments(self) -> str:
        """The options that name the same server on another command line, each after a space."""
        if not self.is_local:
            return f" --server {self.server}"
        return " --local" + (f" --config {self.config}" if self.config is not None else "")

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Give a connected client; the service in this process ends with the block.

        Raises:
            CommandFailure: The service cannot be started, or its packages are not installed.
        """
        if self.server and not self.is_local:
            access = current_access()
            with Client(self.server, tls=access.tls(), api_key=access.api_key()) as client:
                yield client
            return
        with (
            local_service(self.config, self.model, self.folder) as address,
            Client(address) as client,
        ):
            yield client


@contextmanager
def local_service(
    config: Path | None, model: str = "", folder: Path | None = None
) -> Iterator[str]:
    """Run the service in this process on a free port of the loopback interface; give its address.

    Args:
        config: Settings file; None is the environment's.
        model: Model to serve where the settings do not name it; empty is the settings' choice.
        folder: Where to keep jobs and files; None is the settings' choice.

    Raises:
        CommandFailure: It cannot be started, or its packages are not installed.
    """
    app = server_module("app")
    logging = server_module("observability.logging")
    settings = read_settings(
        config,
        grpc={"host": "127.0.0.1", "port": 0, "drain_notice_s": 0},
        metrics={"enabled": False},
        **_kept_in(folder),
    )
    if model and all(served.name != model for served in settings.models.serve):
        models = settings.models.model_copy(
            update={"serve": (type(settings.models.serve[0])(name=model),)}
        )
        settings = settings.model_copy(update={"models": models})
    # Only this process calls it.
    groups = server_module("settings")
    settings = settings.model_copy(
        update={"auth": groups.AuthSettings(), "tls": groups.TlsSettings()}
    )
    logging.configure_logging(_quiet(settings), messages().file)
    with starting_server(), app.local_server(settings) as address:
        yield address


def _kept_in(folder: Path | None) -> dict[str, dict[str, Any]]:
    """Return the settings that keep jobs and files in a folder."""
    if folder is None:
        return {}
    return {
        "jobs": {"backend": "sqlite", "database": folder / "jobs.sqlite"},
        "storage": {"folder": folder / "files"},
    }


@contextmanager
def starting_server() -> Iterator[None]:
    """Turn the errors with which a server fails to start into a `CommandFailure`."""
    error_type: type[Exception] = server_module("domain.errors").MaskwireError
    settings_error: type[Exception] = server_module("settings").SettingsError
    try:
        yield
    except settings_error as error:
        raise CommandFailure(f"the settings are not valid: {error}", ExitCode.USAGE) from error
    except error_type as error:
        code: str = error.code.name  # type: ignore[attr-defined]
        raise CommandFailure(str(error), exit_code_for_server_code(code)) from error


def read_settings(config: Path | None, **overrides: dict[str, Any]) -> Settings:
    """Read the server's settings from all sources.

    Raises:
        CommandFailure: They are not valid, or the server's packages are not installed.
    """
    settings = server_module("settings")
    try:
        result: Settings = settings.Settings.read(config, **overrides)
    except settings.SettingsError as error:
        raise CommandFailure(f"the settings are not valid: {error}", ExitCode.USAGE) from error
    return result


def server_module(name: str) -> Any:
    """Import a module of the server, which a client-only install does not have.

    Raises:
        CommandFailure: One of its packages is not installed; the hint says how to install it.
    """
    try:
        return importlib.import_module(f"maskwire_server.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "maskwire_server":
            raise
        raise CommandFailure(
            f"this command runs the service in this process, which needs {error.name}",
            ExitCode.USAGE,
            "install it with: pip install 'maskwire[server]'\n"
            "or call a running server with --server HOST:PORT",
        ) from error


def _quiet(settings: Settings) -> Any:
    """Return the logging settings for a service that is only a means: warnings, unless set."""
    logging = settings.logging
    if "level" in logging.model_fields_set:
        return logging
    return logging.model_copy(update={"level": "warning"})
