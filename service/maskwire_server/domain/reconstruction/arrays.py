"""Reading of untrusted NPY and NPZ files: one plain array of floats whose shape is known before.

Nothing is allocated for what a file merely claims. The shape that its header declares must be the
expected one, which bounds all memory; only then are the values read, through a cap. NumPy's own
reader evaluates the header as a Python literal, unpickles where it is allowed to, and NpzFile reads
members whole, whatever they unpack to; so the few bytes of headers are read here.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..errors import MaskwireError, invalid_field, too_large

ZIP_SIGNATURE = b"PK\x03\x04"
"""How an NPZ file begins."""

NPY_SIGNATURE = b"\x93NUMPY"
"""How an NPY file begins."""

_MAX_HEADER_BYTES = 4096  # a plain array's takes 118
_MAX_DIRECTORY_BYTES = 4096  # one member's entry takes about 60
_END_OF_DIRECTORY = struct.Struct("<4sHHHHIIH")
_END_SIGNATURE = b"PK\x05\x06"
_ZIP64_LOCATOR_SIGNATURE, _ZIP64_LOCATOR_BYTES = b"PK\x06\x07", 20
_ENCRYPTED = 1
_CHUNK_BYTES = 1 << 20

_VALUE = rb"""("[^"']*"|'[^"']*'|True|False|\((?:\s*\d{1,19}L?\s*,)*(?:\s*\d{1,19}L?)?\s*\))"""
_ITEM = rb"""\s*["'](descr|fortran_order|shape)["']\s*:\s*""" + _VALUE + rb"\s*"
_HEADER = re.compile(rb"\{" + _ITEM + rb"," + _ITEM + rb"," + _ITEM + rb",?\s*\}\s*")
_DTYPES: dict[bytes, np.dtype[np.floating]] = {
    b"<f4": np.dtype("<f4"),
    b">f4": np.dtype(">f4"),
    b"=f4": np.dtype("=f4"),
    b"<f8": np.dtype("<f8"),
    b">f8": np.dtype(">f8"),
    b"=f8": np.dtype("=f8"),
}


def read_array(
    data: bytes, shape: tuple[int, ...], field: str, max_bytes: int
) -> NDArray[np.floating]:
    """Read the one array of an NPY or NPZ file.

    Args:
        data: The file.
        shape: The only shape that is accepted.
        field: Path of the bytes in the request, for errors.
        max_bytes: Most bytes of the file and of the array's values.

    Returns:
        The shape given; float32 or float64 of either byte order, maybe read-only.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` where the file is neither, malformed, cut off or followed
            by more, has another shape, or holds anything but float32 and float64;
            `PAYLOAD_TOO_LARGE` past `max_bytes`.
    """
    if len(data) > max_bytes:
        raise too_large(field, f"{len(data)} bytes exceed the limit of {max_bytes}")
    if data.startswith(NPY_SIGNATURE):
        return _read_npy(_Source(io.BytesIO(data), field), shape, max_bytes)
    if data.startswith(ZIP_SIGNATURE):
        return _read_npz(data, shape, field, max_bytes)
    raise invalid_field(field, "must be an NPY file, or an NPZ file of one array")


class _Source:
    """Reads a file piece by piece; whatever its reader trips over is the file's fault."""

    def __init__(self, stream: IO[bytes], field: str) -> None:
        self._stream = stream
        self.field = field

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` where fewer are left.
        """
        taken = self._read(count)
        if len(taken) < count:
            raise self.refuse("must be complete: it is cut off")
        return taken

    def fill(self, target: memoryview) -> None:
        """Fill a buffer with the next bytes, a chunk at a time; errors as `take`."""
        for start in range(0, len(target), _CHUNK_BYTES):
            piece = target[start : start + _CHUNK_BYTES]
            piece[:] = self.take(len(piece))

    def check_end(self) -> None:
        """Refuse what has bytes left; at its end a zip's member also checks its checksum."""
        if self._read(1):
            raise self.refuse("must end with its array: bytes follow it")

    def refuse(self, rule: str) -> MaskwireError:
        """Make the error for a broken rule."""
        return invalid_field(self.field, rule)

    def _read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except MemoryError:
            raise
        except Exception as error:  # zlib.error, BadZipFile, EOFError and others
            raise self.refuse("must be a well-formed NPZ file") from error


def _read_npy(source: _Source, shape: tuple[int, ...], max_bytes: int) -> NDArray[np.floating]:
    dtype, is_fortran = _read_header(source, shape)
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes > max_bytes:
        raise too_large(
            source.field, f"{size_bytes} bytes of values exceed the limit of {max_bytes}"
        )
    values = np.empty(math.prod(shape), dtype)
    source.fill(values.view(np.uint8).data)
    source.check_end()
    return values.reshape(shape, order="F" if is_fortran else "C")


def _read_header(source: _Source, shape: tuple[int, ...]) -> tuple[np.dtype[np.floating], bool]:
    """Return the type of the values and whether their first index runs fastest."""
    magic = source.take(8)
    version = (magic[6], magic[7])
    if not magic.startswith(NPY_SIGNATURE) or version not in ((1, 0), (2, 0)):
        raise source.refuse("must be an NPY file of version 1.0 or 2.0")
    length_format = "<H" if version == (1, 0) else "<I"
    (length,) = struct.unpack(length_format, source.take(struct.calcsize(length_format)))
    if length > _MAX_HEADER_BYTES:
        raise source.refuse(f"must have an NPY header of at most {_MAX_HEADER_BYTES} bytes")
    match = _HEADER.fullmatch(source.take(length))
    entries = dict(zip(match.groups()[::2], match.groups()[1::2], strict=True)) if match else {}
    if len(entries) != 3:
        raise source.refuse("must have a well-formed NPY header of one plain array")
    dtype = _DTYPES.get(entries[b"descr"][1:-1])
    if dtype is None:
        raise source.refuse("must hold float32 or float64 values")
    if entries[b"fortran_order"] not in (b"True", b"False"):
        raise source.refuse("must have an NPY header whose fortran_order is True or False")
    declared = tuple(int(number) for number in re.findall(rb"\d+", entries[b"shape"]))
    if declared != shape or not entries[b"shape"].startswith(b"("):
        raise source.refuse(f"must have the shape {shape}, as the image has")
    return dtype, entries[b"fortran_order"] == b"True"


def _read_npz(
    data: bytes, shape: tuple[int, ...], field: str, max_bytes: int
) -> NDArray[np.floating]:
    directory_start = _check_directory(data, field)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (member,) = archive.infolist()
            _check_member(member, directory_start, shape, field)
            with archive.open(member) as stream:
                return _read_npy(_Source(stream, field), shape, max_bytes)
    except (MaskwireError, MemoryError):
        raise
    except Exception as error:  # BadZipFile, NotImplementedError, struct.error and others
        raise invalid_field(field, "must be a well-formed NPZ file") from error


def _check_directory(data: bytes, field: str) -> int:
    """Refuse archives whose directory is not small, last and plain, before anything parses it.

    Returns:
        Where the directory begins.
    """
    end = len(data) - _END_OF_DIRECTORY.size
    if end < 0:
        raise invalid_field(field, "must be complete: it is cut off")
    signature, *numbers, comment_length = _END_OF_DIRECTORY.unpack_from(data, end)
    disk, first_disk, here, count, size_bytes, offset = numbers
    if signature != _END_SIGNATURE or comment_length:
        raise invalid_field(field, "must be a complete NPZ file, without a comment after it")
    locator = data[max(0, end - _ZIP64_LOCATOR_BYTES) : end]
    if locator.startswith(_ZIP64_LOCATOR_SIGNATURE):
        raise invalid_field(field, "must be an NPZ file without a ZIP64 directory")
    if (disk, first_disk, here, count) != (0, 0, 1, 1):
        raise invalid_field(field, f"must be an NPZ file of exactly one array; it has {count}")
    if size_bytes > _MAX_DIRECTORY_BYTES or offset + size_bytes != end:
        raise invalid_field(field, "must be a well-formed NPZ file")
    return int(offset)


def _check_member(
    member: zipfile.ZipInfo, directory_start: int, shape: tuple[int, ...], field: str
) -> None:
    """Refuse what cannot be the array, by what the directory says; that may still be a lie."""
    if member.flag_bits & _ENCRYPTED:
        raise invalid_field(field, "must be an NPZ file without encryption")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise invalid_field(field, "must be an NPZ file, stored or deflated")
    if member.header_offset or member.compress_size > directory_start:
        raise invalid_field(field, "must be a well-formed NPZ file")
    most = math.prod(shape) * np.dtype(np.float64).itemsize + 2 * _MAX_HEADER_BYTES
    if member.file_size > most:
        raise invalid_field(
            field, f"must unpack to an array of the shape {shape}, not to {member.file_size} bytes"
        )
