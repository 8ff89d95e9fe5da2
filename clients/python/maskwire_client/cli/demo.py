"""`maskwire demo`: photographs from an installed package through the whole service."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from PIL import Image
from rich.status import Status
from rich.text import Text

from .. import coco
from .._client import Client
from .._job_results import ObjectsResult
from ..images import encode_image
from ..options import Rendering
from ..prompts import MaskPrompt
from ..reconstruction import ArtifactKind
from ..results import SegmentationResult
from .connection import ConfigOption, Connection, LocalOption, ServerOption
from .console import messages, results
from .demo_pictures import PHOTOGRAPHS, RECONSTRUCTED, Photograph, contact_sheet, panel
from .exit_codes import ExitCode
from .failures import CommandFailure
from .job_progress import stage_text
from .reconstruct_output import reconstruction_tables
from .reports import mask_table, summary_table

__all__ = ["demo"]

_KINDS = (
    ArtifactKind.TURNTABLE,
    ArtifactKind.SCENE_MESH,
    ArtifactKind.SCENE_SPLATS,
    ArtifactKind.METADATA,
)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for what the demo leaves.")
    ] = Path("demo-output"),
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
) -> None:
    """Segment photographs by a point, a box and a mask, and reconstruct one of the objects in 3D.

    Leaves overlay.png, masks.json and, in the folder `reconstruction`, mesh, splats and a picture.
    The photographs come with the package scikit-image; nothing is downloaded.
    """
    photographs = {photograph: _read(photograph) for photograph in PHOTOGRAPHS}
    out.mkdir(parents=True, exist_ok=True)
    answers: dict[str, SegmentationResult] = {}
    panels = []
    with ExitStack() as resources:
        kept = Path(resources.enter_context(TemporaryDirectory(prefix="maskwire-demo-")))
        connection = Connection(server, local, config, folder=kept)
        status = resources.enter_context(messages().status("starting the server"))
        client = resources.enter_context(connection.client())
        for photograph, picture in photographs.items():
            status.update(f"segmenting {photograph.file_name}")
            file = out / photograph.file_name
            file.write_bytes(encode_image(picture, "jpeg"))
            answer = _segment(client, photograph, file)
            answers[photograph.file_name] = answer
            panels.append(panel(answer.pictures[0].open(), photograph))
        solid, files = _reconstruct(client, answers[RECONSTRUCTED.file_name], out, status)
    contact_sheet(panels).save(out / "overlay.png")
    (out / "masks.json").write_text(json.dumps(coco.document(answers)) + "\n", encoding="utf-8")
    _report(answers, out)
    _report_reconstruction(solid, files, out)


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


def _reconstruct(
    client: Client, answer: SegmentationResult, out: Path, status: Status
) -> tuple[ObjectsResult, list[Path]]:
    """Reconstruct an object that was segmented; return the result and its files."""
    mask = next(mask for mask in answer if mask.object_id == RECONSTRUCTED.object_id)
    image = out / RECONSTRUCTED.file_name
    with client.reconstruct_objects(image, masks=[mask]) as reconstruction:
        for event in reconstruction:
            status.update(f"reconstructing the {RECONSTRUCTED.caption}: {stage_text(event)}")
        result = reconstruction.result()
    return result, result.save(out / "reconstruction", kinds=_KINDS)


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
        console.print(f"\n{out / file_name}", style="bold")
        console.print(mask_table(answer))
        console.print(summary_table(answer.info))
    file_name = next(iter(answers))
    overlay, masks = ((str(out / name), "bold") for name in ("overlay.png", "masks.json"))
    files = Text.assemble("\nLook at ", overlay, "; the masks are in ", masks)
    console.print(files, "(COCO RLE, scores, boxes).")
    console.print(f"Then try: maskwire segment {out / file_name} --point 150,290 --multiple")


def _report_reconstruction(result: ObjectsResult, files: Sequence[Path], out: Path) -> None:
    console = results()
    image = out / RECONSTRUCTED.file_name
    title = Text.assemble("\n", (str(image), "bold"), f", the {RECONSTRUCTED.caption} in 3D")
    console.print(title)
    artifacts = tuple(artifact for artifact in result.artifacts if artifact.kind in _KINDS)
    console.print(reconstruction_tables(dataclasses.replace(result, artifacts=artifacts), files))
    turntable = out / "reconstruction" / "turntable.png"
    console.print(Text.assemble("\nLook at ", (str(turntable), "bold"), "."), soft_wrap=True)
    command = f"maskwire reconstruct {image} --box 276,342,512,512"
    console.print(f"Then try: {command}", soft_wrap=True)
