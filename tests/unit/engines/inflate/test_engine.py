"""The engine as its worker sees it: stages, cancellation, seeds, colours, splats, memory."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from skimage import data

from maskwire_server.domain.reconstruction.engine import (
    ObjectScene,
    ReconstructionDescription,
    ReconstructionSpecification,
)
from maskwire_server.engines.inflate import InflateFactory
from tests.support.inflated_scenes import disc

STAGES = ["prepare", "solve", "mesh", "texture", "splats"]


def load(**options):
    return InflateFactory().load(ReconstructionSpecification("inflate", **options))


def astronaut():
    """Return a photograph, and its head and its badge as masks."""
    pixels = data.astronaut()[:256, :400]
    head, badge = np.zeros((2, 256, 400), np.bool_)
    head[10:150, 170:280] = True
    badge[180:250, 80:160] = disc(80, 34)[5:75]
    return pixels, (head, badge)


def reconstruct(engine, pixels, masks, seed=7, report=lambda stage, fraction: None):
    return engine.reconstruct(ObjectScene(pixels, masks, None, None, seed), report)


def contents(value) -> list[bytes]:
    return [np.asarray(getattr(value, one.name)).tobytes() for one in fields(value)]


def test_the_entry_point_names_the_factory():
    (point,) = importlib.metadata.entry_points(
        group="maskwire.reconstruction_engines", name="inflate"
    )
    engine = point.load()().load(ReconstructionSpecification("inflate"))
    assert engine.description == ReconstructionDescription("inflate", "", "cpu")
    engine.close()


def test_importing_it_imports_no_torch():
    code = "import sys, maskwire_server.engines.inflate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_are_reported_over_all_objects():
    pixels, masks = astronaut()
    reports = []
    reconstruct(load(), pixels, masks, report=lambda *one: reports.append(one))
    names = [name for name, _ in reports]
    assert list(dict.fromkeys(names)) == STAGES
    assert [name for name in names if name == "solve"] == ["solve", "solve"]
    fractions = [fraction for _, fraction in reports]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1


class Cancelled(Exception):
    """Stands for the job's own."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_job_ends_at_the_next_stage(stage):
    pixels, masks = astronaut()
    begun = []

    def report(name, fraction):
        begun.append(name)
        if name == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        reconstruct(load(), pixels, masks, report=report)
    assert begun.count(stage) == 1


def test_the_same_request_gives_the_same_bytes_and_another_seed_moves_only_splats():
    pixels, masks = astronaut()
    first = reconstruct(load(), pixels, masks)
    again = reconstruct(load(), pixels, masks)
    other = reconstruct(load(), pixels, masks, seed=8)
    for one, two, three in zip(first.objects, again.objects, other.objects, strict=True):
        assert contents(one.mesh) == contents(two.mesh) == contents(three.mesh)
        assert contents(one.splats) == contents(two.splats)
        assert contents(one.splats) != contents(three.splats)
    positions = [model.splats.positions[:50] for model in first.objects]
    assert not np.array_equal(positions[0], positions[1])


def test_the_largest_seed_is_one():
    pixels, masks = astronaut()
    assert reconstruct(load(), pixels, masks, seed=2**64 - 1).objects


def sample(texture, coordinates):
    """Return what a renderer shows at texture coordinates, between texels."""
    height, width = texture.shape[:2]
    x, y = coordinates[:, 0] * width - 0.5, coordinates[:, 1] * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    shares = np.stack([x - left, y - top], 1)
    total = np.zeros((len(x), 3))
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - right - shares[:, 0]) * np.abs(1 - down - shares[:, 1])
        rows, columns = np.clip(top + down, 0, height - 1), np.clip(left + right, 0, width - 1)
        total += weight[:, None] * texture[rows, columns]
    return total


def test_the_texture_shows_at_each_vertex_what_the_image_shows():
    pixels, (_, badge) = astronaut()
    (model,) = reconstruct(load(), pixels, (badge,)).objects
    count = int(badge.sum())  # one front vertex for each pixel, in reading order
    shown = sample(model.mesh.texture, model.mesh.texture_coordinates[:count])
    np.testing.assert_allclose(shown, pixels[badge], atol=0.1)
    back = sample(model.mesh.texture, model.mesh.texture_coordinates[-count:])
    np.testing.assert_allclose(back, shown)


@pytest.mark.parametrize("texture_px", [1024, 64, 16])
@pytest.mark.parametrize("resolution", [256, 30])
def test_nothing_of_the_background_bleeds_in(texture_px, resolution):
    mask = disc(200, 90)
    mask[95:105, 30:170] = False
    pixels = np.where(mask[..., None], [200, 120, 40], [0, 255, 255]).astype(np.uint8)
    engine = load(texture_px=texture_px, mesh_resolution_px=resolution)
    (model,) = reconstruct(engine, pixels, (mask,)).objects
    mesh = model.mesh
    assert max(mesh.texture.shape) <= texture_px
    assert mesh.texture.dtype == np.uint8
    assert np.abs(mesh.texture - np.array([200.0, 120, 40])).max() <= 2
    assert mesh.texture_coordinates.min() > 0
    assert mesh.texture_coordinates.max() < 1
    assert np.abs(model.splats.colors * 255 - [200, 120, 40]).max() <= 2.01


def test_a_small_texture_shows_the_image_in_place():
    y, x = np.mgrid[:400, :300]
    pixels = np.stack([x * 255 // 299, y * 255 // 399, 0 * x], 2).astype(np.uint8)
    mask = np.ones((400, 300), np.bool_)
    (model,) = reconstruct(load(texture_px=80), pixels, (mask,)).objects
    mesh = model.mesh
    assert max(mesh.texture.shape) == 80
    inner = mesh.vertices[:, 1].__abs__() < 0.4
    shown = sample(mesh.texture, mesh.texture_coordinates[inner])
    expected = mesh.texture_coordinates[inner]
    low, high = mesh.texture_coordinates.min(0), mesh.texture_coordinates.max(0)
    shares = (expected - low) / (high - low)
    assert np.abs(shown[:, 1] / 255 - shares[:, 1]).max() < 0.01
    assert np.abs(shown[:, 0] / 255 - shares[:, 0]).mean() < 0.01


def rotate(quaternions, vectors):
    axes, w = quaternions[:, :3], quaternions[:, 3:]
    return vectors + 2 * np.cross(axes, np.cross(axes, vectors) + w * vectors)


def test_splats_lie_flat_on_the_surface():
    pixels = np.full((256, 256, 3), 128, np.uint8)
    (model,) = reconstruct(load(max_splats=5000), pixels, (disc(256, 40),)).objects
    splats = model.splats
    assert len(splats.positions) == 5000
    for one in fields(splats):
        assert getattr(splats, one.name).dtype == np.float32, one.name
    np.testing.assert_allclose(np.linalg.norm(splats.rotations, axis=1), 1, atol=1e-5)
    radii = np.linalg.norm(splats.positions, axis=1, keepdims=True)
    np.testing.assert_allclose(radii, 0.5, rtol=0.08)
    outward = rotate(splats.rotations.astype(np.float64), np.array([[0, 0, 1.0]] * 5000))
    agreement = (outward * splats.positions / radii).sum(1)
    assert agreement.mean() > 0.98
    assert agreement.min() > 0.6
    assert (splats.scales[:, 2] < splats.scales[:, 0] / 5).all()
    np.testing.assert_allclose(splats.opacities, 0.95)
    # As dense everywhere: an eighth of the sphere holds an eighth of the splats.
    octants = np.bincount((splats.positions > 0) @ [1, 2, 4], minlength=8)
    np.testing.assert_allclose(octants, 625, rtol=0.1)
    np.testing.assert_allclose(splats.colors, 128 / 255, atol=1e-6)


def test_a_tiny_object_gets_few_splats():
    mask = np.zeros((9, 9), np.bool_)
    mask[4, 4] = True
    (model,) = reconstruct(load(), np.zeros((9, 9, 3), np.uint8), (mask,)).objects
    assert 1 <= len(model.splats.positions) < 100


MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from maskwire_server.domain.reconstruction.engine import *
from maskwire_server.engines.inflate import InflateFactory
side, points = 4096, None
pixels = np.full((side, side, 3), 7, np.uint8)
mask = np.ones((side, side), np.bool_)
mask[::64, ::64] = False
if sys.argv[1] == "points":
    points = np.ones((side, side, 3), np.float32)
    slopes = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    points[..., 0], points[..., 1] = slopes, slopes[:, None]
engine = InflateFactory().load(ReconstructionSpecification("inflate"))
def peak_mb():
    return int(re.search("VmHWM:[ \\t]*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1000
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = peak_mb()
engine.reconstruct(ObjectScene(pixels, (mask,), points, None, 1), lambda stage, fraction: None)
print(peak_mb() - before)
"""


@pytest.mark.parametrize("kind", ["mask", "points"])
def test_memory_is_bounded_for_an_image_of_4096_pixels_a_side(kind):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, kind], check=True, capture_output=True, text=True
    )
    assert 10 < float(done.stdout) < 300
