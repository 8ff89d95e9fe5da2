"""A real Envoy in a process of its own, with the configuration that is shipped.

`substituted` replaces addresses and ports and nothing else: listeners and the admin interface are
on free ports of the loopback interface, and the one name of the servers gives way to their
addresses.
"""

from __future__ import annotations

import copy
import json
import subprocess
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

from tests.support.ports import free_port
from tests.support.tools import tool

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
SERVERS = "maskwire-headless"
"""The name in the configuration that stands for all servers."""

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_KEPT_LOG_LINES = 5000

_ARGUMENTS = ("--disable-hot-restart", "--concurrency", "2", "--file-flush-interval-msec", "100")

Configuration = dict[str, Any]


def shipped() -> Configuration:
    """Return the configuration as it is shipped."""
    return cast("Configuration", yaml.safe_load(CONFIGURATION.read_text()))


def substituted(
    configuration: Configuration, servers: Sequence[str], admin_port: int
) -> Configuration:
    """Return the configuration with the addresses and ports of a test.

    Args:
        configuration: As `shipped`.
        servers: `host:port` of each server.
        admin_port: Free port for the admin interface; listeners take free ones themselves.
    """
    # Aliases of YAML are one object in several places: each place gets its own.
    here: Configuration = json.loads(json.dumps(configuration))
    _set_port(here["admin"], admin_port)
    for listener in here["static_resources"]["listeners"]:
        listener["address"]["socket_address"] = {"address": _LOOPBACK, "port_value": 0}
    for cluster in here["static_resources"]["clusters"]:
        (locality,) = cluster["load_assignment"]["endpoints"]
        (endpoint,) = locality["lb_endpoints"]
        if endpoint["endpoint"]["address"]["socket_address"]["address"] == SERVERS:
            locality["lb_endpoints"] = [_at(endpoint, address) for address in servers]
        else:
            _set_port(endpoint["endpoint"], admin_port)
    return here


def _at(endpoint: Configuration, address: str) -> Configuration:
    host, port = address.rsplit(":", 1)
    moved = copy.deepcopy(endpoint)
    socket_address = moved["endpoint"]["address"]["socket_address"]
    socket_address.update({"address": host, "port_value": int(port)})
    return moved


def _set_port(holder: Configuration, port: int) -> None:
    holder["address"]["socket_address"]["port_value"] = port


class Envoy:
    """A running Envoy.

    Attributes:
        address: `host:port` of the listener for gRPC.
        monitoring: `host:port` of the listener for probes and scrapes.
        log: The latest lines of the process's own log.
    """

    def __init__(self, program: Path, file: Path, admin_port: int) -> None:
        self._admin = f"http://{_LOOPBACK}:{admin_port}"
        self.address = ""
        self.monitoring = ""
        self._calls: deque[dict[str, Any]] = deque(maxlen=_KEPT_LOG_LINES)
        self._called = threading.Condition()
        self.log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._started = threading.Event()
        self.process = subprocess.Popen(
            [str(program), "-c", str(file), *_ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=arguments, daemon=True)
            for arguments in (
                (self.process.stdout, self._note_call),
                (self.process.stderr, self._note),
            )
        ]
        for reader in self._readers:
            reader.start()

    def wait_until_started(self) -> None:
        """Return once it has checked every server and listens; fail with its log otherwise."""
        if not self._started.wait(_START_TIMEOUT_S) or self.process.poll() is not None:
            self.process.kill()
            raise AssertionError("Envoy did not start:\n" + "\n".join(self.log))
        ports = {
            status["name"]: status["local_address"]["socket_address"]["port_value"]
            for status in self.ask("/listeners?format=json")["listener_statuses"]
        }
        self.address = f"{_LOOPBACK}:{ports['grpc']}"
        self.monitoring = f"{_LOOPBACK}:{ports['monitoring']}"

    def ask(self, path: str) -> Any:
        """Return what the admin interface answers, in JSON."""
        with urllib.request.urlopen(self._admin + path, timeout=30) as answer:
            return json.loads(answer.read())

    def statistic(self, name: str) -> int:
        """Return one counter or gauge by its full name."""
        stats = self.ask(f"/stats?format=json&filter=^{name}$")["stats"]
        return sum(int(stat["value"]) for stat in stats)

    def healthy(self, cluster: str) -> set[str]:
        """Return `host:port` of a cluster's servers that calls may go to."""
        statuses = self.ask("/clusters?format=json")["cluster_statuses"]
        (hosts,) = (one["host_statuses"] for one in statuses if one["name"] == cluster)
        return {_name(host) for host in hosts if not _is_ejected(host)}

    def logged(self, request_id: str) -> dict[str, Any]:
        """Return the access log's line about a call, once it is written."""

        def lines() -> list[dict[str, Any]]:
            return [call for call in self._calls if call["request_id"] == request_id]

        with self._called:
            assert self._called.wait_for(lines, _START_TIMEOUT_S), "the call is not in the log"
            return lines()[-1]

    def stop(self) -> None:
        """End the process and read its logs to the end."""
        self.process.terminate()
        self.process.wait(_STOP_TIMEOUT_S)
        for reader in self._readers:
            reader.join(_STOP_TIMEOUT_S)

    def _note_call(self, line: str) -> None:
        with self._called:
            self._calls.append(json.loads(line))
            self._called.notify_all()

    def _note(self, line: str) -> None:
        self.log.append(line)
        if "starting workers" in line:
            self._started.set()

    def _read(self, stream: IO[str], keep: Callable[[str], None]) -> None:
        with stream:
            for line in stream:
                keep(line.rstrip("\n"))
        self._started.set()


def _name(host: Configuration) -> str:
    address = host["address"]["socket_address"]
    return f"{address['address']}:{address['port_value']}"


def _is_ejected(host: Configuration) -> bool:
    flags = host["health_status"]
    return any(flags.get(flag) for flag in ("failed_active_health_check", "failed_outlier_check"))


@contextmanager
def envoy_process(
    folder: Path, servers: Sequence[str], configuration: Configuration | None = None
) -> Iterator[Envoy]:
    """Run Envoy before these servers, with the shipped configuration or one made of it."""
    program = tool("envoy", "the shipped configuration of Envoy, with a real one")
    admin_port = free_port()
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(substituted(configuration or shipped(), servers, admin_port)))
    envoy = Envoy(program, file, admin_port)
    try:
        envoy.wait_until_started()
        yield envoy
    finally:
        envoy.stop()
