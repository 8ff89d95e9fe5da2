"""Checkpoints of several files: fetched from the model hub or copied, checked, put in their place.

What is fetched is what the hub's list of the repository has of the catalogue's patterns, at one
commit of it; large files must have the digest that the list gives. A folder gets its name last, so
that it is there whole or not at all. The record of which folder is in force is in `checkpoints`.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoSibling

from maskwire_server.domain.errors import ErrorCode, MaskwireError

from .catalogue import CatalogueEntry, PublishedFolder
from .pulling import ProgressListener, PullProgress, PullStage, bar_for
from .weights import verified_digest, verified_folder_digest

_PREFIX = "files-"
_UNAUTHENTICATED = 401
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class InstalledFolder:
    """A checkpoint in its place.

    Attributes:
        folder: Where its files are.
        sha256: Digest over its weight files in hexadecimal.
    """

    folder: Path
    sha256: str


def install(
    entry: CatalogueEntry,
    home: Path,
    source: Path | None,
    listener: ProgressListener,
    *,
    endpoint: str | None,
    token: str | None,
) -> InstalledFolder:
    """Fetch or copy a checkpoint's files into `home`, after a network has taken its weights.

    Args:
        entry: The model, whose checkpoint is a folder.
        home: Folder of the model; exists.
        source: Local folder to copy instead of fetching.
        listener: Told of the progress.
        endpoint: As `checkpoints.pull`.
        token: As `checkpoints.pull`.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` as `checkpoints.pull` says. What was fetched before a
            connection broke off is kept for the next call.
        OSError: `home` cannot be written.
    """
    published = entry.published_folder
    if published is None:
        raise TypeError(f"the checkpoint of {entry.name} is not a folder")
    if source is not None:
        return _placed(source, home, published, listener, keep=True)
    download = home / "download"
    _Download(entry.name, published, download, listener, endpoint, token).run()
    installed = _placed(download, home, published, listener, keep=False)
    shutil.rmtree(download, ignore_errors=True)
    return installed


def remove_others(home: Path, folder: Path) -> None:
    """Remove the checkpoints of a model but one."""
    for other in home.glob(f"{_PREFIX}*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _placed(
    source: Path,
    home: Path,
    published: PublishedFolder,
    listener: ProgressListener,
    *,
    keep: bool,
) -> InstalledFolder:
    digest = verified_folder_digest(source, None)
    files = [
        file
        for file in sorted(source.iterdir())
        if file.is_file() and _belongs(file.name, published)
    ]
    size = sum(file.stat().st_size for file in files)
    listener(PullProgress(PullStage.CONVERTING, 0, size))
    _refuse_misfit(source)
    target = home / f"{_PREFIX}{digest[:16]}"
    with tempfile.TemporaryDirectory(dir=home, prefix=".placing-") as temporary:
        for file in files:
            place = Path(temporary) / file.name
            _ = shutil.copyfile(file, place) if keep else shutil.move(file, place)
        shutil.rmtree(target, ignore_errors=True)
        whole = Path(temporary).rename(target)
        Path(temporary).mkdir()  # what the context removes
    whole.chmod(0o755)
    listener(PullProgress(PullStage.CONVERTING, size, size))
    return InstalledFolder(target, digest)


def _refuse_misfit(folder: Path) -> None:
    """Load the checkpoint once, so that a wrong one is refused now and not at serving.

    Only the SAM 3 engine has checkpoints of this form.
    """
    from .sam3.loading import load_parts  # seconds to import

    load_parts(folder)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether a file here could not be written; the client's errors of the hub have no number."""
    return isinstance(error, OSError) and (
        error.errno in _DISK_FULL or (error.errno is not None and error.filename is not None)
    )


def _belongs(name: str, published: PublishedFolder) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in published.patterns)


class _Download:
    """One fetching of a repository's files into a folder."""

    def __init__(
        self,
        name: str,
        published: PublishedFolder,
        folder: Path,
        listener: ProgressListener,
        endpoint: str | None,
        token: str | None,
    ) -> None:
        self._name = name
        self._published = published
        self._folder = folder
        self._listener = listener
        self._endpoint = endpoint
        self._token = (token or "").strip() or None  # files of secrets end in a line break
        self._source = f"{published.repository} on the model hub"

    def run(self) -> None:
        """Fetch every file and compare those that the list has a digest of."""
        commit, files = self._list()
        total = sum(file.size or 0 for file in files)
        done = 0
        for file in files:
            self._listener(PullProgress(PullStage.DOWNLOADING, done, total))
            self._fetch(file.rfilename, commit, total, done)
            done += file.size or 0
        self._listener(PullProgress(PullStage.VERIFYING, 0, total))
        for file in files:
            if file.lfs is not None:
                self._verify(self._folder / file.rfilename, file.lfs.sha256)
        self._remove_all_but({file.rfilename for file in files})

    def _remove_all_but(self, names: set[str]) -> None:
        """Remove what an earlier call fetched that broke off, when the hub had other files."""
        for file in self._folder.iterdir():
            if file.is_file() and file.name not in names:
                file.unlink()

    def _list(self) -> tuple[str, Sequence[RepoSibling]]:
        repository = self._published.repository
        api = HfApi(endpoint=self._endpoint, token=self._token)
        try:
            found = api.model_info(repository, files_metadata=True, timeout=10)
        except Exception as error:  # the client lets errors of its HTTP library through
            raise self._refused(error) from error
        files = [file for file in found.siblings or () if _belongs(file.rfilename, self._published)]
        if found.sha is None or not files:
            raise self._unavailable(f"{self._source} has no files of a checkpoint")
        return found.sha, files

    def _fetch(self, file: str, commit: str, total: int, done: int) -> None:
        try:
            hf_hub_download(
                self._published.repository,
                file,
                revision=commit,
                local_dir=self._folder,
                endpoint=self._endpoint,
                token=self._token,
                tqdm_class=cast(Any, bar_for(self._listener, total, done)),
            )
        except Exception as error:  # as above, and those of xet
            if _is_of_the_disk(error):
                raise
            raise self._refused(error) from error

    def _verify(self, file: Path, sha256: str) -> None:
        try:
            verified_digest(file, sha256)
        except MaskwireError:
            # Kept, it would be taken for a finished download by the next call.
            file.unlink(missing_ok=True)
            raise

    def _refused(self, error: Exception) -> MaskwireError:
        repository = self._published.repository
        if isinstance(error, GatedRepoError):
            if error.response.status_code == _UNAUTHENTICATED:
                return self._unavailable(
                    f"{self._source} is given only to people who accepted its licence, and there "
                    f"is no valid token: ask for access on the page of {repository}, make a token "
                    "that reads, and set MASKWIRE_MODELS__HUB_TOKEN"
                )
            return self._unavailable(
                f"{self._source} is not open to the token's owner yet: ask for access on the page "
                f"of {repository}, and run `maskwire models pull {self._name}` again once it is "
                "granted"
            )
        if isinstance(error, RepositoryNotFoundError):
            return self._unavailable(
                f"{self._source} does not exist, or the token is not valid: check "
                "MASKWIRE_MODELS__HUB_TOKEN"
            )
        return self._unavailable(
            f"{self._source} cannot be reached ({type(error).__name__}): check the connection and "
            "run the command again, which resumes what it began, or fetch the files elsewhere and "
            f"run `maskwire models pull {self._name} --from FOLDER`"
        )

    def _unavailable(self, message: str) -> MaskwireError:
        return MaskwireError(ErrorCode.MODEL_UNAVAILABLE, message, resource=self._name)
