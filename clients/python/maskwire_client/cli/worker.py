"""`maskwire worker`: works on jobs until it is told to stop."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .connection import ConfigOption, read_settings, server_module, starting_server
from .exit_codes import ExitCode
from .failures import CommandFailure
from .signals import ended_by_sigterm

__all__ = ["worker"]


def worker(
    config: ConfigOption = None,
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help="Queue to serve: segmentation, or a reconstruction engine; repeat for more.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, max=64, help="Jobs to work on at a time.")
    ] = None,
) -> None:
    """Work on jobs until SIGTERM or Ctrl-C, then finish those in hand or hand them back.

    Any number of workers share a backend; with sqlite they must be on one machine. Options win over
    environment variables, those over the settings file.
    """
    jobs: dict[str, Any] = {}
    if queues:
        jobs["queues"] = queues
    if count is not None:
        jobs["workers"] = count
    settings = read_settings(config, jobs=jobs)
    if settings.jobs.workers == 0:
        raise CommandFailure(
            "a worker with jobs.workers = 0 does nothing; give --count", ExitCode.USAGE
        )
    with ended_by_sigterm():
        app = server_module("app")
        with starting_server():
            try:
                app.run_worker(settings)
            except OSError as error:
                raise CommandFailure(f"cannot work: {error}", ExitCode.UNAVAILABLE) from error
