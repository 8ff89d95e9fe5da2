"""`maskwire auto`: everything in images, one or many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Never

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from .._client import Client
from ..errors import InternalError, InvalidArgument
from ..images import load_image
from ..options import AutoSegmentOptions, MaskEncoding, Rendering, RenderingStyle
from ..results import SegmentationResult
from .auto_output import AutoOutput
from .connection import ConfigOption, Connection, LocalOption, ServerOption
from .console import results
from .exit_codes import ExitCode
from .failures import CommandFailure, report_failure
from .options import ENCODINGS, FormatOption, JsonOption, MaskFormat, ModelOption
from .progress import work_progress
from .reports import files_table

__all__ = ["auto"]

DEFAULT_FOLDER = Path("maskwire-output")
_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"})

ImagesArgument = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="Files, folders of images, or https: URIs."),
]
PointsPerSideOption = Annotated[
    int | None,
    typer.Option(
        "--points-per-side", min=1, max=128, help="Points along each side of the grid; default 32."
    ),
]
PredIouOption = Annotated[
    float | None,
    typer.Option("--pred-iou-thresh", min=0, max=1, help="Least predicted IoU; default 0.88."),
]
StabilityOption = Annotated[
    float | None,
    typer.Option(
        "--stability-score-thresh", min=0, max=1, help="Least stability score; default 0.95."
    ),
]
StabilityOffsetOption = Annotated[
    float | None,
    typer.Option(
        "--stability-score-offset",
        min=0,
        max=10,
        help="Shift of the threshold, in logits; default 1.",
    ),
]
RegionAreaOption = Annotated[
    int | None,
    typer.Option(
        "--min-mask-region-area", min=0, help="Islands and holes of fewer pixels go; default 100."
    ),
]
BoxNmsOption = Annotated[
    float | None,
    typer.Option(
        "--box-nms-thresh",
        min=0,
        max=1,
        help="IoU of boxes from which the worse mask goes; default 0.7.",
    ),
]
CropLayersOption = Annotated[
    int, typer.Option("--crop-n-layers", min=0, max=4, help="Layers of crops besides the image.")
]
CropNmsOption = Annotated[
    float | None,
    typer.Option("--crop-nms-thresh", min=0, max=1, help="The same between crops; default 0.7."),
]
CropOverlapOption = Annotated[
    float | None,
    typer.Option(
        "--crop-overlap-ratio",
        min=0,
        max=0.9,
        help="Overlap of crops, as a fraction of the image; default 0.34.",
    ),
]
CropPointsOption = Annotated[
    int | None,
    typer.Option(
        "--crop-n-points-downscale-factor",
        min=1,
        max=8,
        help="How much fewer points each layer of crops has; default 1.",
    ),
]
MultimaskOption = Annotated[
    bool | None,
    typer.Option(
        "--multimask/--no-multimask",
        help="Whether a point may give object, part and subpart; default yes.",
    ),
]
MaxMasksOption = Annotated[
    int | None,
    typer.Option("--max-masks", min=1, max=4096, help="Most masks, best first; default all."),
]
LabelMapOption = Annotated[
    bool, typer.Option("--label-map", help="Also write NAME-labels.png, whose values are ids.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help=f"Folder for all that is written; {DEFAULT_FOLDER} unless --json is given.",
    ),
]
TimeoutPerImageOption = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long an image may take."),
]


@dataclass(frozen=True, slots=True)
class _Source:
    """An image to segment: what names it in the output, and where it is."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked for of every image."""

    options: AutoSegmentOptions
    model: str
    encoding: MaskEncoding
    renderings: tuple[Rendering, ...]
    timeout_s: float

    def segment(
        self, client: Client, source: _Source, show: Callable[[int, int], None]
    ) -> SegmentationResult:
        """Segment everything in an image.

        Args:
            client: Of the server.
            source: The image.
            show: Called with grid points done and in all.

        Raises:
            CommandFailure: The image cannot be read, here or by the server.
            MaskwireError: The call failed otherwise; the next image's would too.
        """
        try:
            stream = client.stream_auto_segment(
                load_image(source.address),
                options=self.options,
                model=self.model,
                encoding=self.encoding,
                renderings=self.renderings,
                timeout_s=self.timeout_s,
            )
            with stream:
                for update in stream:
                    show(update.points_done, update.points_total)
        except InvalidArgument as error:
            text = f"{source.name}: {error.message}"
            raise CommandFailure(text, ExitCode.INVALID_REQUEST) from error
        except (OSError, ValueError) as error:
            text = f"the image cannot be read: {error}"
            raise CommandFailure(text, ExitCode.USAGE) from error
        if stream.result is None:
            raise InternalError("the server ended its answer without a result")
        return stream.result


def auto(
    images: ImagesArgument,
    points_per_side: PointsPerSideOption = None,
    pred_iou_thresh: PredIouOption = None,
    stability_score_thresh: StabilityOption = None,
    stability_score_offset: StabilityOffsetOption = None,
    min_mask_region_area: RegionAreaOption = None,
    box_nms_thresh: BoxNmsOption = None,
    crop_n_layers: CropLayersOption = 0,
    crop_nms_thresh: CropNmsOption = None,
    crop_overlap_ratio: CropOverlapOption = None,
    crop_n_points_downscale_factor: CropPointsOption = None,
    multimask: MultimaskOption = None,
    max_masks: MaxMasksOption = None,
    model: ModelOption = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    mask_format: FormatOption = MaskFormat.RLE,
    label_map: LabelMapOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutPerImageOption = 600.0,
) -> None:
    """Segment everything in one image or many, without prompts.

    Leaves masks.json (one COCO document for all images), contact-sheet.png and an overlay for each
    image. An image that cannot be read is reported, and the others go on.
    """
    sources = list(_sources(images))
    folder = out if out is not None or as_json else DEFAULT_FOLDER
    options = AutoSegmentOptions(
        points_per_side=points_per_side,
        pred_iou_thresh=pred_iou_thresh,
        stability_score_thresh=stability_score_thresh,
        stability_score_offset=stability_score_offset,
        min_mask_region_area=min_mask_region_area,
        box_nms_thresh=box_nms_thresh,
        crop_n_layers=crop_n_layers,
        crop_nms_thresh=crop_nms_thresh,
        crop_overlap_ratio=crop_overlap_ratio,
        crop_n_points_downscale_factor=crop_n_points_downscale_factor,
        multimask_output=multimask,
        max_masks=max_masks,
    )
    call = _Call(options, model, ENCODINGS[mask_format], _renderings(folder, label_map), timeout_s)
    output = AutoOutput(folder, as_json=as_json, mask_files=mask_format is MaskFormat.PNG)
    with Connection(server, local, config, model).client() as client, output:
        failures, table = _segment_all(client, call, sources, output)
        if len(failures) == len(sources):
            _fail(failures, len(sources))
    if not as_json:
        _report(table, output.written)
    if failures:
        _fail(failures, len(sources))


def _fail(failures: Sequence[CommandFailure], images: int) -> Never:
    """Report why images could not be segmented."""
    if images == 1:
        raise failures[0]
    for failure in failures:
        report_failure(failure)
    text = f"{len(failures)} of {images} images could not be segmented"
    raise CommandFailure(text, failures[0].exit_code)


def _sources(arguments: Sequence[str]) -> Iterator[_Source]:
    """Give the images that the arguments name, those of folders in the order of their names.

    Raises:
        CommandFailure: A folder holds no image.
    """
    for argument in arguments:
        folder = Path(argument)
        if not folder.is_dir():
            yield _Source(folder.name if folder.is_file() else argument, argument)
            continue
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _IMAGE_SUFFIXES)
        if not files:
            raise CommandFailure(f"no images in the folder {argument}", ExitCode.USAGE)
        yield from (_Source(file.name, str(file)) for file in files)


def _renderings(folder: Path | None, label_map: bool) -> tuple[Rendering, ...]:
    if folder is None:
        return ()
    overlay = Rendering()
    return (overlay, Rendering(RenderingStyle.LABEL_MAP)) if label_map else (overlay,)


def _segment_all(
    client: Client, call: _Call, sources: Sequence[_Source], output: AutoOutput
) -> tuple[list[CommandFailure], Table]:
    """Segment images one by one; return why some could not be, and a row for each of the others."""
    failures: list[CommandFailure] = []
    table = Table("image", "size px", "masks", "scores", "server s")
    for column in table.columns[1:]:
        column.justify = "right"
    with work_progress("/s") as progress:
        images = progress.add_task("images", total=len(sources))
        points = progress.add_task("", total=None)
        for source in sources:
            progress.reset(points, total=None, description=f"points of {source.name}")
            try:
                result = call.segment(client, source, partial(_show, progress, points))
            except CommandFailure as failure:
                failures.append(failure)
            else:
                output.add(source.name, result)
                table.add_row(*_row(source.name, result))
            progress.advance(images)
    return failures, table


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total or None)


def _row(name: str, result: SegmentationResult) -> tuple[str, ...]:
    size, total = result.image.size, result.info.timings.total
    scores = [mask.score for mask in result if mask.score is not None]
    return (
        name,
        f"{size.width_px} x {size.height_px}",
        str(len(result)),
        f"{min(scores):.2f} to {max(scores):.2f}" if scores else "",
        f"{total.total_seconds():.2f}" if total is not None else "",
    )


def _report(table: Table, written: Sequence[Path]) -> None:
    console = results()
    console.print(table)
    console.print(files_table(written))
