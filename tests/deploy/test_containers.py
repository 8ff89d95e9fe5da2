"""The images' files without a daemon: linted, compared with the repository and with the program.

`test_container_replay.py` carries their steps out.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import PurePosixPath

import pytest

from maskwire_server.settings import Settings
from tests.deploy.images import (
    CONTAINERS,
    ROOT,
    Image,
    copied,
    git_files,
    in_context,
    is_from_context,
    stages_of,
)
from tests.deploy.manifests import only_environment, parsed_arguments
from tests.support.tools import tool

FILES = sorted(CONTAINERS.glob("*Dockerfile"))
SERVER = Image(CONTAINERS / "Dockerfile", "server")
WORKER = Image(CONTAINERS / "Dockerfile", "worker")
SAM3D = Image(CONTAINERS / "sam3d.Dockerfile", "worker")
IMAGES = {"server": SERVER, "worker": WORKER, "sam3d": SAM3D}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)


def settings_of(image: Image) -> Settings:
    with only_environment(image.environment):
        return Settings.read()


def test_these_are_all_images() -> None:
    assert {image.file for image in IMAGES.values()} == set(FILES)


@every_file
def test_hadolint_finds_nothing(file) -> None:
    linted = subprocess.run(
        [tool("hadolint", file.name), "--failure-threshold=ignore", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


@every_file
def test_a_rule_that_is_switched_off_carries_its_reason(file) -> None:
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines):
        if "hadolint ignore" in line:
            assert lines[number - 1].startswith("# "), line


@every_file
def test_no_address_is_named(file) -> None:
    assert "://" not in file.read_text()


@every_file
def test_what_is_copied_is_tracked_and_in_the_context(file) -> None:
    context = in_context(git_files())
    commands = [one for stage in stages_of(file).values() for one in stage.commands]
    for command in filter(is_from_context, commands):
        for source, files in copied(command, context).items():
            assert files, source


def test_the_context_is_what_the_package_is_made_of_and_no_more() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    extra = {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    tracked = git_files()
    needed = {
        name
        for name in tracked
        if any(PurePosixPath(name).is_relative_to(package) for package in packages)
    }
    seen = set(in_context(tracked))
    assert seen == needed | extra | {"deploy/containers/sam3d/overrides.txt"}


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        "deploy/compose/.env",
        ".git/config",
        ".venv/bin/python",
        "service/maskwire_server/__pycache__/app.cpython-311.pyc",
        "service/maskwire_server/engines/__pycache__/x.pyc",
        "tests/conftest.py",
    ],
)
def test_the_context_leaves_out(name) -> None:
    assert not in_context([name])


@every_file
def test_a_copied_package_is_complete(file) -> None:
    """What the wheel is built from comes by COPY."""
    context = set(in_context(git_files()))
    brought = {
        name
        for command in stages_of(file)["builder"].commands
        if is_from_context(command)
        for files in copied(command, context).values()
        for name in files
    }
    assert context - brought <= {"deploy/containers/sam3d/overrides.txt"}


def test_the_extras_are_there() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (given,) = re.findall(r'^ARG EXTRAS="(.*)"$', SERVER.file.read_text(), re.MULTILINE)
    asked = [*given.split(), *re.findall(r"--extra (\w+)", SAM3D.file.read_text())]
    assert "server" in asked
    assert set(asked) <= set(extras)


@every_image
def test_it_runs_as_nobody_in_particular(image) -> None:
    assert image.last("USER").value == ("65532:65532",)


@every_image
def test_it_is_told_to_stop_by_the_signal_that_drains(image) -> None:
    assert image.last("STOPSIGNAL").value == ("SIGTERM",)


@every_image
def test_it_starts_the_command_line_without_a_shell(image) -> None:
    entry, command = image.last("ENTRYPOINT"), image.last("CMD")
    assert entry.json
    assert command.json
    assert entry.value == ("maskwire",)
    name, _ = parsed_arguments(list(command.value))
    assert name == ("serve" if image is SERVER else "worker")


@every_image
def test_its_health_check_asks_the_port_that_the_program_serves(image) -> None:
    check = image.last("HEALTHCHECK")
    assert check.json
    kind, program, *arguments = check.value
    assert (kind, program) == ("CMD", "maskwire")
    name, parameters = parsed_arguments(arguments)
    settings = settings_of(image)
    port = settings.grpc.port if image is SERVER else settings.jobs.health_port
    assert (name, parameters["server"]) == ("health", f"127.0.0.1:{port}")
    (timeout,) = (flag for flag in check.flags if flag.startswith("--timeout"))
    assert parameters["timeout_s"] < float(timeout.removeprefix("--timeout=").rstrip("s"))


@every_image
def test_it_exposes_what_it_serves(image) -> None:
    settings = settings_of(image)
    port = settings.grpc.port if image is SERVER else settings.jobs.health_port
    assert set(image.last("EXPOSE").value) == {str(port), str(settings.metrics.port)}
    assert settings.grpc.host == settings.metrics.host == "0.0.0.0"


@every_image
def test_it_writes_into_volumes_alone(image) -> None:
    settings = settings_of(image)
    environment = image.environment
    folders = [
        str(settings.storage.folder),
        str(settings.jobs.database),
        str(settings.models.cache_folder),
        *(environment[name] for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME")),
        *(environment[name] for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")),
    ]
    volumes = image.last("VOLUME").value
    assert volumes == ("/var/lib/maskwire", "/var/cache/maskwire")
    for folder in folders:
        assert any(PurePosixPath(folder).is_relative_to(one) for one in (*volumes, "/tmp")), folder
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


@every_image
def test_the_image_has_no_tools_to_build_with(image) -> None:
    for command in image.commands:
        if command.cmd.upper() == "RUN":
            assert not re.search(r"\b(pip|uv|gcc|g\+\+|make|build-essential)\b", command.original)
    brought = [one for one in image.commands if one.cmd.upper() == "COPY"]
    assert all(not is_from_context(command) for command in brought)


@every_image
def test_it_says_what_it_is(image) -> None:
    label = image.last("LABEL").value
    names = {one.removeprefix("org.opencontainers.image.") for one in label[::2]}
    assert names == {"title", "description", "licenses", "version", "revision"}


def test_the_workers_of_sam3d_take_the_queues_of_its_engines() -> None:
    _, parameters = parsed_arguments(list(SAM3D.last("CMD").value))
    engines = PROJECT["project"]["entry-points"]["maskwire.reconstruction_engines"]
    assert set(parameters["queues"]) == {name for name in engines if name.startswith("sam3d")}
    # What they read of the volume: the engines check each at their start.
    settings = settings_of(SAM3D).reconstruction
    for file in (
        settings.sam3d_objects_config,
        settings.sam3d_body_checkpoint,
        settings.sam3d_body_rig,
    ):
        assert file is not None
        assert file.is_relative_to("/var/cache/maskwire")


def test_what_is_pinned_anew_for_sam3d_is_not_pinned_by_the_constraints_too() -> None:
    overrides = (CONTAINERS / "sam3d" / "overrides.txt").read_text().splitlines()
    names = [re.split(r"[=;]", line)[0] for line in overrides if not line.startswith("#")]
    commands = stages_of(SAM3D.file)["builder"].commands
    (dropped,) = (
        match[1]
        for command in commands
        if (match := re.search(r"sed -E -i '/\^\((.*)\)/d'", command.original))
    )
    for name in names:
        assert re.match(f"({dropped})", name), name
