"""`maskwire segment`: the masks of what the prompts name in one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..images import EncodedImage, ImageReference, load_image
from ..options import PictureFormat, Postprocess, Rendering, RenderingStyle
from ..prompts import MaskPrompt
from .connection import ConfigOption, Connection, LocalOption, ServerOption, TimeoutOption
from .console import messages, print_json, results
from .exit_codes import ExitCode
from .failures import CommandFailure
from .options import ENCODINGS, FormatOption, JsonOption, MaskFormat, ModelOption
from .picture_options import (
    CleanUpOption,
    CoarseOption,
    FillHolesOption,
    InferenceSizeOption,
    InvertOption,
    MaxOverlapOption,
    MinScoreOption,
    OpacityOption,
    PictureFormatOption,
    PictureOptions,
    QualityOption,
    RefineOption,
    RemoveIslandsOption,
    SmoothOption,
)
from .prompts import (
    EXAMPLES,
    parse_box,
    parse_exclusion,
    parse_mask,
    parse_point,
    parse_text,
)
from .reports import mask_table, summary_table, to_json, write_files

__all__ = ["segment"]

DEFAULT_FOLDER = Path("maskwire-output")

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="File, https: or data: URI, or sha256: digest.")
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
    typer.Option(
        "--box",
        metavar="X0,Y0,X1,Y1[@OBJECT]",
        help="Box around an object; with --text, around an example of what is meant.",
    ),
]
ExcludeOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="X0,Y0,X1,Y1[@OBJECT]",
        help="Box around an example of what is not meant, with --text or --box.",
    ),
]
MaskOptions = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="FILE[@OBJECT]", help="Mask to refine, a picture."),
]
TextOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT[@OBJECT]",
        help="Find everything that these words name, for example wheel; several are allowed.",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--text-threshold",
        min=0.0,
        max=1.0,
        help="Least confidence of what --text finds; none is the model's own, 0.5 for SAM 3.",
    ),
]
MultipleOption = Annotated[
    bool,
    typer.Option(
        "--multiple", help="Return alternatives for each object, and few instances of a text."
    ),
]
MaxMasksOption = Annotated[
    int | None,
    typer.Option("--max-masks", min=1, max=32, help="Most alternatives, or instances of a text."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help=f"Folder for overlay.png and masks.json; {DEFAULT_FOLDER} unless --json is given.",
    ),
]


def segment(
    image: ImageArgument,
    points: PointOptions = None,
    boxes: BoxOptions = None,
    exclusions: ExcludeOptions = None,
    masks: MaskOptions = None,
    texts: TextOptions = None,
    threshold: ThresholdOption = None,
    model: ModelOption = "",
    server: ServerOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    mask_format: FormatOption = MaskFormat.RLE,
    multiple: MultipleOption = False,
    max_masks: MaxMasksOption = None,
    pictures: PictureOptions = None,
    picture_format: PictureFormatOption = PictureFormat.PNG,
    quality: QualityOption = None,
    opacity: OpacityOption = None,
    invert: InvertOption = False,
    clean_up: CleanUpOption = False,
    fill_holes: FillHolesOption = 0,
    remove_islands: RemoveIslandsOption = 0,
    smooth: SmoothOption = 0.0,
    refine: RefineOption = False,
    min_score: MinScoreOption = None,
    max_overlap: MaxOverlapOption = None,
    coarse: CoarseOption = False,
    inference_size: InferenceSizeOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
) -> None:
    """Segment what the prompts name.

    Prompts with the same @OBJECT refine the same object. Points without one are one object
    together; every box and mask without one is an object of its own. With --text, boxes without
    one show what is meant, and points and masks without one refine what was found.
    """
    if not (points or boxes or masks or texts or exclusions):
        raise CommandFailure(
            "say what to segment, by a point, a box, a mask or a text", ExitCode.USAGE, EXAMPLES
        )
    folder = out if out is not None or as_json else DEFAULT_FOLDER
    parsed_points = [parse_point(text) for text in points or ()]
    parsed_boxes = [parse_box(text) for text in boxes or ()]
    parsed_boxes += [parse_exclusion(text) for text in exclusions or ()]
    parsed_texts = [parse_text(text, threshold) for text in texts or ()]
    parsed_masks: list[MaskPrompt] = [parse_mask(text) for text in masks or ()]
    source = _readable(image)
    renderings = [
        Rendering(style, picture_format, quality=quality, opacity=opacity, invert=invert)
        for style in dict.fromkeys(pictures or [RenderingStyle.OVERLAY])
    ]
    postprocess = Postprocess(
        max_hole_area_px=fill_holes,
        min_region_area_px=remove_islands,
        smoothing_radius_px=smooth,
        morphological_cleanup=clean_up,
        refine=refine,
        min_score=min_score,
        max_overlap_iou=max_overlap,
        coarse_masks=coarse,
    )
    connection = Connection(server, local, config, model)
    with messages().status("segmenting"), connection.client() as client:
        result = client.segment(
            source,
            points=parsed_points,
            boxes=parsed_boxes,
            masks=parsed_masks,
            texts=parsed_texts,
            model=model,
            encoding=ENCODINGS[mask_format],
            return_multiple_masks=multiple or max_masks is not None,
            max_masks=max_masks,
            postprocess=postprocess,
            renderings=renderings if folder is not None else [],
            inference_size_px=inference_size,
            timeout_s=timeout_s,
        )
    name = Path(image).name if isinstance(source, EncodedImage) else image
    written = write_files(result, folder, name, ENCODINGS[mask_format]) if folder else []
    if as_json:
        print_json(to_json(result, name, written))
        return
    console = results()
    console.print(mask_table(result))
    console.print(summary_table(result.info, written))


def _readable(image: str) -> EncodedImage | ImageReference:
    """Return the image, read before a server is started or called."""
    try:
        return load_image(image)
    except (OSError, ValueError) as error:
        raise CommandFailure(f"the image cannot be read: {error}", ExitCode.USAGE) from error
