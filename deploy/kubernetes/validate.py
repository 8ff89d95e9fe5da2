"""Judges the manifests: `python -m deploy.kubernetes.validate`, a part of `make check`.

Every overlay is built, and every component by itself on one of them, as `kubectl apply -k` would.
What comes out goes to three judges: `kubernetes-validate --strict` for the oldest, a middle and the
newest supported version of Kubernetes, the schemas of custom resources (`custom_resources.mjs`),
and checkov with the exceptions of `checkov.yaml`. A kind that nobody knows is a fault. `make tools`
installs the judges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

Resource = Mapping[str, Any]
"""One object of a manifest, as YAML has it."""

FOLDER = Path(__file__).parent
"""The tree of manifests."""

OVERLAYS = tuple(sorted(path.name for path in (FOLDER / "overlays").iterdir() if path.is_dir()))
"""Their names."""

COMPONENTS = tuple(
    sorted(
        str(path.parent.relative_to(FOLDER / "components"))
        for path in (FOLDER / "components").rglob("kustomization.yaml")
    )
)
"""Their names, below `components`."""

VERSIONS = ("1.30", "1.33", "1.36")
"""Versions of Kubernetes that the manifests are for."""

CUSTOM_GROUPS = frozenset(
    {"cert-manager.io", "gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com"}
)
"""API groups that are judged by `custom_resources.mjs`; all others are Kubernetes' own."""

_COMPONENTS_ON = "gpu"
_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Judges:
    """Where the programs are that `make tools` installs."""

    kubectl: Path
    kubernetes_validate: Path
    node: Path
    node_modules: Path
    checkov: Path

    @classmethod
    def beside(cls, environment: Path) -> Judges:
        """Return those of a virtual environment."""
        programs = environment / "tools" / "bin"
        return cls(
            kubectl=programs / "kubectl",
            kubernetes_validate=programs / "kubernetes-validate",
            node=programs / "node",
            node_modules=environment / "tools" / "node_modules",
            checkov=environment / "checkov" / "bin" / "checkov",
        )


def build(judges: Judges, folder: Path) -> list[Resource]:
    """Build a kustomization.

    Raises:
        RuntimeError: It does not build; the message says why.
    """
    completed = _run([judges.kubectl, "kustomize", folder])
    if completed.returncode:
        raise RuntimeError(f"{folder} does not build: {completed.stderr.strip()}")
    return [document for document in yaml.load_all(completed.stdout, yaml.CSafeLoader) if document]


def build_overlay(judges: Judges, name: str) -> list[Resource]:
    """Build an overlay, as `build`."""
    return build(judges, FOLDER / "overlays" / name)


def build_component(judges: Judges, name: str) -> list[Resource]:
    """Build a component on an overlay that has what components change, as `build`."""
    with tempfile.TemporaryDirectory() as folder:
        # kustomize wants its paths relative.
        root = os.path.relpath(FOLDER, Path(folder).resolve())
        kustomization = {
            "resources": [f"{root}/overlays/{_COMPONENTS_ON}"],
            "components": [f"{root}/components/{name}"],
            "images": [{"name": "maskwire-server", "newTag": "0"}],
        }
        (Path(folder) / "kustomization.yaml").write_text(json.dumps(kustomization))
        return build(judges, Path(folder))


def faults_of_core(judges: Judges, resources: Sequence[Resource], version: str) -> list[str]:
    """Return what a version of Kubernetes would refuse, fields that it does not know included."""
    with _written(resources) as file:
        command: list[str | Path] = [
            judges.kubernetes_validate,
            "--strict",
            "--quiet",
            "-k",
            version,
            file.name,
        ]
        completed = _run(command)
    lines = [
        line.replace(file.name, f"Kubernetes {version}:")
        for line in (completed.stdout + completed.stderr).splitlines()
    ]
    if completed.returncode and not lines:
        return [f"kubernetes-validate ended with {completed.returncode}"]
    return lines


def faults_of_custom(judges: Judges, resources: Sequence[Resource]) -> list[str]:
    """Return what the schemas of custom resources refuse, kinds without a schema included."""
    program = FOLDER / "custom_resources.mjs"
    completed = _run([judges.node, program, judges.node_modules], json.dumps(resources))
    if completed.returncode:
        return [f"custom_resources.mjs failed: {completed.stderr.strip()}"]
    faults = [json.loads(line) for line in completed.stdout.splitlines()]
    return [f"{name_of(resources[fault['index']])}: {fault['message']}" for fault in faults]


def faults_of_policy(judges: Judges, resources: Sequence[Resource]) -> list[str]:
    """Return checkov's warnings that nobody gave a reason against."""
    with _written(resources) as file:
        completed = _run(
            [judges.checkov, "--config-file", FOLDER / "checkov.yaml", "--file", file.name]
        )
    if completed.returncode:
        return [completed.stdout.strip() + completed.stderr.strip()]
    return []


def name_of(resource: Resource) -> str:
    """Return kind, namespace and name, for messages."""
    metadata = resource.get("metadata", {})
    where = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{resource.get('kind')} {where}{metadata.get('name')}"


def is_custom(resource: Resource) -> bool:
    """Return whether Kubernetes itself knows the kind not."""
    return str(resource.get("apiVersion")).split("/")[0] in CUSTOM_GROUPS


def different(builds: Iterable[Sequence[Resource]]) -> list[Resource]:
    """Return each resource once, however many builds have it."""
    found = {json.dumps(one, sort_keys=True): one for resources in builds for one in resources}
    return list(found.values())


def validate(judges: Judges) -> list[str]:
    """Build everything and return all faults."""
    # As many at a time as there are cores: each is a process of its own.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        overlays = pool.map(lambda name: build_overlay(judges, name), OVERLAYS)
        components = pool.map(lambda name: build_component(judges, name), COMPONENTS)
        try:
            resources = different([*overlays, *components])
        except RuntimeError as error:
            return [str(error)]
        core = [one for one in resources if not is_custom(one)]
        custom = [one for one in resources if is_custom(one)]
        checks: list[Callable[[], list[str]]] = [
            lambda: faults_of_policy(judges, resources),
            lambda: faults_of_custom(judges, custom),
            *(
                lambda version=version: faults_of_core(judges, core, version)
                for version in VERSIONS
            ),
        ]
        found = pool.map(lambda check: check(), checks)
        return [fault for faults in found for fault in faults]


def main() -> None:
    """Print the faults, and end with 1 where there are any."""
    faults = validate(Judges.beside(Path(sys.prefix)))
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    sys.exit(1 if faults else 0)


def _run(
    command: Sequence[str | Path], given: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


def _written(resources: Sequence[Resource]) -> tempfile._TemporaryFileWrapper[str]:
    file = tempfile.NamedTemporaryFile("w", suffix=".yaml")  # noqa: SIM115  # the caller closes it
    # Without aliases, which some judges do not follow.
    file.write("\n---\n".join(json.dumps(resource) for resource in resources))
    file.flush()
    return file


if __name__ == "__main__":
    main()
