"""All the files of a result, made one after the other."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..engine import BodyModel, ReconstructedScene
from ..requests import ArtifactKind
from .glb import GLB_TYPE, scene_to_glb
from .metadata import FileEntry, ResultDetails, body_metadata, object_metadata
from .ply import PLY_TYPE, merge_splats, place_splats, splats_to_ply
from .scene import PlacedMesh, body_meshes, object_meshes, object_name, unplaced
from .turntable import PNG_TYPE, turntable_png

__all__ = ["ArtifactFile", "ResultDetails", "body_artifacts", "object_artifacts"]

ARCHIVE_TYPE = "application/zip"
METADATA_TYPE = "application/json"

_ARCHIVE_NAME = "reconstruction.zip"
_ARCHIVE_MEMORY_BYTES = 16 * 2**20  # of an archive in the making; the rest lies in a file
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP knows, so that no clock changes the bytes


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of a result.

    Attributes:
        kind: What it is.
        index: Which object or person it shows; None for the scene.
        file_name: Name without folders, unique in the result.
        content_type: Media type.
        data: The bytes.
    """

    kind: ArtifactKind
    index: int | None
    file_name: str
    content_type: str
    data: bytes


def object_artifacts(scene: ReconstructedScene, details: ResultDetails) -> Iterator[ArtifactFile]:
    """Yield the files of reconstructed objects: of the scene, then of each object, then the
    turntable, the metadata, which lists all before it, and the archive of all.

    Each file is made when it is asked for, and only the archive lies in memory with nothing else.

    Args:
        scene: What the engine made.
        details: What else to tell, with a box for each object.

    Raises:
        ValueError: A vertex, a splat or a pose is not finite.
    """
    return _with_archive(_object_files(scene, details))


def body_artifacts(bodies: Sequence[BodyModel], details: ResultDetails) -> Iterator[ArtifactFile]:
    """Yield the files of reconstructed people, as `object_artifacts` and without splats.

    Args:
        bodies: The people; where there are none, the scene is empty.
        details: What else to tell.
    """
    return _with_archive(_body_files(bodies, details))


def _object_files(scene: ReconstructedScene, details: ResultDetails) -> Iterator[ArtifactFile]:
    listed = _Listing()
    merged = merge_splats([place_splats(one.splats, one.pose) for one in scene.objects])
    yield listed.add(
        ArtifactFile(ArtifactKind.SCENE_SPLATS, None, "scene.ply", PLY_TYPE, splats_to_ply(merged))
    )
    del merged
    placed = object_meshes(scene)
    yield listed.add(_scene_mesh(placed))
    for index, one in enumerate(scene.objects):
        name = object_name(index)
        yield listed.add(
            ArtifactFile(
                ArtifactKind.OBJECT_SPLATS,
                index,
                f"{name}.ply",
                PLY_TYPE,
                splats_to_ply(one.splats),
            )
        )
        yield listed.add(_object_mesh(index, unplaced(one.mesh, name)))
    yield listed.add(_turntable(placed))
    yield _metadata(object_metadata(scene, details, listed.entries))


def _body_files(bodies: Sequence[BodyModel], details: ResultDetails) -> Iterator[ArtifactFile]:
    listed = _Listing()
    placed = body_meshes(bodies)
    yield listed.add(_scene_mesh(placed))
    for index, mesh in enumerate(placed):
        yield listed.add(_object_mesh(index, mesh))
    yield listed.add(_turntable(placed))
    yield _metadata(body_metadata(bodies, details, listed.entries))


def _scene_mesh(placed: Sequence[PlacedMesh]) -> ArtifactFile:
    return ArtifactFile(ArtifactKind.SCENE_MESH, None, "scene.glb", GLB_TYPE, scene_to_glb(placed))


def _object_mesh(index: int, placed: PlacedMesh) -> ArtifactFile:
    return ArtifactFile(
        ArtifactKind.OBJECT_MESH, index, f"{placed.name}.glb", GLB_TYPE, scene_to_glb([placed])
    )


def _turntable(placed: Sequence[PlacedMesh]) -> ArtifactFile:
    return ArtifactFile(
        ArtifactKind.TURNTABLE, None, "turntable.png", PNG_TYPE, turntable_png(placed)
    )


def _metadata(data: bytes) -> ArtifactFile:
    return ArtifactFile(ArtifactKind.METADATA, None, "metadata.json", METADATA_TYPE, data)


class _Listing:
    """The files so far, as the metadata lists them."""

    def __init__(self) -> None:
        self.entries: list[FileEntry] = []

    def add(self, file: ArtifactFile) -> ArtifactFile:
        self.entries.append(
            FileEntry(
                file_name=file.file_name,
                kind=file.kind,
                index=file.index,
                content_type=file.content_type,
                size_bytes=len(file.data),
                sha256=hashlib.sha256(file.data).hexdigest(),
            )
        )
        return file


def _with_archive(files: Iterable[ArtifactFile]) -> Iterator[ArtifactFile]:
    """Pass files on and end with a ZIP of them, which grows on disk meanwhile."""
    with tempfile.SpooledTemporaryFile(max_size=_ARCHIVE_MEMORY_BYTES) as spool:
        with zipfile.ZipFile(spool, "w") as archive:
            for file in files:
                _write(archive, file)
                yield file
                del file
        spool.seek(0)
        data = spool.read()
    yield ArtifactFile(ArtifactKind.ARCHIVE, None, _ARCHIVE_NAME, ARCHIVE_TYPE, data)


def _write(archive: zipfile.ZipFile, file: ArtifactFile) -> None:
    entry = zipfile.ZipInfo(file.file_name, date_time=_EPOCH)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, whatever this runs on
    # Pictures are compressed already; binary floats shrink little for the time it takes.
    is_text = file.content_type == METADATA_TYPE
    entry.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
    archive.writestr(entry, file.data)
