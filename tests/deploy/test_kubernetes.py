"""The manifests against the program's settings, command line, contract and images: none runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

from deploy import version
from deploy.kubernetes import settings as generated
from deploy.kubernetes.validate import COMPONENTS, FOLDER, OVERLAYS, Resource, name_of
from maskwire.v1 import segmentation_pb2
from maskwire_server.engines import catalogue
from tests.deploy.manifests import (
    component,
    container_of,
    named,
    of_kind,
    overlay,
    parsed_arguments,
    pod_specs,
    programs,
    settings_of,
)

ROOT = FOLDER.parents[1]
CLUSTERS = [name for name in OVERLAYS if name != "dev"]
ALTERNATIVES = {"hpa", "mig", "time-slicing", "tracing"}
"""Components that stand in for others of `production`, divide its devices, or want a collector."""

# Made by who installs it; each is described where it is used.
SECRETS = {"maskwire-credentials", "maskwire-keys", "maskwire-nats", "maskwire-tls"}

# The flush at the end of a drain, and the process's own end.
_END_S = 5.0

every_overlay = pytest.mark.parametrize("name", OVERLAYS)


def each_program(names: list[str] | tuple[str, ...] = OVERLAYS) -> Iterator[tuple[str, Resource]]:
    for name in names:
        for deployment in programs(overlay(name)):
            yield name, deployment


def variants() -> dict[str, tuple[Resource, ...]]:
    """Return everything that is built: overlays, and components by themselves."""
    return {name: overlay(name) for name in OVERLAYS} | {
        f"components/{name}": component(name) for name in COMPONENTS
    }


def test_the_settings_files_are_what_the_script_makes():
    for name, rows in generated.FILES.items():
        assert (FOLDER / name).read_text() == generated.render(rows), name
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("settings.env")} == set(
        generated.FILES
    )


def test_a_row_without_its_setting_is_no_row():
    with pytest.raises(KeyError):
        generated.render([generated.Row("grpc.prot", 1, "a slip")])


def test_every_variable_is_a_setting_and_has_a_valid_value():
    for name, deployment in each_program():
        settings = settings_of(overlay(name), deployment)
        data = named(overlay(name), "ConfigMap", "maskwire-settings")["data"]
        entries = {entry["name"] for entry in container_of(deployment).get("env", ())}
        ours = {variable for variable in {*data, *entries} if variable.startswith("MASKWIRE_")}
        assert ours <= {
            f"MASKWIRE_{group}__{field}".upper()
            for group, part in settings
            for field in type(part).model_fields
        }, name
        assert settings.grpc.host == settings.metrics.host == "0.0.0.0"


def test_the_real_command_line_takes_the_arguments():
    for name, deployment in each_program():
        command, parameters = parsed_arguments(container_of(deployment)["args"])
        role = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        assert command == {"server": "serve", "worker": "worker"}[role], name
        assert "command" not in container_of(deployment), "the image's entry point is the program"
        if command == "worker":
            assert parameters["count"], "the shared settings say 0"


def test_an_argument_that_the_command_line_lacks_is_found():
    with pytest.raises(Exception, match="No such option"):
        parsed_arguments(["worker", "--queues", "segmentation"])


def test_ports_are_those_that_the_program_listens_on():
    for name, deployment in each_program():
        settings = settings_of(overlay(name), deployment)
        container = container_of(deployment)
        declared = {port["name"]: port["containerPort"] for port in container["ports"]}
        worker = deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
        calls = {"health": settings.jobs.health_port} if worker else {"grpc": settings.grpc.port}
        assert declared == {**calls, "metrics": settings.metrics.port}, name
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"]["port"] in calls.values(), name


def test_probes_ask_for_what_the_server_serves():
    service = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name
    for name, deployment in each_program():
        container = container_of(deployment)
        worker = deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
        for probe in ("startupProbe", "readinessProbe"):
            asked = container[probe]["grpc"].get("service", "")
            assert asked == ("" if worker else service), name
        # Of the process as a whole: NOT_SERVING of one service must not end it.
        assert "service" not in container["livenessProbe"]["grpc"]


def test_a_pod_may_end_by_itself_before_it_is_killed():
    for name, deployment in each_program():
        settings = settings_of(overlay(name), deployment)
        spec = deployment["spec"]["template"]["spec"]
        stop = container_of(deployment).get("lifecycle", {}).get("preStop", {"sleep": {}})
        sleep_s = stop["sleep"].get("seconds", 0)
        drain_s = settings.grpc.drain_notice_s + settings.grpc.shutdown_grace_s
        # A server that works on jobs itself ends its calls first, then those.
        if "sleep" in stop and settings.jobs.workers and sleep_s:
            drain_s += settings.grpc.shutdown_grace_s
        grace_s = spec["terminationGracePeriodSeconds"]
        assert grace_s > sleep_s + drain_s + _END_S, name
        if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "server":
            assert sleep_s > 0
            assert grace_s > sleep_s + settings.sessions.lease_s, name
            assert settings.grpc.shutdown_grace_s > settings.grpc.max_deadline_s, name
            assert settings.sessions.drain_grace_s < settings.grpc.shutdown_grace_s, name


def test_a_model_may_load_before_the_pod_is_given_up():
    for name, deployment in each_program():
        probe = container_of(deployment)["startupProbe"]
        allowed_s = probe["periodSeconds"] * probe["failureThreshold"]
        assert deployment["spec"]["progressDeadlineSeconds"] > allowed_s, name
        assert allowed_s >= 300


def test_a_roll_out_needs_no_spare_device():
    for name, deployment in each_program():
        if "nvidia.com/gpu" in container_of(deployment)["resources"]["limits"]:
            rolling = deployment["spec"]["strategy"]["rollingUpdate"]
            assert rolling == {"maxSurge": 0, "maxUnavailable": 1}, name


def test_the_tags_are_what_the_script_makes():
    texts = {path: path.read_text() for path in version.files()}
    for path, text in texts.items():
        assert version.versioned(text, version.current()) == text, path
    # Every tag that looks like a version of ours is one that the script finds.
    written = re.findall(r"\b\d+\.\d+\.\d+(?=-cpu|-cuda)", "".join(texts.values()))
    renewed = "".join(version.versioned(text, "9.9.9") for text in texts.values())
    assert written
    assert len(re.findall(r"9\.9\.9(?=-cpu|-cuda)", renewed)) == len(written)
    assert "newTag: 2.12.1-alpine" in renewed, "the image of NATS is not ours"


@every_overlay
def test_images_have_this_version_and_are_built_from_here(name):
    for one, spec in pod_specs(overlay(name)):
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            image, _, tag = container["image"].partition(":")
            assert tag, f"{name_of(one)}: {image} has no tag"
            if image.startswith("maskwire"):
                assert tag.removesuffix("-cpu").removesuffix("-cuda") == version.current()
                assert image in {"maskwire-server", "maskwire-worker", "maskwire-worker-sam3d"}
                assert f"-t {image} " in dockerfile(image) + " ", image


def dockerfile(image: str) -> str:
    name = "sam3d.Dockerfile" if image.endswith("sam3d") else "Dockerfile"
    return (ROOT / "deploy" / "containers" / name).read_text()


def test_the_images_run_as_the_manifests_say():
    for name, deployment in each_program():
        context = deployment["spec"]["template"]["spec"]["securityContext"]
        image = container_of(deployment)["image"].partition(":")[0]
        (user,) = set(re.findall(r"(?m)^USER (\S+)$", dockerfile(image)))
        assert user == f"{context['runAsUser']}:{context['runAsGroup']}", name
        (entry,) = set(re.findall(r"(?m)^ENTRYPOINT (.+)$", dockerfile(image)))
        assert yaml.safe_load(entry) == ["maskwire"]


def test_what_the_program_writes_is_on_volumes():
    for name, deployment in each_program():
        settings = settings_of(overlay(name), deployment)
        written = {"/tmp", generated.DATA}
        mounted = {mount["mountPath"] for mount in container_of(deployment)["volumeMounts"]}
        assert written <= mounted, name
        assert str(settings.models.cache_folder) in mounted
        if settings.jobs.backend == "sqlite":
            assert str(settings.jobs.database).startswith(f"{generated.DATA}/")
            assert str(settings.storage.url).startswith(f"file://{generated.DATA}/")


def test_every_pod_keeps_the_restricted_standard():
    for variant, resources in variants().items():
        for one, spec in pod_specs(resources):
            where = f"{variant}: {name_of(one)}"
            context = spec["securityContext"]
            assert context["runAsNonRoot"] is True, where
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert spec["automountServiceAccountToken"] is False, where
            assert spec["priorityClassName"].startswith("maskwire-"), where
            for container in [*spec["containers"], *spec.get("initContainers", ())]:
                own = container["securityContext"]
                assert own["readOnlyRootFilesystem"] is True, where
                assert own["allowPrivilegeEscalation"] is False, where
                assert own["capabilities"] == {"drop": ["ALL"]}, where
                assert "memory" in container["resources"]["limits"], where
                assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where


def test_what_pods_refer_to_is_there():
    for variant, resources in variants().items():
        maps = {one["metadata"]["name"] for one in of_kind(resources, "ConfigMap")}
        claims = {one["metadata"]["name"] for one in of_kind(resources, "PersistentVolumeClaim")}
        classes = {one["metadata"]["name"] for one in of_kind(resources, "PriorityClass")}
        for one, spec in pod_specs(resources):
            found = references(spec)
            assert found["configMap"] <= maps, f"{variant}: {name_of(one)}"
            assert found["claim"] <= claims, f"{variant}: {name_of(one)}"
            assert found["secret"] <= SECRETS, f"{variant}: {name_of(one)}"
            assert spec["priorityClassName"] in classes, f"{variant}: {name_of(one)}"


def references(spec: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"configMap": set(), "claim": set(), "secret": set()}
    for volume in spec.get("volumes", ()):
        if "configMap" in volume:
            found["configMap"].add(volume["configMap"]["name"])
        if "secret" in volume:
            found["secret"].add(volume["secret"]["secretName"])
        if "persistentVolumeClaim" in volume:
            found["claim"].add(volume["persistentVolumeClaim"]["claimName"])
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        for source in container.get("envFrom", ()):
            kind = "configMap" if "configMapRef" in source else "secret"
            found[kind].add(source[f"{kind}Ref"]["name"])
        for entry in container.get("env", ()):
            if "secretKeyRef" in entry.get("valueFrom", {}):
                found["secret"].add(entry["valueFrom"]["secretKeyRef"]["name"])
    return found


def labels_of(one: Resource) -> dict[str, str]:
    labels: dict[str, str] = one["spec"]["template"]["metadata"]["labels"]
    return labels


def test_no_two_deployments_take_each_other_s_pods():
    for variant, resources in variants().items():
        makers = of_kind(resources, "Deployment", "StatefulSet")
        for one in makers:
            wanted = one["spec"]["selector"]["matchLabels"].items()
            taken = [name_of(other) for other in makers if wanted <= labels_of(other).items()]
            assert taken == [name_of(one)], variant


def test_services_and_budgets_select_pods_that_have_their_ports():
    for variant, resources in variants().items():
        makers = of_kind(resources, "Deployment", "StatefulSet")
        for one in of_kind(resources, "Service", "PodDisruptionBudget"):
            selector = one["spec"]["selector"]
            wanted = selector.get("matchLabels", selector).items()
            chosen = [maker for maker in makers if wanted <= labels_of(maker).items()]
            assert len(chosen) == 1, f"{variant}: {name_of(one)}"
            ports = {port["name"] for port in container_of(chosen[0])["ports"]}
            for port in one["spec"].get("ports", ()):
                assert port["targetPort"] in ports, f"{variant}: {name_of(one)}"


@every_overlay
def test_nothing_is_allowed_that_is_not_named(name):
    policies = {
        one["metadata"]["name"]: one["spec"] for one in of_kind(overlay(name), "NetworkPolicy")
    }
    deny = policies.pop("maskwire-default-deny")
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies.values():
        for rule in [*policy.get("ingress", ()), *policy.get("egress", ())]:
            assert rule["ports"], "a rule without ports allows all of them"
            assert rule.get("from") or rule.get("to")
            for peer in rule.get("to", ()):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]


def test_spans_may_go_where_they_are_sent():
    resources = component("tracing")
    policy = named(resources, "NetworkPolicy", "maskwire-tracing")["spec"]
    (rule,) = policy["egress"]
    (namespace,) = (
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in rule["to"]
    )
    for deployment in programs(resources):
        tracing = settings_of(resources, deployment).tracing
        assert tracing.enabled
        endpoint = urlsplit(tracing.endpoint)
        assert endpoint.hostname is not None
        assert endpoint.hostname.split(".")[1] == namespace
        assert [endpoint.port] == [port["port"] for port in rule["ports"]]
        wanted = policy["podSelector"]
        assert wanted["matchLabels"].items() <= labels_of(deployment).items()
        (expression,) = wanted["matchExpressions"]
        assert labels_of(deployment)[expression["key"]] in expression["values"]
    assert not settings_of(overlay("gpu"), programs(overlay("gpu"))[0]).tracing.enabled


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_queue_has_workers_and_every_job_outlives_its_server(name):
    served: set[str] = set()
    wanted = {"segmentation"}
    for deployment in programs(overlay(name)):
        settings = settings_of(overlay(name), deployment)
        assert settings.jobs.backend == "nats"
        assert settings.jobs.nats_replicas == 3
        assert settings.storage.url is not None
        wanted |= {*settings.reconstruction.object_models, *settings.reconstruction.body_models}
        if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker":
            served |= set(settings.jobs.queues)
        else:
            assert settings.jobs.workers == 0
    assert served == wanted


def test_production_has_every_component():
    kustomization = yaml.safe_load((FOLDER / "overlays/production/kustomization.yaml").read_text())
    used = {Path(path).relative_to("../../components") for path in kustomization["components"]}
    assert {str(path) for path in used} == set(COMPONENTS) - ALTERNATIVES


def test_the_weights_of_served_models_are_fetched():
    pulled = named(overlay("production"), "ConfigMap", "maskwire-models")["data"]["MODELS"].split()
    for model in pulled:
        assert catalogue.require(model).is_pulled
    (server,) = (
        one
        for one in programs(overlay("production"))
        if one["metadata"]["name"] == "maskwire-server"
    )
    served = {model.name for model in settings_of(overlay("production"), server).models.serve}
    assert served == set(pulled)


def test_the_pools_for_3d_and_for_serving_share_no_node():
    pools = {}
    for deployment in programs(overlay("gpu")):
        affinity = deployment["spec"]["template"]["spec"].get("affinity")
        if affinity is None:
            continue
        (term,) = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        wanted = {one["key"]: one["values"] for one in term["matchExpressions"]}
        assert wanted["nvidia.com/gpu.product"]
        pools[deployment["metadata"]["name"]] = wanted["maskwire-pool"]
    assert pools == {
        "maskwire-server": ["interactive"],
        "maskwire-worker": ["interactive"],
        "maskwire-worker-sam3d": ["reconstruction"],
    }
