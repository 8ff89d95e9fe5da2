"""The command `maskwire` as users run it, against a real server and with one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (96, 64)
BOX = (20, 10, 70, 50)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A light rectangle on dark ground."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 40, dtype=np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (230, 180, 60)
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    return file


Run = Callable[..., tuple[int, str, str]]


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


def read_json(file: Path) -> Any:
    return json.loads(file.read_text())


def test_segment_leaves_overlay_and_masks(
    run: Run, server: str, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--point", "45,30@1", "--point", "2,2,bg@1", "--box", "20,10,70,50@2"]
    code, output, _ = run("segment", image, *arguments, "--server", server, "--out", out)
    assert code == 0
    assert "maskwire-nano" in output
    assert str(out / "overlay.png") in output
    assert size_of(out / "overlay.png") == SIZE
    document = read_json(out / "masks.json")
    assert [entry["object_id"] for entry in document["annotations"]] == [1, 2]
    for annotation in document["annotations"]:
        assert annotation["segmentation"]["size"] == [SIZE[1], SIZE[0]]
        assert 0 <= annotation["score"] <= 1
        assert annotation["area"] > 0


def test_json_is_all_that_standard_output_carries(run: Run, server: str, image: Path) -> None:
    code, output, _ = run("segment", image, "--box", "20,10,70,50", "--server", server, "--json")
    assert code == 0
    document = json.loads(output)
    assert len(document["annotations"]) == 1
    assert document["timings_ms"]["total"] > 0
    assert document["files"] == []


def test_alternatives_and_png_masks(run: Run, server: str, image: Path, tmp_path: Path) -> None:
    arguments = ["--point", "45,30", "--max-masks", "2", "--format", "png", "--json"]
    code, output, _ = run(
        "segment", image, *arguments, "--server", server, "--out", tmp_path / "out"
    )
    assert code == 0
    document = json.loads(output)
    assert [entry["alternative"] for entry in document["annotations"]] == [0, 1]
    for entry in document["annotations"]:
        with Image.open(tmp_path / "out" / f"mask-1-{entry['alternative']}.png") as picture:
            assert int(np.asarray(picture).sum()) == entry["area"]


def test_pictures_and_what_is_changed_in_masks(
    run: Run, server: str, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--box", "20,10,70,50", "--fill-holes", "50", "--clean-up", "--json"]
    pictures = ["--picture", "black_white", "--picture", "cutout", "--picture-format", "webp"]
    code, output, _ = run("segment", image, *arguments, *pictures, "--server", server, "--out", out)
    assert code == 0
    names = [Path(file).name for file in json.loads(output)["files"]]
    assert names == ["black-white.webp", "cutout.webp", "masks.json"]
    with Image.open(out / "black-white.webp") as black_white, Image.open(image) as photograph:
        assert black_white.size == photograph.size
    twice = ["--box", "20,10,70,50@1", "--box", "20,10,70,50@2", "--json", "--server", server]
    for options, kept in (([], [1, 2]), (["--max-overlap", "0.5"], [1])):
        code, output, _ = run("segment", image, *twice, *options)
        assert code == 0
        assert [one["object_id"] for one in json.loads(output)["annotations"]] == kept


def test_polygons(run: Run, server: str, image: Path) -> None:
    arguments = ["--box", "20,10,70,50", "--format", "polygons", "--json"]
    code, output, _ = run("segment", image, *arguments, "--server", server)
    assert code == 0
    (annotation,) = json.loads(output)["annotations"]
    assert isinstance(annotation["segmentation"], list)


def test_a_mask_is_refined(run: Run, server: str, image: Path, tmp_path: Path) -> None:
    bitmap = np.zeros((SIZE[1], SIZE[0]), dtype=np.bool_)
    bitmap[12:48, 22:66] = True
    Image.fromarray(bitmap).save(tmp_path / "guess.png")
    code, output, _ = run(
        "segment", image, "--mask", f"{tmp_path / 'guess.png'}@5", "--server", server, "--json"
    )
    assert code == 0
    assert [entry["object_id"] for entry in json.loads(output)["annotations"]] == [5]


def test_the_environment_names_the_server(
    run: Run, server: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKWIRE_SERVER", server)
    assert run("models", "list", "--json")[0] == 0
    monkeypatch.setenv("MASKWIRE_SERVER", "127.0.0.1:1")
    code, _, messages = run("segment", image, "--point", "1,1")
    assert code == 5
    assert "127.0.0.1:1" in messages


def test_models(run: Run, server: str) -> None:
    code, output, _ = run("models", "list", "--server", server)
    assert code == 0
    assert "maskwire-nano (default)" in output
    code, output, _ = run("models", "show", "maskwire-nano", "--server", server, "--json")
    assert code == 0
    assert "point" in json.loads(output)["prompt_kinds"]
    code, _, messages = run("models", "show", "absent", "--server", server)
    assert code == 4
    assert "absent" in messages


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--point", "500,30"], 3, "prompts[0]"),
        (["--box", "70,50,20,10"], 3, "x_max"),
        (["--text", "a wheel"], 6, "text"),
        (["--point", "4,4", "--model", "absent"], 4, "absent"),
        (["--point", "4"], 2, "--point"),
        ([], 2, "maskwire segment photo.jpg --point"),
        (["--point", "4,4", "--format", "bmp"], 2, "bmp"),
    ],
)
def test_failures_have_their_exit_codes(
    run: Run, server: str, image: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    code, output, messages = run("segment", image, *arguments, "--server", server, "--json")
    assert code == exit_code
    assert message in messages
    assert output == ""


def test_images_that_cannot_be_read(run: Run, server: str, tmp_path: Path) -> None:
    code, _, messages = run("segment", tmp_path / "absent.png", "--point", "1,1")
    assert code == 2
    assert "absent.png" in messages
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    assert run("segment", broken, "--point", "1,1", "--server", server)[0] == 3


def test_config_is_a_settings_file_that_gives_itself(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKWIRE_GRPC__PORT", "12345")
    tenants = '{"acme": {"weight": 2}, "dotted.name": {"calls_per_minute": 60}}'
    monkeypatch.setenv("MASKWIRE_QUOTAS__TENANTS", tenants)
    monkeypatch.setenv("MASKWIRE_SOURCES__HTTPS__ALLOWED_NETWORKS", '["10.0.0.0/8"]')
    code, printed, _ = run("config")
    assert code == 0
    assert "port = 12345" in printed
    assert "# The only ports.\nallowed_ports = [443]\n" in printed
    assert 'allowed_networks = ["10.0.0.0/8"]\n' in printed
    assert '[quotas.tenants."dotted.name"]\ncalls_per_minute = 60\n' in printed
    monkeypatch.delenv("MASKWIRE_GRPC__PORT")
    monkeypatch.delenv("MASKWIRE_SOURCES__HTTPS__ALLOWED_NETWORKS")
    monkeypatch.delenv("MASKWIRE_QUOTAS__TENANTS")
    file = tmp_path / "maskwire.toml"
    file.write_text(printed)
    assert run("config", "--config", file)[1] == printed


def test_settings_that_are_not_valid(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "maskwire.toml"
    file.write_text("[grpc]\nport = 99999\n")
    code, _, messages = run("config", "--config", file)
    assert code == 2
    assert "grpc.port" in messages


def test_models_that_cannot_be_pulled(run: Run, tmp_path: Path) -> None:
    assert run("models", "pull", "absent")[0] == 4
    assert run("models", "pull", "maskwire-nano")[0] == 3
    source = tmp_path / "absent.pt"
    assert run("models", "pull", "sam2.1-hiera-tiny", "--from", source)[0] == 5


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maskwire_client.cli", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_without_a_server_the_service_runs_in_process(image: Path, tmp_path: Path) -> None:
    # The address in the environment must not matter: --local says so.
    result = command(
        "segment",
        image,
        "--box",
        "20,10,70,50",
        "--local",
        "--json",
        "--out",
        tmp_path,
        MASKWIRE_SERVER="127.0.0.1:1",
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["images"][0]["models"][0]["model"] == "maskwire-nano"
    assert size_of(tmp_path / "overlay.png") == SIZE


def test_a_model_that_is_not_pulled_says_how_to(image: Path, tmp_path: Path) -> None:
    result = command(
        "segment",
        image,
        "--point",
        "1,1",
        "--model",
        "sam2.1-hiera-tiny",
        "--local",
        MASKWIRE_MODELS__CACHE_FOLDER=str(tmp_path),
    )
    assert result.returncode == 5
    assert "maskwire models pull sam2.1-hiera-tiny" in result.stderr


# What only the extra `server` installs, made impossible to import.
CLIENT_ONLY = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"cv2", "pydantic_settings", "structlog", "torch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from maskwire_client.cli import main
main(sys.argv[1:])
"""


def client_only(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CLIENT_ONLY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_client_only_install_calls_servers(server: str, image: Path) -> None:
    result = client_only("segment", image, "--point", "45,30", "--server", server, "--json")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["annotations"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [["serve"], ["config"], ["models", "list"], ["models", "pull", "x"], ["demo"]],
    ids=" ".join,
)
def test_a_client_only_install_says_what_is_missing(arguments: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)] if arguments == ["demo"] else []
    result = client_only(*arguments, *out)
    assert result.returncode == 2
    assert "pip install 'maskwire[server]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_library_imports_nothing_of_the_server_or_the_command_line() -> None:
    program = (
        "import sys, maskwire_client; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    )
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    ).stdout.split()
    assert "maskwire_client" in modules
    assert not set(modules) & {"maskwire_server", "torch", "cv2", "typer", "rich", "pydantic"}
