"""`maskwire jobs`: durable jobs of a server, to be listed, watched, cancelled and collected."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import JobCancelled, JobFailed
from ..jobs import JobState
from ..reconstruction import ReconstructedBodies, ReconstructedObjects
from .connection import ConfigOption, Connection, LocalOption, ServerOption, TimeoutOption
from .console import messages, print_json, results
from .job_output import (
    event_line,
    event_to_json,
    job_table,
    job_to_json,
    jobs_table,
    save_result,
)
from .job_progress import detachable
from .options import JsonOption
from .reconstruct_output import reconstruction_tables, reconstruction_to_json
from .reports import files_table

__all__ = ["application"]

application = typer.Typer(
    name="jobs", help="List, watch, cancel and collect durable jobs.", no_args_is_help=True
)

DEFAULT_FOLDER = Path("maskwire-output")


class State(enum.Enum):
    """The states that `--state` offers."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job, jobs/... .")]
StateOptions = Annotated[
    list[State] | None, typer.Option("--state", help="Only jobs in this state; again for more.")
]
MethodOption = Annotated[
    str,
    typer.Option("--method", help="Only this call, as maskwire.v1.VideoService/TrackVideo."),
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Most jobs to list.")]
AfterOption = Annotated[
    int, typer.Option("--after", metavar="N", min=0, help="Leave out the events up to this one.")
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for what the job made.")
]


@application.command("list")
def list_jobs(
    states: StateOptions = None,
    method: MethodOption = "",
    limit: LimitOption = 100,
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """List jobs, newest first."""
    wanted = [JobState(state.value) for state in states or ()]
    connection = Connection(server, local, config)
    with messages().status("asking"), connection.client() as client:
        jobs = client.jobs(states=wanted, method=method, limit=limit, timeout_s=timeout_s)
    if as_json:
        print_json([job_to_json(job) for job in jobs])
        return
    results().print(jobs_table(jobs) if jobs else "no jobs")


@application.command("get")
def get_job(
    name: NameArgument,
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """Tell how a job stands."""
    connection = Connection(server, local, config)
    with messages().status("asking"), connection.client() as client:
        job = client.job(_full(name), timeout_s=timeout_s)
    if as_json:
        print_json(job_to_json(job))
        return
    results().print(job_table(job))


@application.command("watch")
def watch_job(
    name: NameArgument,
    after: AfterOption = 0,
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a job's events, those of the past too, until it is done.

    It goes on by itself where the connection is lost. A job that fails or is cancelled ends it with
    that exit code. With --json each event is a line of JSON.
    """
    connection = Connection(server, local, config)
    console = results()
    with connection.client() as client:
        watch = client.watch_job(_full(name), after_sequence=after)
        with watch, detachable(watch, connection):
            for event in watch:
                if as_json:
                    console.print_json(data=event_to_json(event), indent=None)
                else:
                    console.print(event_line(event), highlight=False, soft_wrap=True)
        job = client.job(_full(name))
    if job.state is JobState.CANCELLED:
        raise JobCancelled(job.name)
    if job.error is not None:
        raise JobFailed(job.name, job.error)


@application.command("cancel")
def cancel_job(
    name: NameArgument,
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """Cancel a job, which takes effect within 2 s or at its next stage."""
    connection = Connection(server, local, config)
    with messages().status("asking"), connection.client() as client:
        job = client.cancel_job(_full(name), timeout_s=timeout_s)
    if as_json:
        print_json(job_to_json(job))
    elif job.state.is_done:
        results().print(f"{job.name} is {job.state.value}")
    else:
        results().print(f"{job.name} is {job.state.value}; it will be cancelled")


@application.command("result")
def job_result(
    name: NameArgument,
    out: OutOption = DEFAULT_FOLDER,
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """Save what a job made: meshes, splats and pictures, or masks.json.

    Files that are there already are not fetched again, and downloads that broke off go on.
    """
    full_name = _full(name)
    connection = Connection(server, local, config)
    with messages().status("fetching"), connection.client() as client:
        result = client.job_result(full_name, timeout_s=timeout_s)
        written = save_result(client, result, full_name, out)
    if not isinstance(result, ReconstructedObjects | ReconstructedBodies):
        if as_json:
            print_json({"job": full_name, "files": [str(path) for path in written]})
        else:
            results().print(files_table(written))
    elif as_json:
        print_json(reconstruction_to_json(result, full_name, written))
    else:
        results().print(reconstruction_tables(result, written))


def _full(name: str) -> str:
    """Return a job's resource name; its last part is enough on the command line."""
    return name if name.startswith("jobs/") else f"jobs/{name}"
