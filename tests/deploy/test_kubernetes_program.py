"""The real program as the manifests start it: arguments, environment, probes, metrics, end.

Everything is taken from the built overlays. Changed is only what cannot be the same here: ports, so
that tests may run beside each other; the mounted folders; NATS, which is one server at another
address; and the object store, which is a folder.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.kubernetes import settings as generated
from deploy.kubernetes.validate import FOLDER
from tests.deploy.manifests import container_of, environment_of, overlay, programs
from tests.support.metrics_page import metrics_page
from tests.support.nats_process import nats_process, nats_program
from tests.support.ports import free_ports

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_START_TIMEOUT_S = 240.0
_READY_EVENTS = ("serving", "working")
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


class Started:
    """A container's program, with the ports that the manifest's were changed to."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        program = Path(sys.prefix) / "bin" / "maskwire"
        self.process = subprocess.Popen(
            [program, *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: deque[str] = deque(maxlen=1000)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Return once it says that it serves or works."""
        assert self._ready.wait(_START_TIMEOUT_S), "\n".join(self.log)
        assert self.process.poll() is None, "\n".join(self.log)

    def wait(self, within_s: float) -> int:
        """Return how it ended, once its log is read."""
        code = self.process.wait(within_s)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            for line in self.process.stderr:
                self.log.append(line.rstrip("\n"))
                if any(re.search(rf'"event": "{one}"|\b{one}\b', line) for one in _READY_EVENTS):
                    self._ready.set()
        self._ready.set()


def moved(environment: dict[str, str], folder: Path, nats_url: str) -> dict[str, str]:
    """Return an environment with this machine's folders and services instead of the cluster's."""
    there = {
        name: value.replace(generated.DATA, f"{folder}/data")
        .replace(generated.WEIGHTS, f"{folder}/weights")
        .replace("maskwire-nats:4222", nats_url.removeprefix("nats://"))
        for name, value in environment.items()
    }
    if there["MASKWIRE_STORAGE__URL"].startswith("s3://"):
        there["MASKWIRE_STORAGE__URL"] = f"file://{folder}/data/files"
    (folder / "data" / "files").mkdir(parents=True)
    return there | {"MASKWIRE_JOBS__NATS_REPLICAS": "1", "HOME": f"{folder}/data"}


@contextmanager
def started(
    container: dict[str, Any], environment: dict[str, str]
) -> Iterator[tuple[Started, dict[int, int]]]:
    """Run a container's program; yield it and the port that stands for each of the manifest's."""
    numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
    here = dict(zip(numbers, free_ports(len(numbers)), strict=True))
    variables = {
        "grpc": "MASKWIRE_GRPC__PORT",
        "health": "MASKWIRE_JOBS__HEALTH_PORT",
        "metrics": "MASKWIRE_METRICS__PORT",
    }
    ports = {variables[name]: str(port) for name, port in here.items()}
    program = Started(container["args"], environment | ports)
    try:
        program.wait_until_ready()
        yield program, {numbers[name]: here[name] for name in numbers}
    finally:
        program.process.kill()
        program.wait(_START_TIMEOUT_S)


def asked(probe: Mapping[str, Any], ports: Mapping[int, int]) -> int:
    """Ask as the kubelet asks, and return the status."""
    with grpc.insecure_channel(f"127.0.0.1:{ports[probe['grpc']['port']]}") as channel:
        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(request, timeout=60)
    status: int = answer.status
    return status


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "deployment"),
    [("dev", "maskwire-server"), ("cpu", "maskwire-server"), ("cpu", "maskwire-worker")],
)
def test_a_container_starts_answers_its_probes_is_scraped_and_drains(name, deployment, tmp_path):
    (manifest,) = (one for one in programs(overlay(name)) if one["metadata"]["name"] == deployment)
    container = container_of(manifest)
    (tmp_path / "nats").mkdir()
    with nats_process(nats_program(), tmp_path / "nats") as nats:
        environment = moved(environment_of(overlay(name), container), tmp_path, nats.url)
        with started(container, environment) as (program, ports):
            for probe in _PROBES:
                assert asked(container[probe], ports) == SERVING, probe
            page = metrics_page(ports[9464])
            role = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
            assert f'maskwire_ready{{role="{role}"}} 1.0' in page
            statuses = watched_until_not_serving(program, container["readinessProbe"], ports)
            assert statuses == [SERVING, NOT_SERVING]
            grace_s = manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            assert program.wait(grace_s) == 0, "\n".join(program.log)


def watched_until_not_serving(
    program: Started, probe: Mapping[str, Any], ports: Mapping[int, int]
) -> list[int]:
    """End the program and return what it said about itself until it no longer served."""
    with grpc.insecure_channel(f"127.0.0.1:{ports[probe['grpc']['port']]}") as channel:
        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
        health: Any = health_pb2_grpc.HealthStub(channel)
        statuses: list[int] = []
        for answer in health.Watch(request, timeout=60):
            statuses.append(answer.status)
            if answer.status != SERVING:
                break
            program.process.send_signal(signal.SIGTERM)
    return statuses


def test_the_configuration_of_nats_is_one_that_nats_takes(tmp_path):
    program = nats_program()
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    number = re.search(r"v(\d+)\.(\d+)", version.stdout + version.stderr)
    assert number is not None
    shipped = (FOLDER / "components/nats/nats.conf").read_text()
    assert "sync_interval: always" in shipped
    if (int(number[1]), int(number[2])) < (2, 10):
        # Debian's does not know it: everything else is tested here.
        refused = judged(program, shipped, tmp_path)
        assert refused.returncode
        assert "sync_interval" in refused.stderr + refused.stdout
        shipped = shipped.replace("sync_interval: always", "")
    taken = judged(program, shipped, tmp_path)
    assert taken.returncode == 0, taken.stderr + taken.stdout
    slip = judged(program, shipped.replace("store_dir", "store_folder"), tmp_path)
    assert slip.returncode, "a field that NATS does not know is refused"


def judged(program: str, configuration: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "nats.conf"
    file.write_text(configuration)
    variables = {"POD_NAME": "maskwire-nats-0", "NATS_USER": "a", "NATS_PASSWORD": "b"}
    return subprocess.run(
        [program, "-t", "-c", str(file)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_variable_that_is_no_setting_ends_the_program():
    (manifest,) = programs(overlay("dev"))
    environment = environment_of(overlay("dev"), container_of(manifest))
    broken = Started(["serve"], environment | {"MASKWIRE_GRPC__PROT": "1", "HOME": "/tmp"})
    assert broken.wait(_START_TIMEOUT_S) != 0
    assert "grpc.prot" in "\n".join(broken.log)
