"""Every secret that a server can have, used well and badly: none of them is ever shown."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from traceback import format_exception
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from maskwire_client import Client, Tls
from maskwire_server.domain.identity import Credentials
from maskwire_server.jobs.webhooks.sender import HttpWebhookSender
from maskwire_server.settings import Settings, SettingsError
from tests.support.secret_search import leaks
from tests.support.secretive_server import Shown, show_everything

SECRET = "correct-horse/battery+staple-7"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, small_sam3: Path) -> Shown:
    return asyncio.run(show_everything(tmp_path_factory.mktemp("secrets"), small_sam3))


def test_no_secret_is_shown_anywhere(shown: Shown):
    assert list(leaks(shown.secrets, shown.texts)) == []


def test_every_secret_was_in_use(shown: Shown):
    used = {"API key", "token", "private key", "webhook secret", "collector header"}
    used |= {"S3 secret key", "NATS password", "NATS user", "secret key of a bucket"}
    assert shown.served >= used | {"Redis password", "hub token"}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("standard error", '"level": "debug"'),
        ("standard error", "the quota store does not answer"),
        ("standard error", "a bucket could not be read"),
        ("a worker's log", '"event": "job begun"'),
        ("a worker's log", '"level": "debug"'),
        ("a worker's log", "NATS"),
        ("a pull", "sam3 is in"),
        ("a pull that is refused", "MASKWIRE_MODELS__HUB_TOKEN"),
        ("metrics page", "grpc_server_handled_total"),
        ("spans", "JobService/SubmitJob"),
        ("job records", "jobs/"),
        ("error of wrong credentials", "not valid"),
        ("error of a bucket that is gone", "SOURCE_UNAVAILABLE"),
        ("error of a store that is gone", "STORAGE_UNAVAILABLE"),
        ("error of a broker that is gone", "JOBS_UNAVAILABLE"),
        ("maskwire config --config", "nats://**********@127.0.0.1"),
        ("maskwire config --config", "redis://**********@127.0.0.1"),
        ("maskwire config --json", '"**********"'),
        ("doctor of a broker that refuses", "file store"),
        ("serve with another MASKWIRE_STORAGE", "error parsing"),
        ("serve with another MASKWIRE_STORAGE__URL", "storage.url"),
    ],
)
def test_what_was_looked_through_says_what_it_should(shown: Shown, place: str, words: str):
    assert words in shown.texts[place], shown.texts[place][:2000]


@pytest.mark.parametrize(
    "text",
    [
        f"failed: {SECRET} is wrong",
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(f"ab{SECRET}cd".encode()).decode(),
        SECRET.encode().hex(),
        quote(SECRET, safe=""),
        SECRET[:14] + "...",
    ],
)
def test_the_search_finds_a_secret_however_it_is_written(text: str):
    assert list(leaks({"one": SECRET}, {"there": f"before {text} after"}))
    assert not list(leaks({"one": SECRET}, {"there": "before and after"}))


def secret_settings(value: str) -> dict[str, Any]:
    """Return all settings that hold secrets, set to one."""
    url = f"nats://user:{quote(value, safe='')}@host:1"
    return {
        "jobs": {"nats_url": url},
        "storage": {"secret_access_key": value, "endpoint": url, "url": url.replace("nats", "s3")},
        "webhooks": {"secret": value},
        "models": {"hub_token": value},
        "tracing": {"headers": value, "endpoint": url.replace("nats", "http")},
        "auth": {"token_key_set": url.replace("nats", "https")},
        "quotas": {"store": url.replace("nats", "redis")},
        "sources": {"buckets": [{"url": "s3://pictures", "secret_access_key": value}]},
    }


def test_settings_show_no_secret(tmp_path: Path):
    settings = Settings.read(None, **secret_settings(SECRET))
    groups = {name: getattr(settings, name) for name in Settings.model_fields}
    texts = {name: f"{group!r} {group!s}" for name, group in groups.items()}
    texts |= {
        f"JSON of {name}": json.dumps(one.model_dump(mode="json")) for name, one in groups.items()
    }
    texts["all"] = f"{settings!r} {settings!s}"
    assert list(leaks({"one": SECRET}, texts)) == []
    # A worker's child, which is told through a pipe, has them.
    assert list(leaks({"one": SECRET}, {"to_json": settings.to_json().decode()}))
    assert Settings.from_json(settings.to_json()).model_dump() == settings.model_dump()


def test_every_setting_that_sounds_secret_is_one():
    """A new setting that holds a secret must be a `SecretStr`."""
    words = {"secret", "token", "password", "headers", "credentials"}
    told = {"token_issuer", "token_audience", "token_key_set", "token_tenant_claim"}
    told |= {"token_scope_claim", "token_ca_file", "token_refresh_interval_s"}
    told |= {"nats_credentials"}  # a file's name
    for group, info in Settings.model_fields.items():
        for name, one in getattr(info.annotation, "model_fields", {}).items():
            if words & set(name.split("_")) and name not in told:
                assert SecretStr in getattr(one.annotation, "__args__", ()), f"{group}.{name}"


@pytest.mark.parametrize("group", ["webhooks", "models", "storage", "tracing"])
def test_errors_of_settings_show_no_value(group: str):
    names = {"webhooks": "secret", "models": "hub_token", "storage": "url", "tracing": "headers"}
    wrong = SECRET if group == "storage" else [SECRET]
    with pytest.raises(SettingsError, match=names[group]) as caught:
        Settings.read(None, **{group: {names[group]: wrong}})
    told = f"{caught.value} {caught.value.__cause__}"
    assert list(leaks({"one": SECRET}, {"error": told})) == []


def test_a_group_that_is_no_json_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASKWIRE_STORAGE", f"{{ 'secret_access_key': '{SECRET}' }}")
    with pytest.raises(SettingsError, match="storage") as caught:
        Settings.read()
    told = "".join(format_exception(caught.value))
    assert list(leaks({"one": SECRET}, {"error": told})) == []


def test_a_signing_secret_that_is_none_is_not_shown():
    with pytest.raises(ValueError, match="not whsec_") as caught:
        HttpWebhookSender("whsec!" + SECRET, timedelta(seconds=1), lambda: datetime.now(UTC))
    told = "".join(format_exception(caught.value))
    assert list(leaks({"one": SECRET}, {"error": told})) == []


def test_classes_that_hold_credentials_do_not_show_them():
    with Client(
        "localhost:1", api_key=SECRET, tls=Tls(client_key=SECRET.encode(), client_certificate=b"x")
    ) as client:
        held = [
            client,
            *vars(client).values(),
            Credentials(SECRET),
            Tls(client_key=SECRET.encode()),
        ]
        texts = {type(one).__name__: f"{one!r} {one!s}" for one in held}
    assert list(leaks({"one": SECRET}, texts)) == []
