"""What `maskwire auto` leaves of any number of images, written as it goes: in bounded memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from PIL import Image

from .. import coco
from ..options import RenderingStyle
from ..results import SegmentationResult
from .contact_sheet import Panel, contact_sheet, thumbnail

__all__ = ["AutoOutput", "CocoWriter", "ContactSheets", "FileNames"]

_PANELS_PER_SHEET = 48
_PICTURE_NAMES = {RenderingStyle.OVERLAY: "overlay", RenderingStyle.LABEL_MAP: "labels"}


class AutoOutput:
    """The files of `--out` and the JSON of `--json`; a context manager that completes them.

    In the folder: masks.json, contact-sheet.png, and for each image NAME-overlay.png, where asked
    for NAME-labels.png, and NAME-mask-N.png for each mask.

    Nothing is written before the first answer, nor where the first one fails.

    Args:
        folder: The folder; None for none.
        as_json: Whether to print masks.json.
        mask_files: Whether to write a picture for each mask.
    """

    def __init__(self, folder: Path | None, *, as_json: bool, mask_files: bool) -> None:
        self.written: list[Path] = []
        self._folder = folder
        self._as_json = as_json
        self._mask_files = mask_files
        self._names = FileNames()
        self._resources = ExitStack()
        self._sheets = ContactSheets(folder) if folder is not None else None
        self._document: CocoWriter | None = None

    def add(self, file_name: str, result: SegmentationResult) -> None:
        """Take the answer for an image.

        Raises:
            OSError: The folder cannot be made, or a file cannot be written.
            ValueError: A mask does not decode.
        """
        if self._document is None:
            self._document = self._begin()
        self._document.add(file_name, result)
        if self._folder is None or self._sheets is None:
            return
        stem = self._names.unique(Path(file_name).stem)
        for picture in result.pictures:
            path = self._folder / f"{stem}-{_PICTURE_NAMES[picture.style]}.png"
            self.written.append(picture.save(path))
            if picture.style is RenderingStyle.OVERLAY:
                self._sheets.add(picture.open(), f"{file_name}, {len(result)} masks")
        if self._mask_files:
            for mask in result:
                path = self._folder / f"{stem}-mask-{mask.object_id}.png"
                Image.fromarray(mask.bitmap).save(path)
                self.written.append(path)

    def __enter__(self) -> Self:
        """Return the output itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete the files, also when some images are missing."""
        with self._resources:
            if self._document is None and error is None:
                self._document = self._begin()
            if self._sheets is not None:
                self.written += self._sheets.close()
            if self._document is not None:
                self._document.close(files=[str(path) for path in self.written])

    def _begin(self) -> CocoWriter:
        streams: list[TextIO] = [sys.stdout] if self._as_json else []
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._folder / "masks.json"
            streams.append(self._resources.enter_context(file.open("w", encoding="utf-8")))
            self.written.append(file)
        return CocoWriter(streams)


class CocoWriter:
    """A COCO document in the making, written to streams mask by mask; `close` completes it.

    It has the keys of `coco.document`, the annotations first.

    Args:
        streams: Where to write; they are left open.
    """

    def __init__(self, streams: Sequence[TextIO]) -> None:
        self._streams = streams
        self._images: list[dict[str, Any]] = []
        self._annotations = 0
        self._write('{"info": {"description": "Masks made by Maskwire"}, ')
        self._write('"categories": [{"id": 1, "name": "object"}], "annotations": [')

    def add(self, file_name: str, result: SegmentationResult) -> None:
        """Append the masks of an image.

        Raises:
            ValueError: A mask was not sent, or does not decode.
        """
        image_id = len(self._images) + 1
        self._images.append(coco.image(image_id, file_name, result.info))
        for mask in result:
            self._annotations += 1
            separator = ",\n" if self._annotations > 1 else "\n"
            entry = coco.annotation(mask, self._annotations, image_id=image_id)
            self._write(separator + json.dumps(entry))

    def close(self, **more: object) -> None:
        """Complete the document, with more keys."""
        self._write('\n], "images": ' + json.dumps(self._images))
        for name, value in more.items():
            self._write(f", {json.dumps(name)}: {json.dumps(value)}")
        self._write("}\n")

    def _write(self, text: str) -> None:
        for stream in self._streams:
            stream.write(text)


class ContactSheets:
    """Contact sheets of overlays, a file for each 48: contact-sheet.png, contact-sheet-2.png...

    Args:
        folder: Where to write them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._panels: list[Panel] = []
        self._written: list[Path] = []

    def add(self, overlay: Image.Image, caption: str) -> None:
        """Append a picture; a full sheet is written."""
        self._panels.append(Panel(thumbnail(overlay)[0], caption))
        if len(self._panels) == _PANELS_PER_SHEET:
            self._save()

    def close(self) -> list[Path]:
        """Write what is left and return the files."""
        if self._panels:
            self._save()
        return self._written

    def _save(self) -> None:
        number = len(self._written) + 1
        name = "contact-sheet.png" if number == 1 else f"contact-sheet-{number}.png"
        contact_sheet(self._panels).save(self._folder / name)
        self._written.append(self._folder / name)
        self._panels = []


class FileNames:
    """Names for what is written about images, none of them twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, name: str) -> str:
        """Return a name, with a number before its suffix where it is taken."""
        path = Path(name)
        number, candidate = 1, name
        while candidate in self._taken:
            number += 1
            candidate = f"{path.stem}-{number}{path.suffix}"
        self._taken.add(candidate)
        return candidate
