"""What nano proposes: few looks, whole objects, nothing on an empty wall."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from maskwire_server.domain.auto_segmentation.point_grid import point_grid
from maskwire_server.domain.auto_segmentation.proposals import Proposal, ProposalCriteria
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.engines.nano import NanoEngine, NanoEngineFactory
from maskwire_server.engines.nano.proposals import outline_contrast, own_threshold
from maskwire_server.engines.nano.regions import find_regions

SIZE = ImageSize(240, 160)


@pytest.fixture(scope="module")
def engine() -> Iterator[NanoEngine]:
    loaded = NanoEngineFactory().load(ModelSpecification("maskwire-nano", "nano", device="cpu"))
    yield loaded
    loaded.close()


def shapes() -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """A disc and a box on a wall."""
    picture = np.full((160, 240, 3), (150, 160, 170), dtype=np.uint8)
    masks = []
    for draw, colour in ((_disc, (200, 60, 40)), (_box, (30, 90, 60))):
        mask = np.zeros((160, 240), dtype=np.uint8)
        draw(mask)
        picture[mask > 0] = colour
        masks.append(mask > 0)
    noise = np.random.default_rng(0).integers(-4, 5, picture.shape)
    return (picture + noise).astype(np.uint8), masks


def _disc(mask: NDArray[np.uint8]) -> None:
    cv2.circle(mask, (70, 80), 40, 1, -1)


def _box(mask: NDArray[np.uint8]) -> None:
    cv2.rectangle(mask, (150, 40), (210, 120), 1, -1)


def proposals(
    engine: NanoEngine, picture: NDArray[np.uint8], per_side: int, criteria: ProposalCriteria
) -> list[Proposal]:
    size = ImageSize(picture.shape[1], picture.shape[0])
    points = point_grid(per_side, size)
    batches = list(engine.propose(engine.encode(picture), points, criteria))
    assert sum(batch.points_done for batch in batches) == len(points)
    return [proposal for batch in batches for proposal in batch.proposals]


@pytest.mark.parametrize("per_side", [4, 9])
def test_objects_are_among_the_proposals(engine, per_side):
    picture, masks = shapes()
    found = proposals(engine, picture, per_side, ProposalCriteria())
    bitmaps = [proposal.logits.to_bitmap(SIZE) for proposal in found]
    for mask in masks:
        assert max((mask & one).sum() / (mask | one).sum() for one in bitmaps) > 0.8
    assert all(proposal.predicted_iou > own_threshold(0.88) for proposal in found)


@pytest.mark.parametrize("per_side", [1, 2, 7, 32])
def test_every_point_is_settled_whatever_the_grid(engine, per_side):
    picture = np.full((48, 64, 3), 90, dtype=np.uint8)
    assert proposals(engine, picture, per_side, ProposalCriteria()) == []


def test_one_mask_a_look_gives_fewer(engine):
    picture, _ = shapes()
    several = proposals(engine, picture, 6, ProposalCriteria(multimask=True))
    assert len(proposals(engine, picture, 6, ProposalCriteria(multimask=False))) < len(several)


def test_thresholds_are_read_on_nanos_scale():
    assert own_threshold(0) == 0
    assert own_threshold(1) == 1
    assert 0 < own_threshold(0.5) < own_threshold(0.88) < own_threshold(0.95) < 1
    assert own_threshold(0.88) == pytest.approx(0.45)


def test_regions_of_like_colour_have_a_point_inside_and_a_tight_box():
    picture, masks = shapes()
    points = point_grid(12, SIZE)
    regions = find_regions(picture, points, 96)
    for mask in masks:
        rows, columns = np.nonzero(mask)
        corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        fits = [
            region
            for region in regions
            if np.abs(
                np.subtract(
                    (region.box.x_min, region.box.y_min, region.box.x_max, region.box.y_max),
                    corners,
                )
            ).max()
            <= 4
        ]
        assert fits
        x, y = points[fits[0].point].astype(int)
        assert mask[y, x]
    assert len(find_regions(picture, points, 1)) == 1


def test_an_outline_is_where_colours_change():
    picture, masks = shapes()
    seen = np.asarray(cv2.resize(picture[:, :160], (128, 128)), np.uint8)
    disc = cv2.resize(masks[0][:, :160].astype(np.uint8), (128, 128)) > 0
    shifted = np.roll(disc, 40, axis=1)
    assert outline_contrast(seen, disc) > 60
    assert outline_contrast(seen, shifted) < 30
    assert outline_contrast(seen, np.zeros((128, 128), dtype=bool)) == 0.0
