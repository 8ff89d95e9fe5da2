"""`maskwire demo`: photographs from an installed package through the whole service."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from .. import coco
from .._client import Client
from ..images import encode_image
from ..options import Rendering
from ..prompts import MaskPrompt
from ..results import SegmentationResult
from .connection import ConfigOption, Connection, LocalOption, ServerOption
from .console import messages, results
from .demo_pictures import PHOTOGRAPHS, Photograph, contact_sheet, panel
from .exit_codes import ExitCode
from .failures import CommandFailure
from .reports import mask_table, summary_table

__all__ = ["demo"]


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for what the demo leaves.")
    ] = Path("demo-output"),
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
) -> None:
    """Segment photographs by a point, a box and a mask; leave overlay.png and masks.json.

    The photographs come with the package scikit-image; nothing is downloaded.
    """
    photographs = {photograph: _read(photograph) for photograph in PHOTOGRAPHS}
    out.mkdir(parents=True, exist_ok=True)
    answers: dict[str, SegmentationResult] = {}
    panels = []
    connection = Connection(server, local, config)
    with messages().status("starting the server") as status, connection.client() as client:
        for photograph, picture in photographs.items():
            status.update(f"segmenting {photograph.file_name}")
            file = out / photograph.file_name
            file.write_bytes(encode_image(picture, "jpeg"))
            answer = _segment(client, photograph, file)
            answers[photograph.file_name] = answer
            panels.append(panel(answer.pictures[0].open(), photograph))
    contact_sheet(panels).save(out / "overlay.png")
    (out / "masks.json").write_text(json.dumps(coco.document(answers)) + "\n", encoding="utf-8")
    _report(answers, out)


def _segment(client: Client, photograph: Photograph, file: Path) -> SegmentationResult:
    """Segment one object by a point, one by a box, and one by the mask of an earlier answer."""
    first = client.segment(file, boxes=[photograph.first_box], include_logits=True)
    return client.segment(
        file,
        points=[*photograph.points, photograph.correction],
        boxes=[photograph.box],
        masks=[MaskPrompt(first.masks[0], photograph.correction.object_id)],
        renderings=[Rendering()],
    )


def _read(photograph: Photograph) -> Image.Image:
    try:
        data = importlib.import_module("skimage.data")
    except ModuleNotFoundError as error:
        raise CommandFailure(
            "the demo's photographs come with scikit-image, which is not installed",
            ExitCode.USAGE,
            "install it with: pip install 'maskwire[server,demo]'",
        ) from error
    return Image.fromarray(getattr(data, photograph.name)())


def _report(answers: dict[str, SegmentationResult], out: Path) -> None:
    console = results()
    for file_name, answer in answers.items():
        console.print(f"\n[bold]{out / file_name}[/bold]")
        console.print(mask_table(answer))
        console.print(summary_table(answer.info))
    file_name = next(iter(answers))
    console.print(f"\nLook at [bold]{out / 'overlay.png'}[/bold]; the masks are in", end=" ")
    console.print(f"[bold]{out / 'masks.json'}[/bold] (COCO RLE, scores, boxes).")
    console.print(f"Then try: maskwire segment {out / file_name} --point 150,290 --multiple")
