"""Hostile point maps: each is refused by a rule that is named, and memory stays flat."""

from __future__ import annotations

import functools
import io
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.point_maps import read_point_map

SIZE = ImageSize(width_px=7, height_px=5)
LIMIT = 1_000_000


def some_points(dtype=np.float32):
    return np.random.default_rng(4).random((5, 7, 3)).astype(dtype) + 1


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def with_header(header: bytes, payload: bytes = b"\0" * 420, version=(1, 0)) -> bytes:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + payload


def header(descr="'<f4'", order="False", shape="(5, 7, 3)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


def archive(members, compression=zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as target:
        for name, content in members:
            target.writestr(name, content)
    return stream.getvalue()


def refusal(data, size=SIZE, limit=LIMIT) -> MaskwireError:
    with pytest.raises(MaskwireError) as caught:
        read_point_map(data, size, "point_map.data", limit)
    assert caught.value.violations[0].field == "point_map.data"
    return caught.value


def assert_refused(data, *words):
    error = refusal(data)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    for word in words:
        assert word in error.message


def test_a_well_formed_header_of_these_helpers_is_read():
    points = some_points()
    found = read_point_map(with_header(header(), points.tobytes()), SIZE, "f", LIMIT)
    np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"shape": "(1000000, 1000000, 1)"}, "shape (5, 7, 3)"),
        ({"shape": "(5, 7)"}, "shape (5, 7, 3)"),
        ({"shape": "(5, 7, 3, 1)"}, "shape (5, 7, 3)"),
        ({"shape": "(7, 5, 3)"}, "shape (5, 7, 3)"),
        ({"shape": "()"}, "shape (5, 7, 3)"),
        ({"shape": "(9999999999999999999, 9999999999999999999, 3)"}, "shape"),
        ({"shape": "(-5, 7, 3)"}, "well-formed NPY header"),
        ({"shape": "(5.0, 7, 3)"}, "well-formed NPY header"),
        ({"shape": "'(5, 7, 3)'"}, "shape"),
        ({"shape": "True"}, "shape"),
        ({"shape": "105"}, "well-formed NPY header"),
        ({"descr": "'|O'"}, "float32 or float64"),
        ({"descr": "'<c8'"}, "float32 or float64"),
        ({"descr": "'<f2'"}, "float32 or float64"),
        ({"descr": "'<i4'"}, "float32 or float64"),
        ({"descr": "'|S4'"}, "float32 or float64"),
        ({"descr": "'<U1'"}, "float32 or float64"),
        ({"descr": "'<M8[s]'"}, "float32 or float64"),
        ({"descr": "[('x', '<f4')]"}, "well-formed NPY header"),
        ({"descr": "('<f4', (3,))"}, "well-formed NPY header"),
        ({"descr": "True"}, "float32 or float64"),
        ({"order": "1"}, "well-formed NPY header"),
        ({"order": "'False'"}, "fortran_order"),
        ({"descr": "__import__('os')"}, "well-formed NPY header"),
    ],
    ids=str,
)
def test_headers_of_anything_else_are_refused(changes, word):
    assert_refused(with_header(header(**changes)), word)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"{'descr': '<f4'}",
        b"{'descr': '<f4', 'descr': '<f4', 'shape': (5, 7, 3)}",
        header()[:-2] + b", 'more': 1}",
        b"[" * 3000,
        b"{'descr': '\xff', 'fortran_order': False, 'shape': (5, 7, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (\uff15, 7, 3)}".encode(),
        header() + b"{",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"5, " * 1300 + b")}",
    ],
    ids=range(10),
)
def test_malformed_headers_are_refused(text):
    assert_refused(with_header(text))


def test_a_header_beyond_the_limit_is_refused_before_it_is_read():
    assert_refused(with_header(header() + b" " * 5000), "at most 4096 bytes")
    assert_refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + header(), "at most 4096 bytes")


@pytest.mark.parametrize("version", [(0, 0), (3, 0), (1, 1), (255, 255)])
def test_other_versions_are_refused(version):
    assert_refused(with_header(header(), version=version), "version 1.0 or 2.0")


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMP", b"PK", b"PK\x03\x04", b"x" * 500, pickle.dumps([1, 2])], ids=range(6)
)
def test_other_files_are_refused(data):
    assert_refused(data)


def test_pickled_objects_are_refused_without_being_loaded():
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    trapped = np.empty((5, 7, 3), dtype=object)
    trapped[:] = Trap()
    data = npy(trapped, allow_pickle=True)
    assert_refused(data, "float32 or float64")
    assert_refused(archive([("a.npy", data)]), "float32 or float64")


def test_every_cut_and_anything_behind_the_array_is_refused():
    points = some_points()
    for whole in (npy(points), archive([("a.npy", npy(points))])):
        read_point_map(whole, SIZE, "f", LIMIT)
        for length in range(len(whole)):
            assert_refused(whole[:length])
        assert_refused(whole + b"\0")
    assert_refused(npy(points) + npy(points), "bytes follow")
    assert_refused(archive([("a.npy", npy(points) + b"\0")]), "bytes follow")


def test_sizes_beyond_the_limit_are_too_large():
    data = npy(some_points())
    values = 5 * 7 * 3 * 4
    assert refusal(data, limit=len(data) - 1).code is ErrorCode.PAYLOAD_TOO_LARGE
    packed = archive([("a.npy", npy(np.ones((5, 7, 3), np.float32)))])
    assert len(packed) < values
    assert refusal(packed, limit=values - 1).code is ErrorCode.PAYLOAD_TOO_LARGE
    read_point_map(packed, SIZE, "f", values)


def test_archives_of_anything_but_one_array_are_refused():
    data = npy(some_points())
    assert_refused(archive([]))
    assert_refused(archive([("a.npy", data), ("b.npy", data)]), "exactly one", "2")
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive([("a.npy", data), ("a.npy", data)])
    assert_refused(twice, "exactly one")
    assert_refused(archive([("a.npz", archive([("a.npy", data)]))]), "NPY file")
    assert_refused(archive([("a.npy", data)], zipfile.ZIP_BZIP2), "stored or deflated")
    assert_refused(archive([("a.npy", data)], zipfile.ZIP_LZMA), "stored or deflated")
    # The name is never used as a path.
    read_point_map(archive([("../../etc/passwd", data)]), SIZE, "f", LIMIT)


def one_member(**changes) -> bytes:
    """Return an archive of one array with some fields of its two headers changed."""
    data = bytearray(archive([("a.npy", npy(some_points()))]))
    directory = data.rindex(b"PK\x01\x02")
    for (place, offset), value in changes.get("patches", {}).items():
        start = {"local": 0, "directory": directory, "end": len(data) - 22}[place] + offset
        data[start : start + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("patches", "word"),
    [
        ({("directory", 8): b"\x01\x00"}, "encryption"),
        ({("directory", 8): b"\x40\x00"}, "well-formed"),
        ({("directory", 10): b"\x63\x00"}, "stored or deflated"),
        ({("directory", 24): b"\xff\xff\xff\x7f"}, "must unpack to an array"),
        ({("directory", 24): b"\xff\xff\xff\xff"}, "must unpack to an array"),
        ({("directory", 24): b"\x10\x00\x00\x00"}, ""),
        ({("directory", 20): b"\xff\xff\xff\x7f"}, ""),
        ({("directory", 16): b"\0\0\0\0"}, "well-formed"),
        ({("directory", 42): b"\xff\xff\xff\x7f"}, "well-formed"),
        ({("directory", 46): b"b"}, "well-formed"),
        ({("local", 0): b"PK\x03\x05"}, "NPY file"),
        ({("local", 26): b"\xff\xff"}, "well-formed"),
        ({("end", 8): b"\x02\x00\x02\x00"}, "exactly one"),
        ({("end", 8): b"\xff\xff\xff\xff"}, "exactly one"),
        ({("end", 12): b"\xff\xff\xff\xff"}, "well-formed"),
        ({("end", 16): b"\xff\xff\xff\xff"}, "well-formed"),
        ({("end", 20): b"\x01\x00"}, "without a comment"),
    ],
    ids=str,
)
def test_archives_that_lie_about_themselves_are_refused(patches, word):
    assert_refused(one_member(patches=patches), word)


def test_a_zip64_directory_is_refused():
    data = one_member()
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    assert_refused(data[:-22] + locator + data[-22:], "ZIP64")


def peak_of(data, size=SIZE, limit=LIMIT) -> tuple[MaskwireError, int]:
    tracemalloc.start()
    try:
        error = refusal(data, size, limit)
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@functools.cache
def packed_zeros() -> bytes:
    """Return an array's header and 500 MB of zeros, deflated to 490 kB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [compressor.compress(with_header(header(), b""))]
    pieces += [compressor.compress(b"\0" * 1_000_000) for _ in range(500)]
    return b"".join(pieces) + compressor.flush()


def bomb(told: int) -> bytes:
    """Return an archive of 500 MB of zeros that claims to hold fewer bytes, or tells the truth."""
    body = packed_zeros()
    sizes = struct.pack("<LLL", 0, len(body), told)
    local = struct.pack("<4sHHHHH", b"PK\x03\x04", 20, 0, 8, 0, 33) + sizes
    local += struct.pack("<HH", 5, 0) + b"a.npy"
    entry = struct.pack("<4sHHHHHH", b"PK\x01\x02", 20, 20, 0, 8, 0, 33) + sizes
    entry += struct.pack("<HHHHHLL", 5, 0, 0, 0, 0, 0, 0) + b"a.npy"
    end = struct.pack(
        "<4sHHHHLLH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local) + len(body), 0
    )
    return local + body + entry + end


@pytest.mark.parametrize("told", [500_000_000, 548, 600, 4096])
def test_memory_stays_flat_under_a_bomb(told):
    data = bomb(told)
    assert len(data) < 600_000
    error, peak = peak_of(data)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert peak < len(data) + 2_000_000


def test_memory_stays_flat_under_a_header_that_declares_terabytes():
    data = with_header(header(shape="(1000000, 1000000, 1)"), b"")
    assert len(data) < 128
    error, peak = peak_of(data)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert peak < 200_000


def test_memory_stays_flat_where_the_image_itself_is_huge():
    size = ImageSize(1_000_000, 1_000_000)
    data = with_header(header(shape="(1000000, 1000000, 3)"), b"")
    error, peak = peak_of(data, size)
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert peak < 200_000


def test_memory_stays_flat_under_a_directory_of_many_members():
    entry = struct.pack("<4sHHHHHH", b"PK\x01\x02", 20, 20, 0, 0, 0, 33) + bytes(12)
    entry += struct.pack("<HHHHHLL", 0, 0, 0, 0, 0, 0, 0)
    directory = entry * 20_000
    for count in (1, 20_000):
        end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, count, count, len(directory), 4, 0)
        error, peak = peak_of(b"PK\x03\x04" + directory + end)
        assert error.code is ErrorCode.INVALID_ARGUMENT
        assert peak < 200_000


SEEDS = [
    npy(some_points()),
    npy(np.asfortranarray(some_points(np.float64))),
    archive([("a.npy", npy(some_points()))]),
    archive([("a.npy", npy(some_points()))], zipfile.ZIP_STORED),
]


@st.composite
def mutations(draw):
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 5))):
        # Headers lie at the ends: that is where changes tell.
        start = draw(st.one_of(st.integers(0, 200), st.integers(len(data) - 200, len(data) - 1)))
        start = min(max(start, 0), len(data) - 1)
        match draw(st.integers(0, 2)):
            case 0:
                data[start] = draw(st.integers(0, 255))
            case 1:
                data[start : start + draw(st.integers(1, 9))] = draw(st.binary(max_size=9))
            case _:
                other = draw(st.sampled_from(SEEDS))
                data[start : start + 30] = other[start : start + 30]
        if not data:
            break
    return bytes(data)


def read_or_refuse(data) -> MaskwireError | np.ndarray:
    try:
        return read_point_map(data, SIZE, "point_map.data", LIMIT)
    except MaskwireError as error:
        return error


@settings(max_examples=500, deadline=None)
@given(mutations())
def test_mutated_files_give_a_good_array_or_a_refusal(data):
    outcome = read_or_refuse(data)
    if isinstance(outcome, MaskwireError):
        assert outcome.code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.PAYLOAD_TOO_LARGE)
        assert outcome.violations[0].field == "point_map.data"
    else:
        assert outcome.shape == (5, 7, 3)
        assert outcome.dtype == np.dtype(np.float32)
        known = np.isfinite(outcome)
        assert (known.all(axis=2) == known.any(axis=2)).all()
        assert known.any()


def test_the_largest_numbers_are_unknown_points():
    points = np.ones((5, 7, 3), np.float32)
    largest = float(np.finfo(np.float32).max)
    points[0] = [0.0, 0.0, largest]
    points[1] = [largest, -largest, largest]
    points[2] = [largest, 0.0, 1.0]
    read = read_point_map(npy(points), SIZE, "point_map.data", LIMIT)
    assert np.isnan(read[:3]).all()
    assert np.array_equal(read[3:], points[3:])
