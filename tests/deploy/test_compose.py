"""The deployment on one host, judged by Compose itself and compared with the program.

No daemon runs here: what the images of others do with their arguments is not tested, but for the
configurations of NATS, Prometheus and Envoy, which the programs themselves read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from maskwire_server.settings import Settings
from tests.deploy.images import CONTAINERS, Image
from tests.deploy.manifests import only_environment, parsed_arguments
from tests.deploy.monitoring import DEPLOY, promtool, read_yaml
from tests.support.nats_process import nats_program
from tests.support.tools import tool

COMPOSE = DEPLOY / "compose"
PROGRAMS = ("server", "worker")
SECRETS = {
    # Some configurations would take it for a number.
    "MASKWIRE_NATS_PASSWORD": "5e3",
    "MASKWIRE_S3_ACCESS_KEY": "neither",
    "MASKWIRE_S3_SECRET_KEY": "nor-this",
    "GRAFANA_ADMIN_PASSWORD": "nor-that",
    "MASKWIRE_KEYS_FILE": str(COMPOSE / "compose.keys.yaml"),
}
OVERRIDES = ((), ("compose.gpu.yaml",), ("compose.keys.yaml",))


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Compose on files of this deployment, with these variables and no `.env`."""
    return subprocess.run(
        [tool("docker-compose", "the deployment on one host"), *arguments],
        cwd=COMPOSE,
        env={"PATH": os.environ["PATH"], "COMPOSE_DISABLE_ENV_FILE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def deployment(*overrides: str) -> dict[str, Any]:
    """Return what Compose makes of the files, checked against its schema; all profiles."""
    files = [part for name in ("compose.yaml", *overrides) for part in ("--file", name)]
    options = ("--profile", "*", "config", "--format", "json")
    made = compose(*files, *options, **SECRETS)
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def services() -> dict[str, Any]:
    found: dict[str, Any] = deployment()["services"]
    return found


def image_of(name: str) -> Image:
    if "sam3d" in name:
        return Image(CONTAINERS / "sam3d.Dockerfile", "worker")
    return Image(CONTAINERS / "Dockerfile", name)


def settings_of(name: str, *overrides: str) -> Settings:
    service = deployment(*overrides)["services"][name]
    own = {key: value for key, value in service["environment"].items() if value is not None}
    with only_environment({**image_of(name).environment, **own}):
        return Settings.read()


@pytest.mark.parametrize("overrides", OVERRIDES, ids=lambda names: "-".join(names) or "base")
def test_compose_accepts_the_files(overrides) -> None:
    deployment(*overrides)


def test_compose_refuses_what_its_schema_does_not_know(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {a: {image: b, no_such_field: 1}}\n")
    assert compose("--file", str(wrong), "config").returncode != 0


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "MASKWIRE_KEYS_FILE"])
def test_a_password_has_no_default(name) -> None:
    given = {key: value for key, value in SECRETS.items() if key != name}
    refused = compose("--file", "compose.yaml", "config", **given)
    assert refused.returncode != 0
    assert name in refused.stderr


def test_the_example_of_variables_names_those_that_are_used() -> None:
    example = (COMPOSE / ".env.example").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", example, re.MULTILINE))
    texts = "".join(path.read_text() for path in COMPOSE.glob("compose*.yaml"))
    used = set(re.findall(r"\$\{(\w+)", texts))
    assert named <= used | set(re.findall(r"^  (MASKWIRE_\w+):$", texts, re.MULTILINE))
    assert {name for name in used if "GPU" not in name} <= named | {
        "MASKWIRE_KEYS_FILE",
        "TORCH_BACKEND",
    }
    for name in set(SECRETS) & named:
        assert f"{name}=\n" in example, "no password that could pass for a real one"


def test_every_container_is_confined() -> None:
    for overrides in OVERRIDES:
        for name, service in deployment(*overrides)["services"].items():
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert "privileged" not in service, name
            assert not service.get("cap_add"), name


def test_every_service_that_stays_is_checked() -> None:
    for name, service in services().items():
        # The images of the program bring their checks.
        assert "healthcheck" in service or name in (*PROGRAMS, "s3-bucket"), name


def test_images_of_others_are_pinned() -> None:
    for name, service in services().items():
        if name not in PROGRAMS:
            tag = service["image"].rpartition(":")[2]
            assert re.search(r"\d+\.\d+\.\d+", tag), name


def test_only_envoy_and_the_monitors_are_reached_from_outside_and_by_this_machine_alone() -> None:
    published = {
        name: {(port["host_ip"], port["published"], port["target"]) for port in ports}
        for name, service in services().items()
        if (ports := service.get("ports"))
    }
    assert published == {
        "envoy": {("127.0.0.1", "50051", 50051)},
        "prometheus": {("127.0.0.1", "9090", 9090)},
        "grafana": {("127.0.0.1", "3000", 3000)},
    }


def test_what_is_mounted_exists() -> None:
    for overrides in OVERRIDES:
        for name, service in deployment(*overrides)["services"].items():
            for volume in service.get("volumes", ()):
                if volume["type"] == "bind":
                    assert Path(volume["source"]).exists(), (name, volume)
                    assert volume["read_only"], (name, volume)


@pytest.mark.parametrize("name", PROGRAMS)
def test_images_are_built_from_what_is_there(name) -> None:
    build = services()[name]["build"]
    root = Path(build["context"])
    assert root == DEPLOY.parent
    image = Image(root / build["dockerfile"], build["target"])
    arguments = re.findall(r"^ARG (\w+)", image.file.read_text(), re.MULTILINE)
    assert set(build["args"]) <= set(arguments)


@pytest.mark.parametrize("name", PROGRAMS)
def test_commands_are_those_of_the_program(name) -> None:
    command, _ = parsed_arguments(services()[name]["command"])
    assert command == ("serve" if name == "server" else "worker")


def test_the_workers_of_sam3d_are_known_to_prometheus() -> None:
    worker = deployment("compose.gpu.yaml")["services"]["worker-sam3d"]
    assert parsed_arguments(worker["command"])[0] == "worker"
    assert "build" not in worker
    assert "worker" in worker["networks"]["backplane"]["aliases"]


@pytest.mark.parametrize("overrides", OVERRIDES, ids=lambda names: "-".join(names) or "base")
def test_every_variable_is_a_setting_and_the_services_find_each_other(overrides) -> None:
    settings = [settings_of(name, *overrides) for name in PROGRAMS]
    server, worker = settings
    assert (server.jobs.workers, worker.jobs.backend) == (0, "nats")
    assert server.storage == worker.storage
    assert server.jobs.nats_url == worker.jobs.nats_url
    assert re.fullmatch(r"nats://maskwire:.+@nats:4222", server.jobs.nats_url)
    port = services()["s3"]["command"][1]
    assert (server.storage.url, server.storage.endpoint) == ("s3://maskwire", f"http://s3{port}")
    assert services()["s3-bucket"]["entrypoint"][-1] == "/data/maskwire"
    assert services()["s3"]["command"][-2:] == ["posix", "/data"]
    assert server.auth.allow_anonymous is ("compose.keys.yaml" not in overrides)


def test_the_grace_is_longer_than_the_drain() -> None:
    for name in PROGRAMS:
        settings = settings_of(name).grpc
        given = re.fullmatch(r"(?:(\d+)m)?(\d+)s", services()[name]["stop_grace_period"])
        assert given is not None
        given_s = 60 * int(given[1] or 0) + int(given[2])
        assert given_s > settings.drain_notice_s + settings.shutdown_grace_s


def test_envoy_and_prometheus_look_up_names_that_there_are() -> None:
    aliases = services()["server"]["networks"]["backplane"]["aliases"]
    clusters = read_yaml(DEPLOY / "envoy" / "envoy.yaml")["static_resources"]["clusters"]
    names = set()
    for cluster in clusters:
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
            address = endpoint["endpoint"]["address"]["socket_address"]
            names.add((address["address"], address["port_value"]))
    assert names - {("127.0.0.1", 9901)} == {(aliases[0], settings_of("server").grpc.port)}
    for job in read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (name,) = found["names"]
        assert settings_of(name).metrics.port == found["port"]


def test_prometheus_finds_its_files_where_they_are_mounted(tmp_path: Path) -> None:
    service = services()["prometheus"]
    for volume in service["volumes"]:
        if volume["type"] == "bind":
            (tmp_path / Path(volume["target"]).name).symlink_to(volume["source"])
    (option,) = (one for one in service["command"] if one.startswith("--config.file="))
    config = tmp_path / Path(option.partition("=")[2]).name
    checked = subprocess.run(
        [promtool(), "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_nats_accepts_its_configuration(tmp_path: Path) -> None:
    program = nats_program()
    text = (COMPOSE / "nats.conf").read_text()
    assert re.search(r"^  sync_interval: always$", text, re.MULTILINE)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    major, minor = re.findall(r"v(\d+)\.(\d+)", version.stdout)[0]
    if (int(major), int(minor)) < (2, 10):
        # Debian's does not know it; what else it says is checked.
        text = text.replace("  sync_interval: always\n", "")
    file = tmp_path / "nats.conf"
    file.write_text(text.replace('"/data"', f'"{tmp_path}"'))
    checked = subprocess.run(
        [program, "-t", "-c", str(file)],
        env={**os.environ, "NATS_PASSWORD": services()["nats"]["environment"]["NATS_PASSWORD"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_grafana_reads_the_dashboards_and_their_source_where_they_are_mounted() -> None:
    mounted = {
        volume["target"]: Path(volume["source"])
        for volume in services()["grafana"]["volumes"]
        if volume["type"] == "bind"
    }
    (provider,) = read_yaml(COMPOSE / "grafana" / "dashboards.yaml")["providers"]
    assert list(mounted[provider["options"]["path"]].glob("*.json"))
    (source,) = read_yaml(COMPOSE / "grafana" / "datasources.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
