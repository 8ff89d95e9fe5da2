"""Where a reconstruction's files go on this machine, and which of their bytes are there already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ._file_messages import Download, partial_path
from .errors import DataLoss
from .reconstruction import Artifact, ArtifactKind
from .results import StoredFile


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file to fetch, and the path where it is to lie."""

    file: StoredFile
    path: Path

    @property
    def part(self) -> Path:
        """Where its bytes are until all of them are there."""
        return partial_path(self.path)[1]

    def is_there(self) -> bool:
        """Whether the file lies there already, with the right digest."""
        return (
            self.path.is_file()
            and self.path.stat().st_size == self.file.size_bytes
            and _digest(self.path) == self.file.digest
        )

    def open(self) -> PartialFile:
        """Open the part of an earlier attempt, to go on with it, or an empty one.

        Raises:
            OSError: It cannot be written.
        """
        held = self.part.stat().st_size if self.part.is_file() else 0
        return PartialFile(self, keep=0 < held < self.file.size_bytes)


class PartialFile:
    """A file in the middle of its download.

    Args:
        target: What it is to be.
        keep: Whether to go on with the bytes that are there.

    Attributes:
        download: What is still to come.
        is_resumed: Whether bytes of an earlier attempt are part of it.
    """

    def __init__(self, target: ArtifactFile, *, keep: bool) -> None:
        self.is_resumed = keep
        self._target = target
        self._sink = target.part.open("r+b" if keep else "wb")
        self.download = Download(self._sink)
        if keep:
            self.download.resume(self._sink)

    def close(self) -> None:
        """Leave the bytes that came for the next attempt."""
        self._sink.close()

    def complete(self, described: StoredFile) -> None:
        """Put the file in its place.

        Args:
            described: The file, as the server described it with the bytes.

        Raises:
            DataLoss: It is not the file that the result named.
            OSError: It cannot be put there.
        """
        self._sink.close()
        if described.digest != self._target.file.digest:
            self.discard()
            raise DataLoss(
                f"{described.name} is not the file that the result names", status="DATA_LOSS"
            )
        self._target.part.replace(self._target.path)

    def discard(self) -> None:
        """Remove what is not what it should be."""
        self._sink.close()
        self._target.part.unlink(missing_ok=True)


def artifact_files(
    artifacts: Sequence[Artifact],
    directory: str | os.PathLike[str],
    kinds: Collection[ArtifactKind] | None,
) -> list[ArtifactFile]:
    """Return where artifacts go: in one folder, which is made, under names that differ.

    Args:
        artifacts: The files.
        directory: The folder.
        kinds: Which kinds; None for all.

    Raises:
        OSError: The folder cannot be made.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in artifacts if kinds is None or one.kind in kinds]
    names: set[str] = set()
    files = []
    for artifact in chosen:
        name = _free_name(_name(artifact), names)
        names.add(name)
        files.append(ArtifactFile(artifact.file, folder / name))
    return files


def _name(artifact: Artifact) -> str:
    """Return the last part of the name that the server suggests; nothing leaves the folder."""
    suggested = Path(artifact.file.file_name.replace("\\", "/")).name
    number = "" if artifact.index is None else f"-{artifact.index}"
    return suggested.strip(". ") or f"{artifact.kind.value}{number}"


def _free_name(name: str, taken: Collection[str]) -> str:
    path, number, free = Path(name), 1, name
    while free in taken:
        number += 1
        free = f"{path.stem}-{number}{path.suffix}"
    return free


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
