"""`maskwire reconstruct`: objects of one image in 3D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ..images import EncodedImage, ImageReference, load_image
from ..prompts import PromptLike, Text
from ..reconstruction import CameraIntrinsics
from .connection import ConfigOption, Connection, LocalOption, ServerOption
from .console import messages, print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure
from .job_progress import follow_job
from .options import JsonOption
from .prompts import parse_box, parse_mask, parse_point
from .reconstruct_output import reconstruction_tables, reconstruction_to_json

__all__ = ["EPILOG", "reconstruct"]

DEFAULT_FOLDER = Path("maskwire-output")

_EXAMPLES = """\
  maskwire reconstruct cup.jpg
  maskwire reconstruct desk.jpg --box 100,80,420,390 --box 500,60,620,240
  maskwire reconstruct desk.jpg --mask cup.png --mask lamp.png --pointmap points.npz
  maskwire reconstruct a.jpg --point 320,240 --depth a.png --fx 910 --fy 910 --cx 640 --cy 360

Without masks and prompts the whole image is the object. With a point map or a depth map the result
is in metres."""

EPILOG = f"Examples\n\n```text\n{_EXAMPLES}\n```"

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="File, https: or data: URI, or sha256: digest.")
]
MaskOptions = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="FILE", help="Mask of an object, a picture; again for more."),
]
PointOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y[,LABEL][@OBJECT]",
        help="Click; the label is 1, fg or + (on the object) or 0, bg or - (off it).",
    ),
]
BoxOptions = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X0,Y0,X1,Y1[@OBJECT]", help="Box around an object."),
]
TextOptions = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="Concept, for models that take text."),
]
PointMapOption = Annotated[
    str | None,
    typer.Option(
        "--pointmap",
        metavar="FILE",
        help="A 3D point for each pixel in metres, NPY or NPZ; or files/... of an upload.",
    ),
]
DepthOption = Annotated[
    str | None,
    typer.Option(
        "--depth",
        metavar="FILE",
        help="A depth for each pixel, NPY or NPZ in metres, or a 16-bit PNG; with --fx to --cy.",
    ),
]
DepthUnitOption = Annotated[
    float | None,
    typer.Option(
        "--depth-unit", metavar="METRES", min=1e-9, help="Of one step of a PNG; default 0.001."
    ),
]
FocalXOption = Annotated[
    float | None, typer.Option("--fx", metavar="PX", help="Focal length along x.")
]
FocalYOption = Annotated[
    float | None, typer.Option("--fy", metavar="PX", help="Focal length along y.")
]
CentreXOption = Annotated[float | None, typer.Option("--cx", metavar="PX", help="Principal point.")]
CentreYOption = Annotated[float | None, typer.Option("--cy", metavar="PX", help="Principal point.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed gives the same result.")
]
EngineOption = Annotated[
    str, typer.Option("--model", help="Reconstruction engine; none is the server's default.")
]
SegmentationModelOption = Annotated[
    str,
    typer.Option("--segmentation-model", help="Model for prompts; none is the server's default."),
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for all that is made.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0.001, help="How long it may take; no limit by default."
    ),
]


def reconstruct(
    image: ImageArgument,
    masks: MaskOptions = None,
    points: PointOptions = None,
    boxes: BoxOptions = None,
    texts: TextOptions = None,
    point_map: PointMapOption = None,
    depth_map: DepthOption = None,
    depth_unit_m: DepthUnitOption = None,
    focal_x: FocalXOption = None,
    focal_y: FocalYOption = None,
    centre_x: CentreXOption = None,
    centre_y: CentreYOption = None,
    seed: SeedOption = 0,
    model: EngineOption = "",
    segmentation_model: SegmentationModelOption = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    out: OutOption = DEFAULT_FOLDER,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = None,
) -> None:
    """Reconstruct objects of one image in 3D.

    Leaves meshes (GLB), splats (PLY), metadata (JSON), a picture from several sides (PNG) and all
    of it as a ZIP file. The work is a job of the server: Ctrl-C leaves it, and says how to go on.
    """
    camera = _camera(focal_x, focal_y, centre_x, centre_y)
    _check(masks, [*(points or ()), *(boxes or ()), *(texts or ())], point_map, depth_map, camera)
    source, object_masks = _readable(image), [_bitmap(text) for text in masks or ()]
    prompts: list[PromptLike] = [
        *(parse_point(text) for text in points or ()),
        *(parse_box(text) for text in boxes or ()),
        *(Text(text) for text in texts or ()),
    ]
    connection = Connection(server, local, config, segmentation_model)
    with connection.client() as client, _local_files():
        with messages().status("sending"):
            reconstruction = client.reconstruct_objects(
                source,
                masks=object_masks,
                prompts=prompts,
                seed=seed,
                point_map=point_map,
                depth_map=depth_map,
                intrinsics=camera,
                depth_unit_m=depth_unit_m,
                model=model,
                segmentation_model=segmentation_model,
                timeout_s=timeout_s,
            )
        with reconstruction:
            follow_job(reconstruction, connection)
            result = reconstruction.result()
        with messages().status("fetching the files"):
            written = result.save(out)
    if as_json:
        print_json(reconstruction_to_json(result, reconstruction.job_name, written))
        return
    results().print(reconstruction_tables(result, written))


def _check(
    masks: Sequence[str] | None,
    prompts: Sequence[str],
    point_map: str | None,
    depth_map: str | None,
    camera: CameraIntrinsics | None,
) -> None:
    """Check that options go together.

    Raises:
        CommandFailure: They do not.
    """
    rule = ""
    if masks and prompts:
        rule = "--mask shows the objects themselves, so no prompts may go with it"
    elif point_map is not None and depth_map is not None:
        rule = "--pointmap and --depth exclude each other"
    elif (camera is None) != (depth_map is None):
        rule = "--depth, --fx, --fy, --cx and --cy belong together"
    if rule:
        raise CommandFailure(rule, ExitCode.USAGE, _EXAMPLES)


def _camera(*numbers: float | None) -> CameraIntrinsics | None:
    """Return the camera of --fx, --fy, --cx and --cy; None where they are not given.

    Raises:
        CommandFailure: Some of them are missing.
    """
    given = [number for number in numbers if number is not None]
    if not given:
        return None
    if len(given) < len(numbers):
        raise CommandFailure("--fx, --fy, --cx and --cy belong together", ExitCode.USAGE)
    return CameraIntrinsics(*given)


def _bitmap(file: str) -> NDArray[np.bool_]:
    mask = parse_mask(file).mask
    assert isinstance(mask, np.ndarray), "a file is read as a bitmap"
    return mask


def _readable(image: str) -> EncodedImage | ImageReference:
    """Return the image, read before a server is started or called."""
    try:
        return load_image(image)
    except (OSError, ValueError) as error:
        raise CommandFailure(f"the image cannot be read: {error}", ExitCode.USAGE) from error


@contextmanager
def _local_files() -> Iterator[None]:
    """Turn what files on this machine raise into a `CommandFailure`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CommandFailure(
            f"a file cannot be read or written: {error}", ExitCode.USAGE
        ) from error
