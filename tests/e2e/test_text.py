"""`maskwire segment --text`, on a server that finds concepts and on one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.sam3_questions import QUESTIONS
from tests.support.sam3_scenes import Scene
from tests.support.server_process import server_process

Run = Callable[..., tuple[int, str, str]]
QUESTION = next(one for one in QUESTIONS if one.text == "square" and one.negative is not None)


@pytest.fixture(scope="module")
def text_server(tmp_path_factory: pytest.TempPathFactory, small_sam3: Path) -> Iterator[str]:
    """A server whose default model takes no text, and a second one that does."""
    served = [
        {"name": "maskwire-nano"},
        {"name": "shapes", "engine": "sam3", "checkpoint": str(small_sam3)},
    ]
    models = {"serve": served, "device": "cpu", "cpu_threads": 1}
    folder = tmp_path_factory.mktemp("text")
    with server_process(folder, models=models, jobs={"workers": 0}) as process:
        yield process.address


@pytest.fixture(scope="module")
def scene() -> Scene:
    return QUESTION.scene()


@pytest.fixture
def image(tmp_path: Path, scene: Scene) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(scene.pixels).save(file)
    return file


def test_without_a_model_for_text_the_next_step_is_told(run: Run, server: str, image: Path) -> None:
    for words in (["--text", "wheel"], ["--box", "1,1,9,9", "--exclude", "20,20,60,60"]):
        code, output, messages = run("segment", image, *words, "--server", server)
        assert code == 6
        assert output == ""
        told = " ".join(messages.split())
        assert "maskwire-nano does not take text" in told
        assert "maskwire models pull sam3" in told
        assert "maskwire serve --model maskwire-nano --model sam3" in told


def test_texts_find_things_and_exclusions_take_them_away(
    run: Run, text_server: str, image: Path, scene: Scene, tmp_path: Path
) -> None:
    asked = ["segment", image, "--server", text_server, "--text", "square"]
    code, output, _ = run(*asked, "--json")
    assert code == 0
    found = json.loads(output)["annotations"]
    assert len(found) == len(scene.shapes)
    assert QUESTION.negative is not None
    box = scene.shapes[QUESTION.negative].box
    unwanted = ",".join(f"{side:g}" for side in (box.x_min, box.y_min, box.x_max, box.y_max))
    out = tmp_path / "out"
    code, output, _ = run(*asked, "--exclude", unwanted, "--out", out)
    assert code == 0
    assert "square" in output
    assert (out / "overlay.png").is_file()
    left = json.loads((out / "masks.json").read_text())["annotations"]
    assert len(left) == len(QUESTION.expected)


def test_the_threshold_and_the_most_instances(run: Run, text_server: str, image: Path) -> None:
    asked = ["segment", image, "--server", text_server, "--json", "--text", "square"]
    for options, most in ((["--text-threshold", "1"], 0), (["--max-masks", "1"], 1)):
        code, output, _ = run(*asked, *options)
        assert code == 0
        assert len(json.loads(output)["annotations"]) == most
    code, output, _ = run(*asked, "--text", "blue square@5")
    assert code == 0
    assert any(one["object_id"] == 5 for one in json.loads(output)["annotations"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--text", "@3"], "--text TEXT[@OBJECT]"),
        (["--text", "wheel", "--exclude", "1,2,3"], "--exclude X0,Y0,X1,Y1[@OBJECT]"),
        (["--text", "wheel", "--text-threshold", "2"], "--text-threshold"),
    ],
)
def test_what_is_mistyped_is_told_by_its_form(
    run: Run, server: str, image: Path, words: list[str], told: str
) -> None:
    code, _, messages = run("segment", image, *words, "--server", server)
    assert code == 2
    assert told in messages
