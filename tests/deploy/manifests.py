"""The built manifests, and what a container in them is started with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.core

from deploy.kubernetes.validate import Judges, Resource, build_component, build_overlay
from maskwire_client.cli.application import application
from maskwire_server.settings import Settings
from tests.support.tools import tool

JUDGES = Judges.beside(Path(sys.prefix))

SECRET_VALUES = {"NATS_USER": "maskwire", "NATS_PASSWORD": "not-a-secret"}
"""What the Secret `maskwire-nats` has in the tests; other Secrets are optional and absent."""


@cache
def overlay(name: str) -> tuple[Resource, ...]:
    """Return an overlay's resources; skip the test where there is no kubectl."""
    tool("kubectl", "the manifests")
    return tuple(build_overlay(JUDGES, name))


@cache
def component(name: str) -> tuple[Resource, ...]:
    """Return the resources of a component on the overlay that it is judged on."""
    tool("kubectl", "the manifests")
    return tuple(build_component(JUDGES, name))


def of_kind(resources: tuple[Resource, ...], *kinds: str) -> list[Resource]:
    """Return the resources of some kinds."""
    return [one for one in resources if one["kind"] in kinds]


def named(resources: tuple[Resource, ...], kind: str, name: str) -> Resource:
    """Return one resource; a ConfigMap may have the digest of its content behind its name."""
    (found,) = (
        one
        for one in of_kind(resources, kind)
        if one["metadata"]["name"] == name
        or (kind == "ConfigMap" and one["metadata"]["name"].rpartition("-")[0] == name)
    )
    return found


def pod_specs(resources: tuple[Resource, ...]) -> Iterator[tuple[Resource, dict[str, Any]]]:
    """Return everything that makes pods, with their specification."""
    for one in of_kind(resources, "Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield one, one["spec"]["template"]["spec"]


def programs(resources: tuple[Resource, ...]) -> list[Resource]:
    """Return the Deployments that run this program."""
    return [
        one
        for one in of_kind(resources, "Deployment")
        if one["metadata"]["labels"].get("app.kubernetes.io/component") in ("server", "worker")
    ]


def container_of(deployment: Resource) -> dict[str, Any]:
    """Return the container that runs the program."""
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def environment_of(resources: tuple[Resource, ...], container: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment as the kubelet makes it: envFrom first, then env with `$(NAME)`."""
    environment: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            environment |= named(resources, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            assert source["secretRef"]["optional"]
    for entry in container.get("env", ()):
        environment[entry["name"]] = _value_of(entry, container, environment)
    return environment


def _value_of(
    entry: Mapping[str, Any], container: Mapping[str, Any], so_far: dict[str, str]
) -> str:
    if "value" in entry:
        value: str = entry["value"]
        for name, known in so_far.items():
            value = value.replace(f"$({name})", known)
        return value
    source = entry["valueFrom"]
    if "secretKeyRef" in source:
        return SECRET_VALUES[source["secretKeyRef"]["key"]]
    kind, _, resource = source["resourceFieldRef"]["resource"].partition(".")
    return str(container["resources"][kind][resource])


@contextmanager
def only_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Set these variables of the program, and no others of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("MASKWIRE_"):
                patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


def settings_of(resources: tuple[Resource, ...], deployment: Resource) -> Settings:
    """Return the settings in force in a container: its environment, then its arguments."""
    container = container_of(deployment)
    name, parameters = parsed_arguments(container["args"])
    jobs: dict[str, Any] = {}
    if name == "worker":
        jobs = {"queues": parameters["queues"], "workers": parameters["count"]}
    with only_environment(environment_of(resources, container)):
        return Settings.read(jobs=jobs)


def parsed_arguments(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the command that the real command line finds in arguments, and what it would get.

    Raises:
        Exception: Of typer: there is no such command or option, or a value breaks a rule.
    """
    group = typer.main.get_command(application)
    assert isinstance(group, typer.core.TyperGroup)
    with group.make_context("maskwire", list(arguments)) as context:
        name, command, rest = group.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None
        with command.make_context(name, rest, parent=context) as inner:
            return command.name or "", dict(inner.params)
