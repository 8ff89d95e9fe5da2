"""`maskwire models`: what a server serves, and the checkpoints that this machine holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ..results import Model
from .connection import (
    ConfigOption,
    Connection,
    LocalOption,
    ServerOption,
    TimeoutOption,
    read_settings,
    server_module,
    starting_server,
)
from .console import messages, print_json, results

__all__ = ["application"]

application = typer.Typer(
    name="models", help="What a server serves; fetch checkpoints.", no_args_is_help=True
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@application.command("list")
def list_models(
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """List the models that are served, the default one first."""
    connection = Connection(server, local, config)
    with messages().status("asking"), connection.client() as client:
        models = client.models(timeout_s=timeout_s)
    if as_json:
        print_json([_to_json(model) for model in models])
        return
    table = Table("model", "engine", "prompts", "device", "state")
    for model in models:
        name = f"{model.name} (default)" if model.is_default else model.name
        table.add_row(name, model.engine, _prompts(model), model.device, model.load_state.value)
    results().print(table)


@application.command("show")
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="None is the default.")] = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """Describe one model that is served: what it takes, what it gives, where it runs."""
    connection = Connection(server, local, config, name)
    with messages().status("asking"), connection.client() as client:
        model = client.model(name, timeout_s=timeout_s)
    if as_json:
        print_json(_to_json(model))
        return
    table = Table.grid(padding=(0, 2))
    for key, value in _to_json(model).items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        table.add_row(key.replace("_", " "), shown)
    results().print(table)


@application.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For example sam2.1-hiera-tiny.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Take this file or folder, fetch nothing."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a checkpoint, check its SHA-256, and convert it to safetensors in the cache folder."""
    settings = read_settings(config)
    folder = settings.models.cache_folder.expanduser()
    checkpoints = server_module("engines.checkpoints")
    with starting_server(), _pull_progress(name) as listener:
        token = settings.models.hub_token
        checkpoint = checkpoints.pull(
            name,
            folder,
            source_file=source,
            progress=listener,
            token=token.get_secret_value() if token is not None else None,
        )
    if as_json:
        print_json(
            {
                "name": checkpoint.name,
                "file": str(checkpoint.file),
                "sha256": checkpoint.sha256,
                "source_sha256": checkpoint.source_sha256,
                "is_published": checkpoint.is_published,
            }
        )
        return
    console = results()
    console.print(f"{name} is in {checkpoint.file} ({checkpoint.size_bytes / 1e6:.1f} MB)")
    if not checkpoint.is_published:
        console.print("These are your own weights, not the published ones.", style="yellow")
    console.print(f"Serve it with: maskwire serve --model {name}")


@contextmanager
def _pull_progress(name: str) -> Iterator[Any]:
    """Give a listener that shows on standard error how far a pull is."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=messages(),
        transient=True,
    )
    with progress:
        task = progress.add_task(name, total=None)

        def listen(state: Any) -> None:
            progress.update(
                task,
                description=f"{state.stage.value} {name}",
                completed=state.done_bytes,
                total=state.total_bytes,
            )

        yield listen


def _to_json(model: Model) -> dict[str, Any]:
    values = asdict(model)
    for field in ("prompt_kinds", "capabilities"):
        values[field] = sorted(member.value for member in values[field])
    values["load_state"] = model.load_state.value
    return values


def _prompts(model: Model) -> str:
    return ", ".join(sorted(kind.value for kind in model.prompt_kinds))
