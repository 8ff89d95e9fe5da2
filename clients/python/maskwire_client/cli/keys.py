"""`maskwire keys`: makes, lists and revokes the API keys of a file that servers read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .connection import ConfigOption, read_settings, server_module
from .console import messages, print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure

__all__ = ["application"]

application = typer.Typer(
    name="keys", help="API keys of the callers of a server.", no_args_is_help=True
)

FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="File of keys; else that of the settings."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@application.command("create")
def create(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose key it is.")],
    name: Annotated[str, typer.Option("--name", help="What people call it.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="What it may call; repeat. All by default."),
    ] = None,
    expires_in_days: Annotated[
        float | None,
        typer.Option("--expires-in-days", min=0.001, max=36_500, help="How long it is valid."),
    ] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: this once, for only its digest is kept.

    Servers that read the file know it within a second (auth.reload_interval_s).
    """
    now = datetime.now(UTC)
    end = None if expires_in_days is None else now + timedelta(days=expires_in_days)
    with _changed(_file(file, config)) as keys:
        try:
            record, key = server_module("identity.api_keys").ApiKeyRecord.create(
                name=name, tenant=tenant, scopes=_scopes(scopes), expire_time=end, now=now
            )
        except ValueError as error:
            raise CommandFailure(_first_problem(error), ExitCode.USAGE) from error
        keys[record.key_id] = record
    if as_json:
        print_json(_to_json(record, now) | {"key": key})
        return
    messages().print(f"key {record.key_id} of tenant {tenant}; it is not shown again:")
    # Nothing else on standard output, so that it can be sent to a file.
    sys.stdout.write(key + "\n")


@application.command("list")
def list_keys(
    file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the keys; the secrets are known to nobody."""
    path = _file(file, config)
    key_file = server_module("identity.key_file")
    try:
        keys = list(key_file.read_keys(path).values())
    except key_file.KeyFileError as error:
        raise CommandFailure(str(error), ExitCode.USAGE) from error
    now = datetime.now(UTC)
    if as_json:
        print_json([_to_json(key, now) for key in keys])
        return
    table = Table("id", "name", "tenant", "scopes", "created", "expires", "state")
    for key in keys:
        table.add_row(
            key.key_id,
            key.name,
            key.tenant,
            _scope_text(key),
            f"{key.create_time:%Y-%m-%d}",
            "never" if key.expire_time is None else f"{key.expire_time:%Y-%m-%d %H:%M}",
            key.status(now),
        )
    results().print(table)


@application.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's identifier.")],
    file: FileOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key invalid; streams that use it end with their next message."""
    path = _file(file, config)
    with _changed(path) as keys:
        record = keys.get(key_id)
        if record is None:
            raise CommandFailure(f"{path} has no key {key_id}", ExitCode.NOT_FOUND)
        if record.revoke_time is None:
            keys[key_id] = record.model_copy(update={"revoke_time": datetime.now(UTC)})
    messages().print(f"key {key_id} of tenant {record.tenant} is revoked")


def _file(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    configured = read_settings(config).auth.keys_file
    if configured is None:
        raise CommandFailure("name the file of keys: --file, or auth.keys_file", ExitCode.USAGE)
    return configured


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    key_file = server_module("identity.key_file")
    try:
        with key_file.changed_keys(path) as keys:
            yield keys
    except key_file.KeyFileError as error:
        raise CommandFailure(str(error), ExitCode.USAGE) from error


def _scopes(given: list[str] | None) -> Any:
    identity = server_module("domain.identity")
    if not given:
        return identity.ALL_SCOPES
    known = {scope.value: scope for scope in identity.Scope}
    unknown = [word for word in given if word not in known]
    if unknown:
        raise CommandFailure(
            f"there is no scope {unknown[0]!r}; there are {', '.join(known)}", ExitCode.USAGE
        )
    return frozenset(known[word] for word in given)


def _scope_text(key: Any) -> str:
    everything = server_module("domain.identity").ALL_SCOPES
    return "all" if key.scopes == everything else ", ".join(sorted(key.scopes))


def _to_json(key: Any, now: datetime) -> dict[str, Any]:
    described: dict[str, Any] = key.model_dump(mode="json", exclude={"sha256"})
    return described | {"scopes": sorted(key.scopes), "state": key.status(now)}


def _first_problem(error: ValueError) -> str:
    problem = error.errors()[0]  # type: ignore[attr-defined]  # pydantic's
    return f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}"
