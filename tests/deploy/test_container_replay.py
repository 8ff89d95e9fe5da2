"""The steps of the server's image carried out in a folder that has only what COPY brings.

No daemon runs here. Absolute paths of the image become paths below that folder. What differs from a
build: the base image is this machine's Python, the system's accounts are not made, torch is the
package index's default build (the one for the CPU has an index of its own), and byte code is not
compiled.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import dockerfile
import pytest

from tests.deploy.images import (
    CONTAINERS,
    ROOT,
    Image,
    copied,
    environment_of,
    git_files,
    in_context,
    inherited_environment,
    is_from_context,
    stages_of,
)
from tests.support.ports import free_port

pytestmark = [pytest.mark.robustness, pytest.mark.timeout(3600)]

SERVER = Image(CONTAINERS / "Dockerfile", "server")
LONG_S = 600.0
_IMAGE_PATH = re.compile(r"(?<![\w./-])/(?=(?:build|opt|tmp|var)\b)")


class Replay:
    """A folder in the place of an image's file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._system = root / "system"
        self._folder = root
        self._environment: dict[str, str] = {}

    def inside(self, text: str) -> str:
        """Return a text whose paths of the image are those of the folder."""
        return _IMAGE_PATH.sub(f"{self.root}/", text)

    def build(self, commands: tuple[dockerfile.Command, ...]) -> None:
        """Carry out the steps of the stage that installs."""
        subprocess.run([sys.executable, "-m", "venv", self._system], check=True)
        for command in commands:
            match command.cmd.upper():
                case "WORKDIR":
                    self._folder = Path(self.inside(command.value[0]))
                    self._folder.mkdir(parents=True, exist_ok=True)
                case "ENV":
                    self._environment |= environment_of(command, self._environment)
                case "ARG":
                    name, _, value = command.value[0].partition("=")
                    self._environment[name] = value.strip('"')
                case "COPY":
                    assert is_from_context(command)
                    self._copy(command)
                case "RUN":
                    self._run(command)
                case other:
                    raise AssertionError(f"{other} is not replayed")

    def _copy(self, command: dockerfile.Command) -> None:
        context = in_context(git_files("--cached", "--others", "--exclude-standard"))
        destination = command.value[-1]
        for source, files in copied(command, context).items():
            into_folder = destination.endswith("/") or (ROOT / source).is_file()
            for name in files:
                relative = Path(name).name if into_folder else Path(name).relative_to(source)
                target = self._folder / destination / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target)

    def _run(self, command: dockerfile.Command) -> None:
        cache = subprocess.run(
            [Path(sys.executable).parent / "uv", "cache", "dir"],
            capture_output=True,
            text=True,
            check=True,
        )
        environment = {
            **inherited_environment(),
            **self._environment,
            "TORCH_BACKEND": "",
            "UV_CACHE_DIR": cache.stdout.strip(),
            "UV_LINK_MODE": "hardlink",
            "UV_COMPILE_BYTECODE": "0",
            "PATH": f"{self._system / 'bin'}:/usr/bin:/bin",
        }
        done = subprocess.run(
            ["/bin/sh", "-c", self.inside(command.value[0])],
            cwd=self._folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command.original}\n{done.stdout}\n{done.stderr}"

    def runtime(self, image: Image) -> dict[str, str]:
        """Return the environment that the image's programs have."""
        return {name: self.inside(value) for name, value in image.environment.items()}

    def files(self) -> set[Path]:
        """Return what is in the image's own file system."""
        return {path for path in (self.root / "opt").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    replay = Replay(tmp_path_factory.mktemp("image"))
    replay.build(stages_of(SERVER.file)["builder"].commands)
    yield replay
    shutil.rmtree(replay.root)


def check(replay: Replay, environment: Mapping[str, str], port: int) -> int:
    """Run the image's health check, once; return its exit code."""
    _, *arguments = SERVER.last("HEALTHCHECK").value
    asked = [argument.replace(":50051", f":{port}") for argument in arguments]
    assert asked != arguments
    program = replay.root / "opt" / "maskwire" / "bin" / asked[0]
    done = subprocess.run([program, *asked[1:]], env=environment, check=False, timeout=LONG_S)
    return done.returncode


def test_the_image_serves_is_healthy_drains_and_writes_nothing_but_its_volumes(replay) -> None:
    port = free_port()
    environment = replay.runtime(SERVER) | {
        "MASKWIRE_GRPC__PORT": str(port),
        "MASKWIRE_METRICS__PORT": "0",
        "MASKWIRE_AUTH__ALLOW_ANONYMOUS": "true",
        "TMPDIR": str(replay.root / "tmp"),
    }
    for folder in ("tmp", "var/lib/maskwire", "var/cache/maskwire"):
        (replay.root / folder).mkdir(parents=True, exist_ok=True)
    before = replay.files()
    assert check(replay, environment, port) == 5, "nobody serves yet"

    entry = shutil.which(SERVER.last("ENTRYPOINT").value[0], path=environment["PATH"])
    assert entry is not None
    assert Path(entry).is_relative_to(replay.root)
    process = subprocess.Popen(
        [entry, *SERVER.last("CMD").value],
        env=environment,
        cwd=replay.inside(SERVER.last("WORKDIR").value[0]),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    serving = threading.Event()
    reader = threading.Thread(target=_read, args=(process, log, serving))
    reader.start()
    try:
        assert serving.wait(LONG_S), log
        assert process.poll() is None, log
        assert check(replay, environment, port) == 0, log
        process.send_signal(getattr(signal, SERVER.last("STOPSIGNAL").value[0]))
        assert process.wait(LONG_S) == 0, log
    finally:
        process.kill()
        process.wait()
        reader.join()
    assert any("draining" in line for line in log)
    assert replay.files() == before


def _read(process: subprocess.Popen[str], log: list[str], serving: threading.Event) -> None:
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            log.append(line)
            if '"serving"' in line:
                serving.set()
    serving.set()


def test_the_image_has_what_it_promises_and_not_what_builds_it(replay) -> None:
    python = replay.root / "opt" / "maskwire" / "bin" / "python"
    extras = "av, grpc_health, nats, opentelemetry.sdk, sam2, torch, transformers"
    subprocess.run(
        [python, "-c", f"import {extras}"], env=replay.runtime(SERVER), check=True, timeout=LONG_S
    )
    programs = {path.name for path in python.parent.iterdir()}
    assert not programs & {"pip", "uv", "gcc", "hatchling", "pytest", "mypy"}
