"""The judges of the manifests refuse what is wrong, and every exception from them has a reason."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import pytest

from deploy.kubernetes.validate import (
    COMPONENTS,
    CUSTOM_GROUPS,
    FOLDER,
    OVERLAYS,
    build,
    faults_of_core,
    faults_of_custom,
    faults_of_policy,
    is_custom,
    name_of,
)
from tests.deploy.manifests import JUDGES, component, named, overlay
from tests.support.tools import tool

_SCALED = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "one"},
    "spec": {
        "scaleTargetRef": {"name": "one"},
        "triggers": [{"type": "prometheus", "metadata": {"query": "1"}}],
    },
}


def changed(resource: Any, **spec: object) -> dict[str, Any]:
    other: dict[str, Any] = copy.deepcopy(resource)
    other["spec"].update(spec)
    return other


def test_a_field_or_a_kind_that_kubernetes_does_not_know_is_a_fault():
    tool("kubernetes-validate", "whether wrong manifests are refused")
    server = named(overlay("dev"), "Deployment", "maskwire-server")
    wrong = [
        server,
        changed(server, replica=1),
        changed(server, replicas="one"),
        {"apiVersion": "batch/v1", "kind": "Jobs", "metadata": {"name": "one"}},
    ]
    faults = "\n".join(faults_of_core(JUDGES, wrong, "1.33"))
    assert "'replica' was unexpected" in faults
    assert "'one' is not of type" in faults
    assert "Couldn't find schema for kind Jobs" in faults
    assert not faults_of_core(JUDGES, [server], "1.33")


def test_a_field_a_value_or_a_kind_that_no_schema_has_is_a_fault():
    tool("node", "custom resources")
    wrong = [
        _SCALED,
        changed(_SCALED, maxReplicas=3),
        changed(_SCALED, minReplicaCount="1"),
        _SCALED | {"kind": "ScaledObjects"},
        _SCALED | {"apiVersion": "example.com/v1"},
    ]
    faults = faults_of_custom(JUDGES, wrong)
    surplus = [fault for fault in faults if "does not exist" in fault]
    assert len(surplus) == 1
    assert "maxReplicas" in surplus[0]
    assert any("minReplicaCount must be integer" in fault for fault in faults)
    assert any("no schema of keda.sh/v1alpha1 ScaledObjects" in fault for fault in faults)
    assert any("no schema of example.com/v1 ScaledObject" in fault for fault in faults)
    assert not faults_of_custom(JUDGES, [_SCALED])


def test_a_policy_that_nobody_gave_a_reason_against_is_a_fault():
    tool("checkov", "policies")
    server = copy.deepcopy(named(overlay("dev"), "Deployment", "maskwire-server"))
    context = server["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    context["privileged"] = True
    (fault,) = faults_of_policy(JUDGES, [server])
    assert "CKV_K8S_16" in fault


def test_every_exception_from_a_policy_has_its_reason():
    lines = (FOLDER / "checkov.yaml").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"\s*- CKV", line):
            assert before.strip().startswith("#"), line
    for resources in [*map(overlay, OVERLAYS), *map(component, COMPONENTS)]:
        for one in resources:
            for name, value in one["metadata"].get("annotations", {}).items():
                if name.startswith("checkov.io/skip"):
                    assert re.fullmatch(r"CKV\w+=.{20,}", value), name_of(one)


def test_a_group_of_custom_resources_is_known_to_both_programs():
    program = (FOLDER / "custom_resources.mjs").read_text()
    assert set(re.findall(r'"([a-z0-9.-]+)": "[a-z-]+",', program)) == CUSTOM_GROUPS
    assert any(map(is_custom, overlay("production")))


def test_what_does_not_build_says_why(tmp_path):
    tool("kubectl", "the manifests")
    (tmp_path / "kustomization.yaml").write_text("resources: [absent.yaml]")
    with pytest.raises(RuntimeError, match=r"does not build: .*absent\.yaml"):
        build(JUDGES, tmp_path)
