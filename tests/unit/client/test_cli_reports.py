"""The tables that commands print say texts and paths as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from maskwire_client import Mask, SegmentationResult
from maskwire_client.cli.reports import files_table, mask_table, summary_table
from maskwire_client.geometry import ImageSize
from maskwire_client.results import ImageInfo, ProcessingInfo, Timings

INFO = ProcessingInfo(
    models=(),
    image=ImageInfo("sha256:aa", ImageSize(4, 3), "image/png"),
    embedding_cached=False,
    timings=Timings(),
    request_id="r",
)


def printed(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(table)
    return stream.getvalue()


@pytest.mark.parametrize("words", ["[red] disc", "sign [/b]", "[link=x]", "C:\\"])
def test_words_in_brackets_are_words(words: str):
    result = SegmentationResult((Mask(0, 1, 5, text=words),), INFO)
    assert words in printed(mask_table(result))
    written = [Path("/tmp") / words / "overlay.png"]
    assert str(written[0]) in printed(files_table(written))
    assert str(written[0]) in printed(summary_table(INFO, written))
