"""How commands reach a server that asks who calls: a key, and encryption.

The options belong to the program, before the command's name, because every command that calls a
server takes them.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .._channel import Tls
from .exit_codes import ExitCode
from .failures import CommandFailure

__all__ = [
    "Access",
    "ApiKeyFileOption",
    "CaFileOption",
    "TlsOption",
    "current_access",
    "use_access",
]

ApiKeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        envvar="MASKWIRE_API_KEY_FILE",
        metavar="FILE",
        help="File with the API key or token to call servers with.",
    ),
]
TlsOption = Annotated[
    bool,
    typer.Option(
        "--tls", envvar="MASKWIRE_CLIENT_TLS", help="Encrypt calls; implied by --ca-file."
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="MASKWIRE_CA_FILE",
        metavar="FILE",
        help="Authorities (PEM) that may sign the server's certificate.",
    ),
]


@dataclass(frozen=True, slots=True)
class Access:
    """How to call a server; made from the program's options.

    Attributes:
        api_key_file: File with the API key or token.
        is_encrypted: Whether calls are encrypted.
        ca_file: Authorities that may sign the server's certificate; None is gRPC's own list.
    """

    api_key_file: Path | None = None
    is_encrypted: bool = False
    ca_file: Path | None = None

    def api_key(self) -> str | None:
        """Return the key or token, or None where there is none.

        Raises:
            CommandFailure: The file cannot be read or is empty.
        """
        if self.api_key_file is None:
            return None
        try:
            key = self.api_key_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise CommandFailure(
                f"cannot read the API key in {self.api_key_file}: {error}", ExitCode.USAGE
            ) from error
        if not key:
            raise CommandFailure(f"{self.api_key_file} holds no API key", ExitCode.USAGE)
        return key

    def tls(self) -> Tls | None:
        """Return how to encrypt, or None for plain text.

        Raises:
            CommandFailure: The file cannot be read.
        """
        if not self.is_encrypted and self.ca_file is None:
            return None
        if self.ca_file is not None and not self.ca_file.is_file():
            raise CommandFailure(f"there is no file {self.ca_file}", ExitCode.USAGE)
        return Tls(root_certificates=self.ca_file)


_current: ContextVar[Access | None] = ContextVar("access", default=None)


def use_access(access: Access) -> None:
    """Say what the program's options are, for the command that follows."""
    _current.set(access)


def current_access() -> Access:
    """Return what the program's options say, for the command that runs."""
    return _current.get() or Access()
