"""Splat files: their layout, the way back, and splats in other frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskwire_server.domain.reconstruction.formats.ply import (
    merge_splats,
    place_splats,
    splats_from_ply,
    splats_to_ply,
)
from maskwire_server.domain.reconstruction.geometry import Pose, Quaternion, Splats
from maskwire_server.domain.reconstruction.rotations import matrices_from_quaternions
from tests.support.reconstructed_shapes import QUARTER_TURN_X, splats_of

HEADER = b"""ply
format binary_little_endian 1.0
element vertex 1
property float x
property float y
property float z
property float nx
property float ny
property float nz
property float f_dc_0
property float f_dc_1
property float f_dc_2
property float opacity
property float scale_0
property float scale_1
property float scale_2
property float rot_0
property float rot_1
property float rot_2
property float rot_3
end_header
"""


def one_splat() -> Splats:
    return Splats(
        positions=np.array([[1, 2, 3]], dtype=np.float32),
        scales=np.array([[0.1, 0.2, 0.3]], dtype=np.float32),
        rotations=np.array([[0.1, 0.3, 0.5, np.sqrt(0.65)]], dtype=np.float32),
        opacities=np.array([0.75], dtype=np.float32),
        colors=np.array([[0.0, 0.5, 1.0]], dtype=np.float32),
    )


def covariances(splats: Splats) -> np.ndarray:
    axes = matrices_from_quaternions(splats.rotations) * splats.scales[:, None, :]
    return np.asarray(axes @ axes.transpose(0, 2, 1))


def test_the_layout_is_that_of_gaussian_splatting() -> None:
    content = splats_to_ply(one_splat())
    assert content[: len(HEADER)] == HEADER
    values = np.frombuffer(content[len(HEADER) :], "<f4")
    # Of colour 1: 0.5 · 2 √π = 1.7724539; of opacity 0.75: ln 3; then ln σ; w comes first.
    expected = [
        *(1, 2, 3, 0, 0, 0, -1.7724539, 0, 1.7724539, 1.0986123),
        *(-2.3025851, -1.6094379, -1.2039728, 0.8062258, 0.1, 0.3, 0.5),
    ]
    assert np.allclose(values, expected, atol=1e-6)


def test_there_and_back() -> None:
    splats = splats_of(1000)
    back = splats_from_ply(splats_to_ply(splats))
    for name in ("positions", "scales", "rotations", "opacities", "colors"):
        assert getattr(back, name).dtype == np.float32
        assert np.abs(getattr(back, name) - getattr(splats, name)).max() < 1e-6, name


def test_every_colour_of_8_bits_comes_back() -> None:
    levels = (np.arange(256) / 255).astype(np.float32)
    splats = replace(splats_of(256), colors=np.repeat(levels[:, None], 3, axis=1))
    back = splats_from_ply(splats_to_ply(splats))
    assert np.abs(back.colors - splats.colors).max() < 1e-6


def test_opacities_0_and_1_stay_finite() -> None:
    splats = replace(splats_of(2), opacities=np.array([0, 1], dtype=np.float32))
    back = splats_from_ply(splats_to_ply(splats))
    assert np.allclose(back.opacities, [0, 1], atol=2e-6)


def test_none_at_all_is_a_file_too() -> None:
    assert len(splats_from_ply(splats_to_ply(splats_of(0))).positions) == 0


def test_what_is_not_finite_is_refused() -> None:
    broken = one_splat()
    broken.positions[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        splats_to_ply(broken)


@pytest.mark.parametrize(
    "content",
    [b"", b"no PLY", HEADER, HEADER.replace(b"property float opacity\n", b"") + bytes(64)],
    ids=["empty", "text", "cut short", "no opacity"],
)
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a PLY file of Gaussian splats"):
        splats_from_ply(content)


def test_a_rotation_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="rotation"):
        splats_from_ply(HEADER + bytes(68))


def test_a_pose_of_one_scale_turns_and_grows_splats() -> None:
    placed = place_splats(
        replace(one_splat(), rotations=np.array([[0, 0, 0, 1]], dtype=np.float32)),
        Pose(np.full(3, 2.0), QUARTER_TURN_X, np.array([10.0, 20.0, 30.0])),
    )
    # (1, 2, 3) doubled is (2, 4, 6), turned about x (2, -6, 4).
    assert np.allclose(placed.positions, [[12, 14, 34]])
    assert np.allclose(placed.scales, [[0.2, 0.4, 0.6]])
    assert np.allclose(placed.rotations, [[np.sqrt(0.5), 0, 0, np.sqrt(0.5)]])


def test_a_pose_of_three_scales_transforms_the_covariance() -> None:
    splats = splats_of(500)
    pose = Pose(np.array([0.5, 1.0, 3.0]), QUARTER_TURN_X, np.zeros(3))
    placed = place_splats(splats, pose)
    # By hand: scaling by (0.5, 1, 3), then y to z and z to -y.
    matrix = np.array([[0.5, 0, 0], [0, 0, -3], [0, 1, 0]])
    expected = matrix @ covariances(splats) @ matrix.T
    assert np.abs(covariances(placed) - expected).max() < 1e-8
    assert np.allclose(np.linalg.norm(placed.rotations, axis=1), 1, atol=1e-6)
    assert (placed.scales > 0).all()
    assert np.array_equal(placed.colors, splats.colors)


def test_scaling_along_a_splats_own_axes_is_seen_by_hand() -> None:
    flat = replace(
        one_splat(),
        rotations=np.array([[0, 0, 0, 1]], dtype=np.float32),
        scales=np.array([[0.1, 0.1, 0.1]], dtype=np.float32),
    )
    identity = Quaternion(0.0, 0.0, 0.0, 1.0)
    placed = place_splats(flat, Pose(np.array([1.0, 2.0, 5.0]), identity, np.zeros(3)))
    assert np.allclose(np.sort(placed.scales[0]), [0.1, 0.2, 0.5])
    assert np.allclose(covariances(placed)[0], np.diag([0.01, 0.04, 0.25]), atol=1e-7)


def test_nothing_can_be_placed_and_merged() -> None:
    for scale in ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]):
        pose = Pose(np.array(scale), QUARTER_TURN_X, np.zeros(3))
        assert place_splats(splats_of(0), pose).rotations.shape == (0, 4)
    assert merge_splats([]).opacities.shape == (0,)


def test_merging_keeps_the_order() -> None:
    first, second = splats_of(3), splats_of(2, seed=1)
    merged = merge_splats([first, second])
    assert np.array_equal(merged.positions[:3], first.positions)
    assert np.array_equal(merged.opacities[3:], second.opacities)
    assert merged.rotations.dtype == np.float32
