"""`maskwire track`: objects followed through a stored video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..images import ImageReference
from ..prompts import Text
from ..videos import TrackDirection
from .connection import ConfigOption, Connection, LocalOption, ServerOption
from .console import print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure
from .options import ENCODINGS, FormatOption, JsonOption, MaskFormat, ModelOption
from .prompts import VIDEO_EXAMPLES, parse_box, parse_mask, parse_point
from .reports import files_table
from .tracking_call import TrackingCall, follow
from .tracking_output import TrackingOutput, track_table, video_table
from .tracking_record import TrackingRecord, document
from .video_output import video_library

__all__ = ["EPILOG", "track"]

EPILOG = f"Examples\n\n```text\n{VIDEO_EXAMPLES}\n```"

_REFERENCE = re.compile(r"(https?|s3|gs|az|data):|files/", re.IGNORECASE)
DEFAULT_FOLDER = Path("maskwire-output")

VideoArgument = Annotated[
    str,
    typer.Argument(metavar="VIDEO", help="MP4, WebM or GIF: a file, or files/... of an upload."),
]
PointOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y[,LABEL][@OBJECT][#FRAME]",
        help="Click; the label is 1, fg or + (on the object) or 0, bg or - (off it).",
    ),
]
BoxOptions = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X0,Y0,X1,Y1[@OBJECT][#FRAME]", help="Box around an object."),
]
MaskOptions = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="FILE[@OBJECT][#FRAME]", help="Mask of an object, a picture."),
]
TextOptions = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="Concept, for models that take text."),
]
FrameOption = Annotated[
    int, typer.Option("--frame", min=0, help="Frame of the prompts without #FRAME, from 0.")
]
DirectionOption = Annotated[
    TrackDirection,
    typer.Option(
        "--direction", help="From the first prompted frame on, from the last one back, or both."
    ),
]
StartOption = Annotated[int, typer.Option("--start", min=0, help="First frame to track.")]
EndOption = Annotated[
    int | None, typer.Option("--end", min=1, help="Frame after the last; none is the video's end.")
]
StrideOption = Annotated[
    int, typer.Option("--stride", min=1, help="Track every n-th frame from the first.")
]
GifOption = Annotated[
    bool, typer.Option("--gif", help="Write overlay.gif, 480 px wide, instead of overlay.mp4.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help=f"Folder for what is written; {DEFAULT_FOLDER} unless --json is given.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0.001, help="How long it may take; no limit by default."
    ),
]


def track(
    video: VideoArgument,
    points: PointOptions = None,
    boxes: BoxOptions = None,
    masks: MaskOptions = None,
    texts: TextOptions = None,
    frame: FrameOption = 0,
    direction: DirectionOption = TrackDirection.FORWARD,
    start: StartOption = 0,
    end: EndOption = None,
    stride: StrideOption = 1,
    model: ModelOption = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    mask_format: FormatOption = MaskFormat.RLE,
    gif: GifOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = None,
) -> None:
    """Track objects through a video.

    Prompts with the same @OBJECT are about the same object. Points without one are one object
    together; every box and mask without one is an object of its own. Prompts are about the frame
    of --frame, or of their own #FRAME, so that an object can be corrected, or begin, later.

    Leaves overlay.mp4 (or .gif), masks.json (a COCO document with an image for each frame, and
    object id, score and state for each mask) and contact-sheet.png.
    """
    if not (points or boxes or masks or texts):
        raise CommandFailure(
            "say what to track, by a point, a box, a mask or a text", ExitCode.USAGE, VIDEO_EXAMPLES
        )
    folder = out if out is not None or as_json else DEFAULT_FOLDER
    source = _source(video)
    call = TrackingCall(
        video=source,
        points=[parse_point(text, frame) for text in points or ()],
        boxes=[parse_box(text, frame) for text in boxes or ()],
        masks=[parse_mask(text, frame) for text in masks or ()],
        texts=[Text(text, frame_index=frame) for text in texts or ()],
        model=model,
        direction=direction,
        start_frame=start,
        end_frame=end,
        stride=stride,
        encoding=ENCODINGS[mask_format],
        render_overlay=folder is not None and isinstance(source, ImageReference),
        timeout_s=timeout_s,
    )
    if folder is not None:
        video_library()  # what is missing is said before the work, not after it
    record, failure = follow(Connection(server, local, config, model), call)
    name = source.name if isinstance(source, Path) else source.address
    written = []
    if folder is not None and record.frames:
        output = TrackingOutput(folder, gif=gif, mask_files=mask_format is MaskFormat.PNG)
        written = output.write(record, name, source, [*call.points, *call.boxes])
    if as_json and record.frames:
        print_json({**document(record, name), "files": [str(path) for path in written]})
    elif record.frames:
        _report(record, written)
    if failure is not None:
        raise failure


def _source(video: str) -> Path | ImageReference:
    """Return the video: a file that is there, or a reference to what the server can find.

    Raises:
        CommandFailure: It is neither.
    """
    if Path(video).is_file():
        return Path(video)
    if _REFERENCE.match(video):
        return ImageReference(video)
    raise CommandFailure(f"there is no video file {video}", ExitCode.USAGE)


def _report(record: TrackingRecord, written: Sequence[Path]) -> None:
    console = results()
    console.print(track_table(record.tracks()))
    console.print(video_table(record))
    console.print(files_table(written))
