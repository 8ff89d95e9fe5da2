"""Puts the commands together and turns what they raise into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from ..errors import MaskwireError
from . import (
    auto,
    bench,
    config,
    demo,
    doctor,
    evaluate,
    health,
    jobs,
    keys,
    live,
    models,
    reconstruct,
    segment,
    serve,
    track,
    worker,
)
from .access import Access, ApiKeyFileOption, CaFileOption, TlsOption, use_access
from .exit_codes import epilog
from .failures import CommandFailure, report_failed_call, report_failure

__all__ = ["application", "main"]

application = typer.Typer(
    name="maskwire",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maskwire {metadata.version('maskwire')}")
        raise typer.Exit


@application.callback(epilog=epilog())
def maskwire(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    api_key_file: ApiKeyFileOption = None,
    is_encrypted: TlsOption = False,
    ca_file: CaFileOption = None,
) -> None:
    """Promptable segmentation over gRPC.

    Commands that need a server use the one that `--server` or the environment variable
    MASKWIRE_SERVER names; without one they run the same service in this process.
    """
    use_access(Access(api_key_file, is_encrypted, ca_file))


application.command("serve")(serve.serve)
application.command("worker")(worker.worker)
application.command("segment")(segment.segment)
application.command("track", epilog=track.EPILOG)(track.track)
application.command("live", epilog=live.EPILOG)(live.live)
application.command("auto")(auto.auto)
application.command("reconstruct", epilog=reconstruct.EPILOG)(reconstruct.reconstruct)
application.command("eval", epilog=evaluate.EPILOG)(evaluate.evaluate)
application.command("config")(config.show_config)
application.command("demo")(demo.demo)
application.command("doctor")(doctor.doctor)
application.command("health")(health.health)
application.add_typer(bench.application, name="bench")
application.add_typer(jobs.application, name="jobs")
application.add_typer(keys.application, name="keys")
application.add_typer(models.application, name="models")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the exit code that its help page documents.

    Args:
        arguments: Instead of the process's own, without the program's name.
    """
    try:
        application(args=None if arguments is None else list(arguments), prog_name="maskwire")
    except CommandFailure as failure:
        sys.exit(report_failure(failure))
    except MaskwireError as error:
        sys.exit(report_failed_call(error))
    except KeyboardInterrupt:
        sys.exit(130)
