"""Rotations, on cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.reconstruction.geometry import Quaternion
from maskwire_server.domain.reconstruction.rotations import (
    conjugate,
    matrices_from_quaternions,
    multiply,
    normalized,
    quaternion_array,
    quaternion_from_matrix,
    quaternion_from_wxyz_rows,
    quaternions_from_matrices,
    rotation_matrix,
)

HALF = np.sqrt(0.5)
QUARTER_X = Quaternion(HALF, 0.0, 0.0, HALF)
QUARTER_Z = Quaternion(0.0, 0.0, HALF, HALF)

numbers = st.floats(-1, 1)
quaternions = (
    st.tuples(numbers, numbers, numbers, numbers)
    .filter(lambda one: np.linalg.norm(one) > 0.1)
    .map(lambda one: normalized(Quaternion(*one)))
)


def close(first: Quaternion, second: Quaternion) -> bool:
    return bool(np.allclose(quaternion_array(first), quaternion_array(second), atol=1e-12))


def test_a_quarter_turn_about_z_brings_x_to_y() -> None:
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    assert np.allclose(rotation_matrix(QUARTER_Z), expected)
    assert np.allclose(rotation_matrix(QUARTER_X) @ [0, 1, 0], [0, 0, 1])


def test_a_matrix_gives_its_quaternion() -> None:
    assert close(quaternion_from_matrix([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), QUARTER_Z)
    # Half a turn about x, where w is 0.
    half_turn = quaternion_from_matrix(np.diag([1.0, -1.0, -1.0]))
    assert close(half_turn, Quaternion(1.0, 0.0, 0.0, 0.0))


def test_a_product_does_the_second_rotation_first() -> None:
    # Computed by hand: (k s + s)(i s + s) with s = √½ is (i + j + k + 1) / 2.
    assert close(multiply(QUARTER_Z, QUARTER_X), Quaternion(0.5, 0.5, 0.5, 0.5))
    assert close(multiply(QUARTER_X, QUARTER_Z), Quaternion(0.5, -0.5, 0.5, 0.5))


def test_upstream_rotates_rows_and_puts_w_first() -> None:
    # For rows, R(q) of a quarter turn about z brings x to -y: (1, 0, 0) R = R's first row.
    rotation = quaternion_from_wxyz_rows([HALF, 0.0, 0.0, HALF])
    assert close(rotation, Quaternion(0.0, 0.0, -HALF, HALF))
    upstream_matrix = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    point = np.array([1.0, 2.0, 3.0])
    assert np.allclose(rotation_matrix(rotation) @ point, point @ upstream_matrix)


def test_upstream_quaternions_may_have_any_length() -> None:
    assert close(
        quaternion_from_wxyz_rows(np.array([2, 0, 0, 2], dtype=np.float32)),
        Quaternion(0.0, 0.0, -HALF, HALF),
    )


@pytest.mark.parametrize("broken", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 1)])
def test_what_is_no_rotation_is_refused(broken: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="quaternion"):
        normalized(Quaternion(*broken))


@given(quaternions, quaternions)
def test_products_agree_with_matrices(first: Quaternion, second: Quaternion) -> None:
    product = rotation_matrix(multiply(first, second))
    assert np.allclose(product, rotation_matrix(first) @ rotation_matrix(second), atol=1e-12)
    assert np.allclose(rotation_matrix(conjugate(first)), rotation_matrix(first).T, atol=1e-12)


@given(quaternions)
def test_there_and_back(rotation: Quaternion) -> None:
    array = quaternion_array(rotation)
    back = quaternions_from_matrices(matrices_from_quaternions(array[None]))[0]
    assert min(np.abs(back - array).max(), np.abs(back + array).max()) < 1e-9
    assert back[3] >= 0
