"""`maskwire live`: objects followed through a live video, with figures of what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from ..prompts import Text
from ..sessions import DropPolicy
from .connection import ConfigOption, Connection, LocalOption, ServerOption
from .console import messages, print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure
from .live_frames import LiveFrames, open_source
from .live_run import LiveRun
from .options import JsonOption, ModelOption
from .prompts import LIVE_EXAMPLES, parse_box, parse_mask, parse_point
from .segment import BoxOptions, MaskOptions, PointOptions, TextOptions
from .video_output import video_library

__all__ = ["EPILOG", "live"]

EPILOG = f"Examples\n\n```text\n{LIVE_EXAMPLES}\n```"

CameraOption = Annotated[
    int | None, typer.Option("--camera", min=0, help="Number of the camera; needs OpenCV.")
]
VideoOption = Annotated[
    Path | None,
    typer.Option("--video", metavar="FILE", help="Video, or folder of images, as if it were live."),
]
RateOption = Annotated[
    float | None,
    typer.Option("--fps", min=0.01, help="Frames to send a second; default is the source's own."),
]
SecondsOption = Annotated[
    float | None, typer.Option("--seconds", min=0.1, help="When to stop; default is at the end.")
]
LatestOnlyOption = Annotated[
    bool,
    typer.Option(
        "--latest-only", help="Drop frames that come too fast, instead of sending more slowly."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for overlay.mp4.")
]


def live(
    camera: CameraOption = None,
    video: VideoOption = None,
    fps: RateOption = None,
    points: PointOptions = None,
    boxes: BoxOptions = None,
    masks: MaskOptions = None,
    texts: TextOptions = None,
    seconds: SecondsOption = None,
    latest_only: LatestOnlyOption = False,
    model: ModelOption = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Track objects through a live video and show throughput, latency and drops.

    The prompts are about the first frame. Latency runs from the moment a frame is handed to the
    connection to its answer.
    """
    if not (points or boxes or masks or texts):
        raise CommandFailure(
            "say what to track, by a point, a box, a mask or a text", ExitCode.USAGE, LIVE_EXAMPLES
        )
    if out is not None:
        video_library()
        out.mkdir(parents=True, exist_ok=True)
    overlay = out / "overlay.mp4" if out is not None else None
    parsed: dict[str, Sequence[Any]] = {
        "points": [parse_point(text) for text in points or ()],
        "boxes": [parse_box(text) for text in boxes or ()],
        "masks": [parse_mask(text) for text in masks or ()],
        "texts": [Text(text) for text in texts or ()],
    }
    source, rate = open_source(camera, video, fps)
    frames = LiveFrames(source, rate, seconds, keeps=out is not None)
    policy = DropPolicy.LATEST_ONLY if latest_only else DropPolicy.PROCESS_ALL
    run = LiveRun(frames, parsed, model, policy, overlay)
    with (
        Live("starting", console=messages(), auto_refresh=False, transient=True) as view,
        Connection(server, local, config, model).client() as client,
    ):
        run.carry_out(client, view)
    if run.figures is not None:
        written = [overlay] if overlay is not None and overlay.is_file() else []
        if as_json:
            print_json(run.figures.to_json(written))
        else:
            results().print(run.figures.render(written))
    if run.failure is not None:
        raise run.failure
