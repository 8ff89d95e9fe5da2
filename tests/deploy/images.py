"""Dockerfiles as BuildKit's own parser reads them, and the files that a build may see."""

from __future__ import annotations

import os
import re
import shlex
import string
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import dockerfile
from pathspec import PathSpec

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "deploy" / "containers"


@dataclass(frozen=True)
class Stage:
    """One stage of a Dockerfile.

    Attributes:
        name: Its name.
        base: The image or the stage that it begins with, as written.
        commands: Its instructions.
    """

    name: str
    base: str
    commands: tuple[dockerfile.Command, ...]


@dataclass(frozen=True)
class Image:
    """A Dockerfile, and which of its stages becomes the image.

    Attributes:
        file: The Dockerfile.
        target: The stage.
    """

    file: Path
    target: str

    @property
    def commands(self) -> list[dockerfile.Command]:
        """The instructions that the image is made by, those of the stages below it first."""
        stages = stages_of(self.file)
        found: list[dockerfile.Command] = []
        name = self.target
        while name in stages:
            found[:0] = stages[name].commands
            name = stages[name].base
        return found

    def last(self, instruction: str) -> dockerfile.Command:
        """Return the instruction of a kind that is in force."""
        return [one for one in self.commands if one.cmd.upper() == instruction][-1]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets, upon the base image's PATH."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        for command in self.commands:
            if command.cmd.upper() == "ENV":
                environment |= environment_of(command, environment)
        return environment


@cache
def stages_of(file: Path) -> dict[str, Stage]:
    """Return the stages by their names, in order."""
    stages: dict[str, Stage] = {}
    name, base = "", ""
    commands: list[dockerfile.Command] = []
    for command in [*dockerfile.parse_file(str(file)), None]:
        if command is None or command.cmd.upper() == "FROM":
            if name:
                stages[name] = Stage(name, base, tuple(commands))
            if command is not None:
                base, keyword, name = command.value
                assert keyword.upper() == "AS"
                commands = []
        elif name:
            commands.append(command)
    return stages


def environment_of(command: dockerfile.Command, known: Mapping[str, str]) -> dict[str, str]:
    """Return what one ENV sets; its values may use what was known before it."""
    names, values = command.value[::2], command.value[1::2]
    return {
        name: string.Template("".join(shlex.split(value))).substitute(known)
        for name, value in zip(names, values, strict=True)
    }


def git_files(*options: str) -> list[str]:
    """Return files of the repository, as git lists them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def in_context(names: Iterable[str]) -> list[str]:
    """Return those of some files that `.dockerignore` lets a build see."""
    # As in Docker, and unlike git: the last line that matches decides, whatever of a folder above,
    # and a name is that of the context's root unless it begins with a star.
    lines = [
        re.sub(r"^(!?)(?!\*)", r"\1/", line)
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    left_out = PathSpec.from_lines("gitignore", lines)
    return [name for name in names if not left_out.match_file(name)]


def copied(command: dockerfile.Command, context: Iterable[str]) -> dict[str, list[str]]:
    """Return the files of a context that each source of a COPY brings."""
    return {
        source: [name for name in context if PurePosixPath(name).is_relative_to(source)]
        for source in command.value[:-1]
    }


def is_from_context(command: dockerfile.Command) -> bool:
    """Whether it is a COPY from the build's own context."""
    return command.cmd.upper() == "COPY" and not any("--from" in flag for flag in command.flags)


def inherited_environment() -> dict[str, str]:
    """This process's environment without what configures the program or Python."""
    dropped = ("MASKWIRE_", "PYTHON", "VIRTUAL_ENV", "UV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
