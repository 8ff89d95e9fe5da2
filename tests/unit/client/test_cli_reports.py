"""The tables that commands print say texts and paths as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.table import Table

from maskwire_client import Mask, SegmentationResult
from maskwire_client.cli.console import messages, results
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


def printed(table: Table, capsys: pytest.CaptureFixture[str]) -> str:
    results().print(table, width=200)
    messages().print(table, width=200)
    output, errors = capsys.readouterr()
    assert output == errors
    return output


@pytest.mark.parametrize("words", ["[red] disc", "sign [/b]", ":warning: sign", "[link=x]", "C:\\"])
def test_words_in_brackets_are_words(words: str, capsys):
    result = SegmentationResult((Mask(0, 1, 5, text=words),), INFO)
    assert words in printed(mask_table(result), capsys)
    written = [Path("/tmp") / words / "overlay.png"]
    assert str(written[0]) in printed(files_table(written), capsys)
    assert str(written[0]) in printed(summary_table(INFO, written), capsys)
