"""The scene generator: reproducible, labelled consistently, and as varied as training needs."""

import cv2
import numpy as np
import pytest

from maskwire_client.evaluation import find_photographs
from training import objects, shapes
from training.samples import write_scenes
from training.scenes import Scene, make_scene
from training.textures import FIELD_MAKERS, FIELD_SIZE, TextureBank


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(5, size=24)


@pytest.fixture(scope="module")
def scenes(bank: TextureBank) -> list[Scene]:
    return [make_scene(5, index, bank) for index in range(8)]


def test_a_scene_is_a_function_of_seed_and_index(bank: TextureBank, scenes: list[Scene]) -> None:
    again = make_scene(5, 3, TextureBank(5, size=24))
    np.testing.assert_array_equal(again.image, scenes[3].image)
    np.testing.assert_array_equal(again.parts, scenes[3].parts)
    assert make_scene(6, 3, bank).image.tobytes() != scenes[3].image.tobytes()


def test_every_part_lies_within_its_object(scenes: list[Scene]) -> None:
    for scene in scenes:
        owner = scene.part_table[scene.parts, 0]
        np.testing.assert_array_equal(owner, scene.objects)


def test_objects_never_show_more_than_they_are(scenes: list[Scene]) -> None:
    for scene in scenes:
        visible = np.bincount(scene.objects.ravel(), minlength=len(scene.areas))
        assert (visible[1:] <= scene.areas[1:]).all()


def test_some_objects_have_parts_in_groups(scenes: list[Scene]) -> None:
    most_parts, most_groups = 0, 0
    for scene in scenes:
        for number in range(1, len(scene.areas)):
            rows = scene.part_table[np.unique(scene.parts[scene.objects == number])]
            most_parts = max(most_parts, len(rows))
            most_groups = max(most_groups, len(np.unique(rows[:, 1])))
    assert most_parts > most_groups > 1


def test_pictures_have_shape_type_and_content(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (*scene.objects.shape, 3)
        assert len(np.unique(scene.objects)) > 1


@pytest.mark.parametrize("maker", [maker for maker, _ in FIELD_MAKERS])
def test_textures_are_fields_between_0_and_1(maker) -> None:
    field = maker(np.random.default_rng(1))
    assert field.shape == (FIELD_SIZE, FIELD_SIZE)
    assert field.dtype == np.float32
    assert field.min() >= 0
    assert field.max() <= 1
    assert field.std() > 0.01


@pytest.mark.parametrize("builder", [builder for builder, _ in objects.BUILDERS])
def test_every_kind_of_object_fills_something(builder) -> None:
    for seed in range(5):
        plan = builder(np.random.default_rng(seed))
        outlines = [shapes.transform(o, (40, 40), 0, (100, 100)) for o in plan.parts[0].outlines]
        assert cv2.countNonZero(shapes.fill(outlines, 300, 300)) > 0
        assert all(np.isfinite(outline).all() for part in plan.parts for outline in part.outlines)


def test_written_scenes_are_read_by_the_evaluation(tmp_path) -> None:
    written = write_scenes(5, 2, tmp_path)
    pictures = find_photographs(tmp_path)
    assert [picture.name for picture in pictures] == ["0000", "0001"]
    assert sum(len(picture.objects) for picture in pictures) == written > 2
    scene = make_scene(5, 0, TextureBank(5))
    for labelled in pictures[0].objects:
        np.testing.assert_array_equal(labelled.read(), scene.objects == int(labelled.name))
