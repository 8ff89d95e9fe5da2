"""What replicas are scaled by: every query names metrics of the program, every queue is one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

from deploy.kubernetes import prometheus_rules
from maskwire_server.jobs.nats.names import WORKERS, Names
from maskwire_server.settings import Settings
from tests.deploy.monitoring import DEPLOY, exposed_labels, promtool, read_yaml
from tests.support.contract_methods import services
from tests.support.promql import references, unknown_references

COMPONENTS = DEPLOY / "kubernetes" / "components"
KEDA = (COMPONENTS / "keda/servers.yaml", COMPONENTS / "keda/workers.yaml")
RECONSTRUCTION = COMPONENTS / "keda/reconstruction/workers.yaml"
ADAPTER = COMPONENTS / "hpa/prometheus-adapter-rules.yaml"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def triggers(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the metadata of every trigger of a kind, with the name of what it scales."""
    for path in (*KEDA, RECONSTRUCTION):
        for scaled in documents(path):
            for trigger in scaled["spec"]["triggers"]:
                if trigger["type"] == kind:
                    yield scaled["metadata"]["name"], trigger["metadata"]


def adapter_rules() -> list[dict[str, Any]]:
    content = read_yaml(ADAPTER)
    return [*content["rules"], *content["externalRules"]]


def adapter_queries() -> Iterator[str]:
    """Yield PromQL of the adapter's rules, as the adapter would write it for pods."""
    for rule in adapter_rules():
        yield rule["seriesQuery"]
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
        yield query.replace("<<.LabelMatchers>>", 'namespace="maskwire"')


QUERIES = [metadata["query"] for _, metadata in triggers("prometheus")] + list(adapter_queries())
# The PodMonitor adds these.
KNOWN = {
    metric: labels | {"namespace", "pod", "job"} for metric, labels in exposed_labels().items()
}


@pytest.mark.parametrize("query", QUERIES)
def test_queries_name_metrics_of_the_program(query):
    assert references(query).metrics
    assert not list(unknown_references(query, KNOWN))


def test_promtool_reads_the_queries(tmp_path):
    rules = [{"record": f"query_{number}", "expr": one} for number, one in enumerate(QUERIES)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run(
        [promtool(), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_executors_that_are_no_devices_are_left_out():
    """Threads of the CPU, and of workers; whatever has another name belongs to a device."""
    named = {name for query in QUERIES for name in re.findall(r'executor!~"([^"]+)"', query)}
    source = (DEPLOY.parent / "service/maskwire_server/composition").rglob("*.py")
    executors = {
        name
        for path in source
        for name in re.findall(r'BoundedExecutor\(\s*"([a-z]+)"', path.read_text())
    }
    assert [set(names.split("|")) for names in named] == [executors]


@pytest.mark.parametrize(("scaled", "trigger"), list(triggers("nats-jetstream")))
def test_queues_are_those_that_the_workers_take(scaled, trigger):
    names = Names(Settings().jobs.nats_prefix)
    taken = {
        queue
        for path in (DEPLOY / "kubernetes").rglob("worker.yaml")
        for document in documents(path)
        for container in document["spec"]["template"]["spec"]["containers"]
        for queue in queues_of(container.get("args", []))
    }
    assert trigger["consumer"] == WORKERS
    queues = [queue for queue in taken if names.queue_stream(queue) == trigger["stream"]]
    assert len(queues) == 1, f"{scaled}: no worker takes what is in {trigger['stream']}"


def queues_of(arguments: list[str]) -> list[str]:
    return [value for key, value in pairwise(arguments) if key == "--queue"]


def test_each_queue_of_a_pool_scales_it():
    pools = {
        "maskwire-worker": DEPLOY / "kubernetes/base/worker/worker.yaml",
        "maskwire-worker-sam3d": DEPLOY / "kubernetes/overlays/gpu/workers/sam3d/worker.yaml",
        "maskwire-worker-inflate": DEPLOY / "kubernetes/overlays/gpu/workers/inflate/worker.yaml",
    }
    scaled_by: dict[str, set[str]] = {name: set() for name in pools}
    for name, trigger in triggers("nats-jetstream"):
        scaled_by[name].add(trigger["stream"])
    names = Names(Settings().jobs.nats_prefix)
    for name, path in pools.items():
        (document,) = documents(path)
        (container,) = document["spec"]["template"]["spec"]["containers"]
        assert scaled_by[name] == {
            names.queue_stream(queue) for queue in queues_of(container["args"])
        }


def test_the_depth_is_read_where_nats_tells_it():
    services = [one for one in documents(COMPONENTS / "nats/nats.yaml") if one["kind"] == "Service"]
    (monitoring,) = (
        (service["metadata"]["name"], port["port"])
        for service in services
        for port in service["spec"]["ports"]
        if port["name"] == "monitor"
    )
    endpoint = "{}.maskwire.svc.cluster.local:{}".format(*monitoring)
    found = {data["natsServerMonitoringEndpoint"] for _, data in triggers("nats-jetstream")}
    assert found == {endpoint}


def test_servers_go_slowly_and_3d_workers_go_to_none():
    (servers,) = documents(KEDA[0])
    (autoscaled,) = documents(COMPONENTS / "hpa/servers.yaml")
    keda_behaviour = servers["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert keda_behaviour == autoscaled["spec"]["behavior"]
    assert keda_behaviour["scaleDown"]["stabilizationWindowSeconds"] >= 600
    assert servers["spec"]["minReplicaCount"] >= 2
    for scaled in documents(RECONSTRUCTION):
        assert scaled["spec"]["minReplicaCount"] == 0


def test_autoscalers_ask_for_what_the_adapter_has():
    asked = set()
    for name in ("servers.yaml", "workers.yaml"):
        for autoscaler in documents(COMPONENTS / "hpa" / name):
            for metric in autoscaler["spec"]["metrics"]:
                content = metric[metric["type"].lower()]
                asked.add((metric["type"], content["metric"]["name"]))
    content = read_yaml(ADAPTER)
    offered = {("Pods", rule["name"]["as"]) for rule in content["rules"]}
    offered |= {("External", rule["name"]["as"]) for rule in content["externalRules"]}
    assert asked == offered


def test_scraping_has_the_ports_and_the_jobs_that_rules_and_dashboards_know():
    monitors = documents(COMPONENTS / "pod-monitor/pod-monitors.yaml")
    jobs = {}
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (relabeling,) = endpoint["relabelings"]
        assert relabeling["targetLabel"] == "job"
        component = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        jobs[component] = (relabeling["replacement"], endpoint["port"])
    assert jobs == {
        "server": ("maskwire-server", "metrics"),
        "worker": ("maskwire-worker", "metrics"),
        "envoy": ("maskwire-envoy", "monitoring"),
    }
    configuration = read_yaml(DEPLOY / "prometheus/prometheus.yml")
    scraped = {one["job_name"] for one in configuration["scrape_configs"]}
    assert {"maskwire-server", "maskwire-worker"} <= scraped


def test_the_resource_of_the_rules_is_up_to_date():
    assert prometheus_rules.FILE.read_text() == prometheus_rules.text()


def test_the_resource_has_all_rules():
    groups = read_yaml(prometheus_rules.FILE)["spec"]["groups"]
    expected = [
        group
        for name in ("recording-rules.yml", "alerting-rules.yml")
        for group in read_yaml(DEPLOY / "prometheus" / name)["groups"]
    ]
    assert groups == expected


def test_every_dashboard_is_shipped():
    (generator,) = read_yaml(DEPLOY / "grafana/kustomization.yaml")["configMapGenerator"]
    assert sorted(generator["files"]) == sorted(
        path.name for path in (DEPLOY / "grafana").glob("*.json")
    )
    assert generator["options"]["labels"]["grafana_dashboard"] == "1"


def test_the_gateway_lets_every_service_in():
    (route,) = documents(COMPONENTS / "grpc-route/grpc-route.yaml")
    (rule,) = route["spec"]["rules"]
    served = {service.full_name for service in services()}
    assert {match["method"]["service"] for match in rule["matches"]} == served | {
        "grpc.health.v1.Health"
    }
