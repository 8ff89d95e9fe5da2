"""The shipped configuration of Envoy beside the contract, the client and the manifests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

from maskwire_client._calls import IMAGE_DIGEST_KEY
from maskwire_client._channel import IDEMPOTENT_METHODS
from maskwire_server.settings import Settings
from tests.deploy.monitoring import DEPLOY
from tests.support.contract_methods import methods, path_of, services
from tests.support.envoy_process import CONFIGURATION, SERVERS, shipped, substituted
from tests.support.tools import tool

BY_IMAGE = "maskwire-by-image"
ONE_IMAGE = {"SegmentImage", "AutoSegment", "StreamAutoSegment"}


def manager(listener: str) -> dict[str, Any]:
    """Return the HTTP connection manager of a listener."""
    (found,) = (
        one for one in shipped()["static_resources"]["listeners"] if one["name"] == listener
    )
    (chain,) = found["filter_chains"]
    (network_filter,) = chain["filters"]
    config: dict[str, Any] = network_filter["typed_config"]
    return config


def host() -> dict[str, Any]:
    (only,) = manager("grpc")["route_config"]["virtual_hosts"]
    found: dict[str, Any] = only
    return found


def clusters() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in shipped()["static_resources"]["clusters"]}


def route_of(path: str, *, names_an_image: bool = False) -> dict[str, Any]:
    """Return the route that Envoy takes: the first that matches."""
    for route in host()["routes"]:
        match = route["match"]
        if match.get("headers") and not names_an_image:
            continue
        if (
            match.get("path") == path
            or ("prefix" in match and path.startswith(match["prefix"]))
            or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path))
        ):
            found: dict[str, Any] = route
            return found
    raise AssertionError(f"no route for {path}")


def is_tried_again(route: dict[str, Any]) -> bool:
    """Return whether a call that reached a server may be sent to another."""
    policy = route["route"].get("retry_policy", host()["retry_policy"])
    return "unavailable" in policy["retry_on"].split(",")


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_envoy_accepts_it_without_a_word(tmp_path):
    program = tool("envoy", "the shipped configuration of Envoy, as Envoy reads it")
    checked = subprocess.run(
        [program, "--mode", "validate", "-c", CONFIGURATION, "--log-level", "warning"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == ""


@pytest.mark.parametrize("method", list(methods()), ids=path_of)
def test_every_method_has_a_route_without_a_time_limit(method):
    route = route_of(path_of(method))
    assert route["route"]["cluster"] == "maskwire"
    assert route["route"]["timeout"] == "0s"


@pytest.mark.parametrize("method", list(methods()), ids=path_of)
def test_what_is_tried_again_is_what_the_client_would_try_again(method):
    service = method.containing_service.full_name
    is_idempotent = (service, None) in IDEMPOTENT_METHODS or (
        service,
        method.name,
    ) in IDEMPOTENT_METHODS
    expected = is_idempotent and not (method.client_streaming or method.server_streaming)
    for names_an_image in (False, True):
        route = route_of(path_of(method), names_an_image=names_an_image)
        assert is_tried_again(route) == expected
        assert ("request_body_buffer_limit" in route) >= expected


@pytest.mark.parametrize("method", list(methods()), ids=path_of)
def test_calls_that_name_an_image_and_only_they_are_hashed(method):
    route = route_of(path_of(method), names_an_image=True)
    is_hashed = route["route"]["cluster"] == BY_IMAGE
    assert is_hashed == (method.name in ONE_IMAGE)
    if is_hashed:
        (header,) = route["match"]["headers"]
        (policy,) = route["route"]["hash_policy"]
        assert header["name"] == policy["header"]["header_name"] == IMAGE_DIGEST_KEY


def test_what_never_may_be_done_twice_is_only_sent_again_where_nothing_was_sent():
    assert set(host()["retry_policy"]["retry_on"].split(",")) == {
        "connect-failure",
        "refused-stream",
    }


def test_both_clusters_have_the_same_servers_and_care():
    one, other = clusters()["maskwire"], clusters()[BY_IMAGE]
    own = {"name", "lb_policy", "load_assignment", "common_lb_config"}
    assert {key: one[key] for key in one.keys() - own} == {
        key: other[key] for key in other.keys() - own
    }
    assert one["load_assignment"]["endpoints"] == other["load_assignment"]["endpoints"]
    assert (one["lb_policy"], other["lb_policy"]) == ("LEAST_REQUEST", "MAGLEV")


def test_servers_that_drain_are_noticed_before_they_refuse():
    (check,) = clusters()["maskwire"]["health_checks"]
    names = {service.full_name for service in services()}
    assert check["grpc_health_check"]["service_name"] in names
    settings = dict(
        line.split("=", 1)
        for line in (DEPLOY / "kubernetes/base/settings.env").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    noticed_s = seconds(check["interval"]) + seconds(check["interval_jitter"])
    assert noticed_s + seconds(check["timeout"]) < float(settings["MASKWIRE_GRPC__DRAIN_NOTICE_S"])
    assert check["no_traffic_interval"] == check["interval"]


def test_no_stream_is_ended_and_no_call_cut_before_the_server_ends_it():
    config = manager("grpc")
    assert config["stream_idle_timeout"] == "0s"
    assert "max_stream_duration" not in config["common_http_protocol_options"]
    for route in host()["routes"]:
        idle_timeout = route.get("route", {}).get("idle_timeout")
        if idle_timeout is not None:
            assert is_tried_again(route)
            assert seconds(idle_timeout) > Settings().grpc.max_deadline_s


def test_what_the_client_keeps_alive_envoy_and_servers_allow():
    for keepalive in (
        manager("grpc")["http2_protocol_options"]["connection_keepalive"],
        next(iter(clusters()["maskwire"]["typed_extension_protocol_options"].values()))[
            "explicit_http_config"
        ]["http2_protocol_options"]["connection_keepalive"],
    ):
        assert seconds(keepalive["interval"]) >= 10


def test_the_admin_interface_is_for_the_machine_itself():
    assert shipped()["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    (monitoring,) = manager("monitoring")["route_config"]["virtual_hosts"]
    for route in monitoring["routes"]:
        assert route["match"]["path"] in ("/ready", "/stats/prometheus")
        assert route["match"]["headers"] == [{"name": ":method", "string_match": {"exact": "GET"}}]


def test_the_log_has_nothing_of_metadata_but_the_identifier_of_the_call():
    (log,) = manager("grpc")["access_log"]
    fields = log["typed_config"]["log_format"]["json_format"].values()
    assert [field for field in fields if "REQ(" in field or "RESP(" in field] == [
        "%REQ(X-REQUEST-ID)%"
    ]
    assert not any("QUERY" in field or "(:PATH" in field or "(WQ" in field for field in fields)


def test_pages_may_send_what_clients_send():
    (policy,) = host()["typed_per_filter_config"].values()
    allowed = {name.strip() for name in policy["allow_headers"].split(",")}
    assert {IMAGE_DIGEST_KEY, "x-request-id", "authorization", "grpc-timeout"} <= allowed
    assert "grpc-status-details-bin" in policy["expose_headers"]
    assert policy["allow_credentials"] is False


def test_the_servers_in_the_manifests_are_those_of_the_configuration():
    names = {
        document["metadata"]["name"]
        for document in read_documents("kubernetes/base/services.yaml")
        if document["spec"].get("clusterIP") == "None"
    }
    endpoint = clusters()["maskwire"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address["address"] == SERVERS
    assert SERVERS in names
    assert address["port_value"] == Settings().grpc.port


def test_the_deployment_has_the_ports_of_the_configuration():
    (deployment,) = read_documents("kubernetes/components/envoy/envoy.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listening = {
        listener["name"]: listener["address"]["socket_address"]["port_value"]
        for listener in shipped()["static_resources"]["listeners"]
    }
    assert ports == listening
    assert container["args"][:2] == ["--config-path", "/etc/envoy/envoy.yaml"]
    heap = next(
        one["typed_config"]["max_heap_size_bytes"]
        for one in shipped()["overload_manager"]["resource_monitors"]
        if one["name"] == "envoy.resource_monitors.fixed_heap"
    )
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert heap <= 0.75 * 2**30


def test_substitution_touches_addresses_and_ports_only():
    changed = substituted(shipped(), ["127.0.0.1:1", "127.0.0.1:2"], 3)
    differing = set(differences(shipped(), changed))
    assert {path.rsplit("/", 1)[-1] for path in differing} == {
        "address",
        "port_value",
        "lb_endpoints",
    }


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Yield where two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for first, second in zip(one, other, strict=True):
            yield from differences(first, second, path)
    elif one != other:
        yield path


def read_documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of one file of `deploy/`."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))
