"""Point maps and depth maps: what is read, what is unknown, and which objects have enough."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.domain.reconstruction.point_maps import (
    check_points,
    read_depth_map,
    read_point_map,
)

SIZE = ImageSize(width_px=7, height_px=5)
CAMERA = Intrinsics(100.0, 80.0, 3.0, 2.0)
LIMIT = 1_000_000


def some_points(dtype=np.float32):
    random = np.random.default_rng(4)
    points = random.random((5, 7, 3))
    points[..., 2] += 1
    return points.astype(dtype)


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def npz(save=np.savez, **arrays) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def png(values) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def read(data, size=SIZE, limit=LIMIT):
    return read_point_map(data, size, "point_map.data", limit)


def read_depth(data, unit_m=0.001, limit=LIMIT):
    return read_depth_map(data, SIZE, CAMERA, unit_m, "depth_map.data", limit)


def refusal(call, *arguments, **options) -> MaskwireError:
    with pytest.raises(MaskwireError) as caught:
        call(*arguments, **options)
    return caught.value


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.filterwarnings("ignore:Stored array in format 2.0:UserWarning")
def test_arrays_of_either_order_and_byte_order_are_read(dtype, order, version):
    points = np.asarray(some_points(dtype), order=order)
    found = read(npy(points, version=version))
    assert found.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(found, points.astype(np.float32))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["arr_0", "points", "pünkte"])
def test_one_array_of_an_npz_file_is_read(save, name):
    np.testing.assert_array_equal(read(npz(save, **{name: some_points()})), some_points())


def test_the_header_of_a_python_2_writer_is_read():
    data = npy(some_points())
    old = data.replace(b"(5, 7, 3), }   ", b"(5L, 7L, 3L), }")
    assert old != data
    np.testing.assert_array_equal(read(old), some_points())


UNKNOWN = [
    [np.nan, 0, 1],
    [0, np.nan, 1],
    [0, 0, np.nan],
    [np.inf, 0, 1],
    [0, -np.inf, 1],
    [0, 0, np.inf],
    [0, 0, 0],
    [0, 0, -2],
    [0, 0, 2e6],
    [2e6, 0, 1e5],
    [101, 0, 1],
    [0, 0, 1e-30],
]


@pytest.mark.parametrize("point", UNKNOWN, ids=str)
def test_what_is_no_point_in_front_of_the_camera_is_unknown(point):
    points = some_points()
    points[2, 3] = point
    found = read(npy(points))
    expected = some_points()
    expected[2, 3] = np.nan
    np.testing.assert_array_equal(found, expected)


def test_doubles_beyond_single_precision_are_unknown():
    points = some_points(np.float64)
    points[0, 0, 2] = 1e300
    found = read(npy(points))
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[0, 1:]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_map_without_a_single_point_is_refused(value):
    error = refusal(read, npy(np.full((5, 7, 3), value, np.float32)))
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.violations[0].field == "point_map.data"
    assert "at least one finite point" in error.message


def test_large_maps_are_cleaned_in_every_row():
    points = np.ones((600, 3, 3), np.float32)
    points[::2, :, 2] = -1
    found = read(npy(points), ImageSize(3, 600))
    assert np.isnan(found[::2]).all()
    assert (found[1::2] == 1).all()


def test_depth_becomes_points_along_the_rays_of_pixel_centres():
    depth = np.full((5, 7), 2.0, np.float32)
    depth[0, 0] = np.nan
    depth[0, 1] = 0.0
    points = read_depth(npy(depth))
    assert np.isnan(points[0, :2]).all()
    np.testing.assert_allclose(points[4, 6], [(6.5 - 3) / 100 * 2, (4.5 - 2) / 80 * 2, 2], 1e-6)


def test_depth_of_a_16_bit_png_is_in_the_given_unit_and_0_is_unknown():
    steps = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    points = read_depth(png(steps), unit_m=0.0005)
    assert np.isnan(points[0, 0]).all()
    np.testing.assert_allclose(points[..., 2].ravel()[1:], steps.ravel()[1:] * 0.0005, 1e-6)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (np.ones((5, 7), np.uint8), "16 bits"),
        (np.ones((5, 7, 3), np.uint8), "16 bits"),
        (np.ones((7, 5), np.uint16), "7 x 5 pixels"),
    ],
)
def test_other_pictures_are_refused(values, rule):
    error = refusal(read_depth, png(values))
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert rule in error.message


def test_every_cut_of_a_picture_is_refused():
    data = png(np.random.default_rng(1).integers(1, 60000, (5, 7)).astype(np.uint16))
    for length in range(len(data) - 20):
        assert refusal(read_depth, data[:length]).code is ErrorCode.INVALID_ARGUMENT


def test_a_picture_beyond_the_limit_is_too_large():
    data = png(np.ones((5, 7), np.uint16))
    assert refusal(read_depth, data, limit=69).code is ErrorCode.PAYLOAD_TOO_LARGE


def test_a_picture_that_claims_to_be_huge_is_refused_by_its_header():
    data = bytearray(png(np.ones((5, 7), np.uint16)))
    data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    assert refusal(read_depth, bytes(data)).code is ErrorCode.INVALID_ARGUMENT


def test_objects_need_sixteen_known_points():
    points = np.full((5, 7, 3), np.nan, np.float32)
    points[:4, :4] = 1.0
    whole = np.ones((5, 7), np.bool_)
    check_points(points, [whole], "masks")
    less = whole.copy()
    less[0, 0] = False
    error = refusal(check_points, points, [whole, less], "masks")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.violations[0].field == "masks[1]"
    assert "at least 16" in error.message
    assert "covers 15" in error.message
