"""Pulling, importing and locating checkpoints, against a hub on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines import catalogue, checkpoints
from maskwire_server.engines.catalogue import CatalogueEntry, PublishedCheckpoint
from maskwire_server.engines.checkpoints import PullProgress, PullStage
from maskwire_server.engines.sam2 import Sam2EngineFactory
from tests.support.sam2_checkpoints import Sam2Files, build_small

NAME = "sam2-small-published"
REPOSITORY = "someone/sam2-small"


class Hub(ThreadingHTTPServer):
    """As much of the model hub as downloading one file takes."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = files
        self.downloads = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        content = self._answer()
        self.server.downloads += 1
        self.wfile.write(content)

    def _answer(self) -> bytes:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        self.send_response(200)
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def entry(small_sam2: Sam2Files, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """Put the small network into the catalogue as if it were published."""
    content = small_sam2.checkpoint.read_bytes()
    entry = CatalogueEntry(
        name=NAME,
        engine="sam2",
        summary="",
        license="Apache-2.0",
        config=str(small_sam2.config),
        published=PublishedCheckpoint(
            REPOSITORY, "small.pt", hashlib.sha256(content).hexdigest(), len(content)
        ),
    )
    monkeypatch.setattr(catalogue, "_ENTRIES", (*catalogue.entries(), entry))
    return entry


@pytest.fixture
def hub(small_sam2: Sam2Files) -> Iterator[Hub]:
    content = small_sam2.checkpoint.read_bytes()
    with Hub({f"/{REPOSITORY}/resolve/main/small.pt": content}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / NAME).iterdir()}


def unavailable(folder: Path, **options: Any) -> str:
    with pytest.raises(MaskwireError) as caught:
        checkpoints.pull(NAME, folder, **options)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def test_a_published_checkpoint_is_fetched_checked_and_converted(
    entry: CatalogueEntry, hub: Hub, tmp_path: Path, small_sam2: Sam2Files
):
    assert entry.published is not None
    heard: list[PullProgress] = []
    pulled = checkpoints.pull(NAME, tmp_path, progress=heard.append, endpoint=hub.endpoint)

    assert pulled.is_published
    assert pulled.source_sha256 == entry.published.sha256
    assert pulled.sha256 == hashlib.sha256(pulled.file.read_bytes()).hexdigest()
    assert checkpoints.locate(NAME, tmp_path) == pulled
    assert checkpoints.installed(tmp_path) == (pulled,)
    assert files_in(tmp_path) == {pulled.file.name, "checkpoint.json"}, "the download is removed"
    stages = [progress.stage for progress in heard]
    assert sorted(set(stages), key=stages.index) == list(PullStage)
    downloaded = [p.done_bytes for p in heard if p.stage is PullStage.DOWNLOADING]
    assert downloaded == sorted(downloaded)
    assert downloaded[-1] == entry.published.size_bytes


def test_a_pulled_model_answers_as_the_original_file(
    entry: CatalogueEntry, hub: Hub, tmp_path: Path, small_sam2: Sam2Files
):
    pulled = checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint)
    specification = checkpoints.specify(NAME, tmp_path, device="cpu")
    assert specification.checkpoint == pulled.file
    engine = Sam2EngineFactory().load(specification)
    original = Sam2EngineFactory().load(
        replace(specification, checkpoint=small_sam2.checkpoint, sha256=None)
    )
    assert engine.description.checkpoint_digest == f"sha256:{pulled.sha256}"
    pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    assert torch.equal(engine.encode(pixels).image_features, original.encode(pixels).image_features)


def test_a_changed_file_in_the_cache_is_refused_at_loading(
    entry: CatalogueEntry, hub: Hub, tmp_path: Path
):
    pulled = checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint)
    content = bytearray(pulled.file.read_bytes())
    content[-1] ^= 1
    pulled.file.write_bytes(content)
    with pytest.raises(MaskwireError, match=pulled.sha256) as caught:
        Sam2EngineFactory().load(checkpoints.specify(NAME, tmp_path, device="cpu"))
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_another_digest_is_refused_and_nothing_is_kept(
    entry: CatalogueEntry, hub: Hub, tmp_path: Path
):
    for path, content in hub.files.items():
        hub.files[path] = content[:-1] + bytes([content[-1] ^ 1])
    assert entry.published is not None
    assert entry.published.sha256 in unavailable(tmp_path, endpoint=hub.endpoint)
    assert files_in(tmp_path) == set()
    assert unavailable(tmp_path, endpoint=hub.endpoint)
    assert hub.downloads == 2, "the refused file is fetched again"


def test_a_failed_pull_leaves_what_was_installed(entry: CatalogueEntry, hub: Hub, tmp_path: Path):
    pulled = checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint)
    hub.files.clear()
    assert "does not exist" in unavailable(tmp_path, endpoint=hub.endpoint)
    assert checkpoints.locate(NAME, tmp_path) == pulled
    assert pulled.file.is_file()


def test_an_unreachable_hub_is_answered_with_the_way_out(
    entry: CatalogueEntry, hub: Hub, tmp_path: Path
):
    endpoint = hub.endpoint
    hub.shutdown()
    hub.server_close()
    message = unavailable(tmp_path, endpoint=endpoint)
    assert "cannot be reached" in message
    assert f"maskwire models pull {NAME} --from FILE" in message


def test_own_weights_are_imported_and_told_from_the_published(
    entry: CatalogueEntry, tmp_path: Path, small_sam2: Sam2Files
):
    published = checkpoints.pull(NAME, tmp_path, source_file=small_sam2.checkpoint)
    assert published.is_published
    (tmp_path / "own").mkdir()
    own = build_small(tmp_path / "own", seed=1).checkpoint
    imported = checkpoints.pull(NAME, tmp_path, source_file=own)
    assert not imported.is_published
    assert imported.source_sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    assert files_in(tmp_path) == {imported.file.name, "checkpoint.json"}, "the old file is removed"
    again = checkpoints.pull(NAME, tmp_path, source_file=imported.file)
    assert checkpoints.specify(NAME, tmp_path).checkpoint == again.file, "safetensors serve too"


def test_a_local_file_of_another_network_is_refused(entry: CatalogueEntry, tmp_path: Path):
    torch.save({"model": {"weight": torch.zeros(3)}}, tmp_path / "other.pt")
    message = unavailable(tmp_path, source_file=tmp_path / "other.pt")
    assert "does not fit" in message
    assert files_in(tmp_path) == set()
    assert "missing.pt" in unavailable(tmp_path, source_file=tmp_path / "missing.pt")


def test_a_damaged_record_is_named(entry: CatalogueEntry, tmp_path: Path):
    (tmp_path / NAME).mkdir()
    for text in ("{", json.dumps({"file": "x"}), "[]"):
        (tmp_path / NAME / "checkpoint.json").write_text(text)
        with pytest.raises(MaskwireError, match=r"checkpoint\.json is damaged"):
            checkpoints.locate(NAME, tmp_path)


def test_specifying_says_what_is_missing(tmp_path: Path):
    assert checkpoints.specify("maskwire-nano", tmp_path).engine == "nano"
    with pytest.raises(MaskwireError, match=r"maskwire models pull sam2\.1-hiera-tiny"):
        checkpoints.specify("sam2.1-hiera-tiny", tmp_path)
    with pytest.raises(MaskwireError, match="not in the catalogue"):
        checkpoints.specify("mine", tmp_path)
    own = checkpoints.specify(
        "mine", tmp_path, engine="sam2", checkpoint=Path("w.pt"), config=Path("c.yaml")
    )
    assert (own.name, own.checkpoint, own.sha256) == ("mine", Path("w.pt"), None)


def test_there_is_nothing_to_pull_for_a_model_that_ships(tmp_path: Path):
    with pytest.raises(MaskwireError, match="nothing to pull") as caught:
        checkpoints.pull("maskwire-nano", tmp_path)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(MaskwireError) as caught:
        checkpoints.pull("sam9", tmp_path)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
