"""`maskwire eval`: how good a model's masks are, on labelled photographs or clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from rich.table import Table

from ..evaluation import Clip, Photograph, find_clips, find_photographs
from ..options import Postprocess
from .connection import ConfigOption, Connection, LocalOption, ServerOption, TimeoutOption
from .console import messages, print_json, results
from .evaluate_photographs import LEAST_CLICKS, JudgedObject, PhotographJudge
from .evaluate_report import (
    photographs_document,
    photographs_table,
    tracks_document,
    tracks_table,
    write_photographs,
    write_results,
    write_tracks,
)
from .evaluate_videos import ClipJudge, JudgedTrack, Start
from .exit_codes import ExitCode
from .failures import CommandFailure
from .options import JsonOption, ModelOption
from .progress import work_progress
from .reports import files_table

__all__ = ["EPILOG", "evaluate"]

_SHORT_DIGEST = len("sha256:") + 12

_FORMS = """\
photographs: FOLDER/<scene>/image.jpg and one PNG per object beside it, light where the object is
clips:       FOLDER/<clip>/00000.jpg... and FOLDER/<clip>/masks/00000.png... with label maps
as DAVIS:    FOLDER/JPEGImages/480p/<clip>/00000.jpg... and FOLDER/Annotations/480p/<clip>/..."""

EPILOG = f"Forms of FOLDER\n\n```text\n{_FORMS}\n```"

FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Labelled photographs or clips.")
]
StartOption = Annotated[
    Start, typer.Option("--start", help="What objects of clips are given by in the first frame.")
]
ClicksOption = Annotated[
    int,
    typer.Option(
        "--clicks", min=LEAST_CLICKS, max=100, help="Clicks on each object of a photograph."
    ),
]
RefineOption = Annotated[
    bool,
    typer.Option("--refine", help="Let a second pass draw the masks of photographs again."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder for results.json, plot and contact sheets."),
]


def evaluate(
    folder: FolderArgument,
    start: StartOption = Start.MASK,
    clicks: ClicksOption = 20,
    refine: RefineOption = False,
    model: ModelOption = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """Measure how good a model's masks are.

    Photographs: the mean IoU for the tight box, for one click (best of three answers), and for 3
    and 5 clicks with one answer, each click in the middle of the largest error; and how many clicks
    it takes to an IoU of 0.8. Clips: J, F and J&F of DAVIS for the objects of the first frame; the
    first and the last frame do not count.
    """
    photographs, clips = _read(folder)
    if refine and clips:
        raise CommandFailure("clips have no second pass: leave --refine out", ExitCode.USAGE)
    if out is not None:
        with _files(f"{out} cannot be written to"):  # said before the work, not after it
            out.mkdir(parents=True, exist_ok=True)
    call = _Call(Connection(server, local, config, model), model, timeout_s, refine=refine)
    with _files(f"{folder} cannot be measured"):
        outcome = call.photographs(photographs, clicks) if photographs else call.clips(clips, start)
        written = outcome.write(out) if out is not None else []
    if as_json:
        print_json({**outcome.document, "files": [str(path) for path in written]})
        return
    console = results()
    console.print(outcome.table)
    digest = outcome.document["checkpoint_digest"][:_SHORT_DIGEST]
    console.print(f"model {outcome.document['model']}, checkpoint {digest}", highlight=False)
    console.print(files_table(written))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of it: the content of results.json, the table, and what draws the pictures."""

    document: dict[str, Any]
    table: Table
    draw: Callable[[Path], list[Path]]

    def write(self, folder: Path) -> list[Path]:
        """Write all files and return their paths.

        Raises:
            OSError: The folder cannot be written to.
        """
        with messages().status("drawing"):
            return [write_results(folder, self.document), *self.draw(folder)]


@dataclass(frozen=True, slots=True)
class _Call:
    """Which model of which server is asked."""

    connection: Connection
    model: str
    timeout_s: float
    refine: bool

    def photographs(self, photographs: Sequence[Photograph], most_clicks: int) -> _Outcome:
        """Score the objects of photographs and show how far the work is."""
        objects: list[JudgedObject] = []
        skipped: list[str] = []
        total = sum(len(photograph.objects) for photograph in photographs)
        with work_progress("objects/s") as progress:
            task = progress.add_task("starting", total=total)
            with self.connection.client() as client:
                served = client.model(self.model, timeout_s=self.timeout_s)
                judge = PhotographJudge(
                    client, served, most_clicks, self.timeout_s, Postprocess(refine=self.refine)
                )
                progress.update(task, description=f"asking {served.name}")
                for judged in judge.judge(photographs, skipped.append):
                    objects.append(judged)
                    progress.update(task, completed=len(objects) + len(skipped))
        for name in skipped:
            messages().print(f"{name} is left out: its mask is empty")
        if not objects:
            raise CommandFailure("all masks are empty", ExitCode.USAGE)
        return _Outcome(
            {**photographs_document(objects, skipped, most_clicks), "refine": self.refine},
            photographs_table(objects),
            partial(write_photographs, objects=objects),
        )

    def clips(self, clips: Sequence[Clip], start: Start) -> _Outcome:
        """Score the objects of clips and show how far the work is."""
        tracks: list[JudgedTrack] = []
        with work_progress("frames/s") as progress:
            task = progress.add_task("starting", total=sum(len(clip.frames) for clip in clips))
            with self.connection.client() as client:
                judge = ClipJudge(client, self.model, start, self.timeout_s)
                for clip in clips:
                    progress.update(task, description=clip.name)
                    tracks += judge.judge(clip, partial(progress.advance, task))
        if not tracks:
            raise CommandFailure("the first frames hold no object", ExitCode.USAGE)
        return _Outcome(
            tracks_document(tracks, start),
            tracks_table(tracks),
            partial(write_tracks, tracks=tracks),
        )


def _read(folder: Path) -> tuple[tuple[Photograph, ...], tuple[Clip, ...]]:
    """Return the photographs or the clips of a folder; one of the two is empty.

    Raises:
        CommandFailure: It holds neither, or both, or what cannot be used.
    """
    with _files(f"{folder} cannot be measured"):
        photographs, clips = find_photographs(folder), find_clips(folder)
    if photographs and clips:
        text = f"{folder} holds both photographs and clips: they are measured one at a time"
        raise CommandFailure(text, ExitCode.USAGE, _FORMS)
    if not photographs and not clips:
        text = f"{folder} holds no labelled photographs or clips"
        raise CommandFailure(text, ExitCode.USAGE, _FORMS)
    return photographs, clips


@contextmanager
def _files(failure: str) -> Iterator[None]:
    """Turn what goes wrong with files into a `CommandFailure`."""
    try:
        yield
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise CommandFailure(f"{failure}: {error}", ExitCode.USAGE) from error
