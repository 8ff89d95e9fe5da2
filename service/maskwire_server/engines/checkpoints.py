"""The folder of checkpoints: fetching published ones, importing local files, finding them again.

Layout: `<folder>/<model name>/` holds `weights-<16 hex>.safetensors`, named by the digest of the
file that it was converted from, and `checkpoint.json`, which names the weights in force with their
digest. A checkpoint of several files is a folder `files-<16 hex>` instead (`folder_checkpoints`).
The manifest is replaced last and atomically, so a reader sees the old pair or the new one.
What catalogue names mean is in `catalogue`; reading weights into a network is the engines' part.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.errors import ErrorCode, MaskwireError

from . import catalogue, folder_checkpoints
from .catalogue import CatalogueEntry, PublishedCheckpoint
from .pulling import ProgressListener as ProgressListener
from .pulling import PullProgress as PullProgress
from .pulling import PullStage as PullStage
from .pulling import bar_for
from .weights import State, read_state, replace_durably, verified_digest, write_state

_MANIFEST = "checkpoint.json"


@dataclass(frozen=True, slots=True)
class InstalledCheckpoint:
    """Weights in the folder, ready to load.

    Attributes:
        name: Model name in the catalogue.
        file: The weights as safetensors, or the folder that has them with what belongs to them.
        sha256: Digest of the weights in hexadecimal, taken when they were written.
        source_sha256: Digest of the file that they were converted from.
        is_published: Whether that was the published file of the catalogue; False for own weights.
    """

    name: str
    file: Path
    sha256: str
    source_sha256: str
    is_published: bool

    @property
    def size_bytes(self) -> int:
        """Size of the file, or of the folder's files."""
        files = self.file.iterdir() if self.file.is_dir() else (self.file,)
        return sum(file.stat().st_size for file in files)


def locate(name: str, folder: Path) -> InstalledCheckpoint | None:
    """Return the checkpoint of a model in a folder, or None where there is none.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where the folder's record of it is damaged.
    """
    manifest = folder / name / _MANIFEST
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        return InstalledCheckpoint(
            name=name,
            file=folder / name / str(record["file"]),
            sha256=str(record["sha256"]),
            source_sha256=str(record["source_sha256"]),
            is_published=bool(record["is_published"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unavailable(
            f"{manifest} is damaged: run `maskwire models pull {name}` again", name
        ) from error


def installed(folder: Path) -> tuple[InstalledCheckpoint, ...]:
    """Return the checkpoints of catalogue models in a folder, in the catalogue's order."""
    found = (locate(entry.name, folder) for entry in catalogue.entries())
    return tuple(checkpoint for checkpoint in found if checkpoint is not None)


def specify(
    name: str,
    folder: Path,
    *,
    engine: str | None = None,
    checkpoint: Path | None = None,
    config: Path | None = None,
    sha256: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> ModelSpecification:
    """Return what to load for a model: what is given, completed from the catalogue and the folder.

    Args:
        name: Model name; one of the catalogue implies the engine and, once pulled, the checkpoint.
        folder: The folder of checkpoints.
        engine: Engine that loads it; needed where the catalogue lacks the name.
        checkpoint: File with the weights, instead of the one in the folder.
        config: File with the architecture, instead of the one that the name implies.
        sha256: Digest that the given checkpoint must have; one from the folder has its own.
        device: As `ModelSpecification.device`.
        precision: As `ModelSpecification.precision`.

    Raises:
        MaskwireError: `MODEL_NOT_FOUND` where the catalogue lacks the name and no engine is given;
            `MODEL_UNAVAILABLE` where the weights have not been pulled.
    """
    entry = catalogue.find(name) if engine is not None else catalogue.require(name)
    if checkpoint is None and entry is not None and entry.is_pulled:
        installed_here = locate(name, folder)
        if installed_here is None:
            raise _unavailable(
                f"the weights of {name} are not in {folder}: run `maskwire models pull {name}`",
                name,
            )
        checkpoint, sha256 = installed_here.file, installed_here.sha256
    return ModelSpecification(
        name=name,
        engine=engine if engine is not None else catalogue.require(name).engine,
        checkpoint=checkpoint,
        config=config,
        device=device,
        precision=precision,
        sha256=sha256,
    )


def pull(
    name: str,
    folder: Path,
    *,
    source_file: Path | None = None,
    progress: ProgressListener | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> InstalledCheckpoint:
    """Fetch a model's published weights, check them and install them in a folder.

    Blocks for as long as it takes; safe to repeat, and to run in several processes at once. A
    download that broke off is resumed by the next call.

    Args:
        name: Model name in the catalogue.
        folder: The folder of checkpoints; made where absent.
        source_file: Local file to install instead of fetching: torch's `{"model": state_dict}` or
            safetensors. It need not be the published one (`is_published` tells), but its tensors
            must fit the architecture. For a checkpoint of several files: their folder.
        progress: Called from this thread, or from the hub client's, as bytes are done.
        endpoint: Base address of the model hub; None for the hub client's own default.
        token: For a model whose licence the hub wants accepted; None for the hub's own login.

    Raises:
        MaskwireError: `MODEL_NOT_FOUND` where the catalogue lacks the name; `INVALID_ARGUMENT`
            where the model ships with Maskwire; `MODEL_UNAVAILABLE` where the hub cannot be
            reached or lacks the file, where the digest is not the expected one, where the tensors
            do not fit, or where the folder cannot be written. Nothing that was installed before is
            touched then.
    """
    entry = catalogue.require(name)
    listener = progress or (lambda _: None)
    home = folder / name
    with _writing_to(home, name):
        if entry.published_folder is not None:
            return _pull_folder(entry, home, source_file, listener, endpoint, token)
        if entry.published is None:
            raise MaskwireError(
                ErrorCode.INVALID_ARGUMENT, f"{name} ships with Maskwire: there is nothing to pull"
            )
        return _pull_file(entry, entry.published, home, source_file, listener, endpoint)


@contextmanager
def _writing_to(home: Path, name: str) -> Iterator[None]:
    """Report a disk that is full or may not be written as such."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _unavailable(f"{home} cannot be written: {reason}", name) from error


def _pull_file(
    entry: CatalogueEntry,
    published: PublishedCheckpoint,
    home: Path,
    source: Path | None,
    listener: ProgressListener,
    endpoint: str | None,
) -> InstalledCheckpoint:
    home.mkdir(parents=True, exist_ok=True)
    if source is not None:
        return _install(entry, published, home, source, verified_digest(source, None), listener)
    download_folder = home / "download"
    fetched = _download(entry.name, published, download_folder, listener, endpoint)
    listener(PullProgress(PullStage.VERIFYING, 0, published.size_bytes))
    try:
        digest = verified_digest(fetched, published.sha256)
    except MaskwireError:
        # Kept, it would be taken for a finished download by the next call.
        shutil.rmtree(download_folder, ignore_errors=True)
        raise
    checkpoint = _install(entry, published, home, fetched, digest, listener)
    shutil.rmtree(download_folder, ignore_errors=True)
    return checkpoint


def _pull_folder(
    entry: CatalogueEntry,
    home: Path,
    source: Path | None,
    listener: ProgressListener,
    endpoint: str | None,
    token: str | None,
) -> InstalledCheckpoint:
    home.mkdir(parents=True, exist_ok=True)
    installed_folder = folder_checkpoints.install(
        entry, home, source, listener, endpoint=endpoint, token=token
    )
    checkpoint = InstalledCheckpoint(
        name=entry.name,
        file=installed_folder.folder,
        sha256=installed_folder.sha256,
        source_sha256=installed_folder.sha256,
        is_published=source is None,
    )
    _write_manifest(home, checkpoint)
    folder_checkpoints.remove_others(home, installed_folder.folder)
    return checkpoint


def _install(
    entry: CatalogueEntry,
    published: PublishedCheckpoint,
    home: Path,
    source: Path,
    source_sha256: str,
    listener: ProgressListener,
) -> InstalledCheckpoint:
    size = source.stat().st_size
    listener(PullProgress(PullStage.CONVERTING, 0, size))
    state = read_state(source)
    _refuse_misfit(entry, state, source)
    file = home / f"weights-{source_sha256[:16]}.safetensors"
    metadata = {"model": entry.name, "architecture": entry.name, "source_sha256": source_sha256}
    write_state(file, state, json.dumps(metadata, sort_keys=True))
    checkpoint = InstalledCheckpoint(
        name=entry.name,
        file=file,
        sha256=verified_digest(file, None),
        source_sha256=source_sha256,
        is_published=source_sha256 == published.sha256,
    )
    _write_manifest(home, checkpoint)
    for other in home.glob("weights-*.safetensors"):
        if other != file:
            other.unlink(missing_ok=True)
    listener(PullProgress(PullStage.CONVERTING, size, size))
    return checkpoint


def _refuse_misfit(entry: CatalogueEntry, state: State, source: Path) -> None:
    """Fit the weights into a network once, so that a wrong file is refused now and not at serving.

    Only the SAM 2 engine has published checkpoints of this form.
    """
    from .sam2.loading import build_network, load_weights, packaged_config  # seconds to import

    load_weights(build_network(packaged_config(entry.config)), state, source)


def _write_manifest(home: Path, checkpoint: InstalledCheckpoint) -> None:
    record = {
        "file": checkpoint.file.name,
        "sha256": checkpoint.sha256,
        "source_sha256": checkpoint.source_sha256,
        "is_published": checkpoint.is_published,
    }
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=home, prefix=".writing-", delete=False
    ) as stream:
        json.dump(record, stream, indent=2)
    replace_durably(Path(stream.name), home / _MANIFEST)


def _download(
    name: str,
    published: PublishedCheckpoint,
    folder: Path,
    listener: ProgressListener,
    endpoint: str | None,
) -> Path:
    source = f"{published.repository}/{published.filename} on the model hub"
    _require_on_hub(name, source, published, endpoint)
    listener(PullProgress(PullStage.DOWNLOADING, 0, published.size_bytes))
    try:
        file = hf_hub_download(
            published.repository,
            published.filename,
            local_dir=folder,
            endpoint=endpoint,
            tqdm_class=cast(Any, bar_for(listener, published.size_bytes)),
        )
    except Exception as error:  # the client lets errors of its HTTP library and of xet through
        raise _unavailable(
            f"the download of {source} failed ({type(error).__name__}: {error}); "
            "run the command again to resume it",
            name,
        ) from error
    return Path(file)


def _require_on_hub(
    name: str, source: str, published: PublishedCheckpoint, endpoint: str | None
) -> None:
    """Ask the hub for the file once, because downloading would retry for half a minute offline."""
    try:
        get_hf_file_metadata(
            hf_hub_url(published.repository, published.filename, endpoint=endpoint),
            endpoint=endpoint,
        )
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise _unavailable(f"{source} does not exist or is not open to you", name) from error
    except Exception as error:  # the client lets errors of its HTTP library through
        raise _unavailable(
            f"{source} cannot be reached: check the connection, or fetch the file elsewhere and "
            f"run `maskwire models pull {name} --from FILE`",
            name,
        ) from error


def _unavailable(message: str, name: str) -> MaskwireError:
    return MaskwireError(ErrorCode.MODEL_UNAVAILABLE, message, resource=name)
