"""deploy/README.md names nothing that is not there, and has the numbers of the manifests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

from maskwire_client.cli.application import application
from maskwire_server.settings import Settings
from tests.deploy.monitoring import DEPLOY

ROOT = DEPLOY.parent
KUBERNETES = DEPLOY / "kubernetes"
TEXT = (DEPLOY / "README.md").read_text()
WORDS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
LINES = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]

CLIENT_VARIABLES = {"MASKWIRE_SERVER", "MASKWIRE_CONFIG"}


def is_path(word: str) -> bool:
    if word.startswith("nvidia.com/"):  # labels and taints
        return False
    return bool(re.fullmatch(r"[\w.-]+(/[\w.*-]+)+/?|[\w-]+/|[\w.-]+\.(Dockerfile|yml|toml)", word))


@pytest.mark.parametrize("word", sorted({word for word in WORDS if is_path(word)}))
def test_files_exist(word: str) -> None:
    folders = (ROOT, DEPLOY, KUBERNETES, DEPLOY / "containers")
    assert any(list(folder.glob(word.rstrip("/"))) for folder in folders), word


def test_the_table_of_overlays_and_components_is_complete() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", TEXT, flags=re.MULTILINE))
    overlays = {path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml")}
    assert rows.keys() & overlays == overlays
    components = {path.parent.name for path in KUBERNETES.glob("components/*/kustomization.yaml")}
    for component in components:
        assert f"`{component}`" in TEXT, component
    file = KUBERNETES / "overlays/production/kustomization.yaml"
    used = {Path(one).relative_to("../../components").parts[0] for one in read(file)["components"]}
    told = set(re.findall(r"`([\w-]+)`", rows["production"]))
    assert used == told & components


def test_settings_exist() -> None:
    for word in re.findall(r"MASKWIRE_[A-Z0-9_]+", TEXT):
        if word in CLIENT_VARIABLES or word.endswith("__") or word == "MASKWIRE_":
            continue
        group, _, field = word.removeprefix("MASKWIRE_").lower().partition("__")
        assert field in fields(group), word
    for word in WORDS:
        dotted = re.fullmatch(r"([a-z]+)\.([a-z0-9_]+)", word)
        if dotted and dotted[1] in Settings.model_fields:
            assert dotted[2] in fields(dotted[1]), word


def fields(group: str) -> set[str]:
    kind = Settings.model_fields[group].annotation
    assert kind is not None
    return set(kind.model_fields)


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word.split()[1] for word in (*WORDS, *LINES) if word.startswith("make ")}
    assert named
    assert named <= targets


def test_commands_and_their_options_exist() -> None:
    root = typer.main.get_command(application)
    calls = [word for word in (*WORDS, *LINES) if word.startswith("maskwire ")]
    assert calls
    for call in calls:
        command: Any = root
        words = call.partition("#")[0].split()[1:]
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, call
            command = command.commands[words.pop(0)]
        known = {name for one in (command, root) for part in one.params for name in part.opts}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known | {"--help"}, call


def test_modules_exist() -> None:
    for module in re.findall(r"python -m ([\w.]+)", TEXT):
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_objects_of_the_cluster_exist() -> None:
    manifests = "\n".join(path.read_text() for path in KUBERNETES.rglob("*.yaml"))
    named = re.findall(
        r"(?:deployment|service|job|secret generic|Job `|Secret `)[/ ]?(maskwire[\w-]*)", TEXT
    )
    assert len(named) >= 6
    for name in named:
        assert re.search(rf"(name|secretName): {name}$", manifests, re.MULTILINE), name


def test_the_drain_has_the_numbers_of_the_manifests() -> None:
    told = TEXT.split("### Drain")[1].split("### Upgrade")[0]
    settings = dict(
        line.split("=", 1)
        for line in (KUBERNETES / "base/settings.env").read_text().splitlines()
        if line.startswith("MASKWIRE_")
    )
    server = pod(KUBERNETES / "base/server.yaml")
    sleep_s = server["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    notice_s = int(settings["MASKWIRE_GRPC__DRAIN_NOTICE_S"])
    worker = pod(KUBERNETES / "base/worker/worker.yaml")
    sam3d = pod(KUBERNETES / "overlays/gpu/workers/sam3d/worker.yaml")
    for expected in (
        f"`preStop` sleeps {sleep_s} s",
        f"| {sleep_s} s | SIGTERM",
        f"{settings['MASKWIRE_SESSIONS__DRAIN_GRACE_S']} s (`sessions.drain_grace_s`)",
        f"{notice_s} s (`grpc.drain_notice_s`)",
        f"| {sleep_s + notice_s} s | new calls",
        f"{settings['MASKWIRE_GRPC__SHUTDOWN_GRACE_S']} s (`grpc.shutdown_grace_s`)",
        f"({settings['MASKWIRE_GRPC__MAX_DEADLINE_S']} s, `grpc.max_deadline_s`)",
        f"| {server['terminationGracePeriodSeconds']} s | `terminationGracePeriodSeconds`",
        f"within {worker['terminationGracePeriodSeconds']} s",
        f"({sam3d['terminationGracePeriodSeconds']} s for SAM 3D)",
    ):
        assert expected in told, expected


def test_links_within_the_document_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([\w-]+)\)", TEXT):
        assert anchor in anchors, anchor
    for target in re.findall(r"\]\(([\w/.-]+)\)", TEXT):
        assert (DEPLOY / target).exists(), target


def test_no_address_of_the_internet_is_in_it() -> None:
    for address in re.findall(r"https?://([\w.-]+)", TEXT):
        assert address.endswith((".monitoring", ".example.com", "localhost")), address


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def pod(path: Path) -> Any:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "Deployment":
            return document["spec"]["template"]["spec"]
    raise AssertionError(path)
