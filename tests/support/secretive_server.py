"""A real server and a worker with every kind of secret, used well and badly, and all they show."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import numpy as np
import obstore
import redis
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from obstore.store import from_url

from maskwire_client import Client, Point, Tls, errors
from maskwire_client.jobs import SegmentCall
from maskwire_server.identity.api_keys import ApiKeyRecord
from maskwire_server.identity.key_file import changed_keys
from tests.support import model_hub
from tests.support.job_calls import picture
from tests.support.metrics_page import metrics_page
from tests.support.moto_process import moto_process, moto_program
from tests.support.nats_process import nats_process, nats_program
from tests.support.redis_process import RedisServer, redis_process, redis_program
from tests.support.server_process import ServerProcess, server_process
from tests.support.trace_collector import collecting
from tests.support.webhook_receiver import make_certificate, receiving
from tests.support.worker_process import worker_process

IMAGE = np.random.default_rng(8).integers(0, 255, (48, 64, 3), np.uint8)
POINTS = [Point(20, 20)]
_ISSUER = "https://issuer.example"
_BUCKET = "maskwire-secrets"
_SOURCE = "maskwire-pictures"
_OBJECT = f"s3://{_SOURCE}/in/picture.png"
_JOB_S = 60.0


@dataclass
class Shown:
    """What was secret, and everything that was shown.

    Attributes:
        secrets: By what they are.
        texts: By where they were seen.
        settings: Those of the server, by group.
        served: What worked, so that the secrets were in use.
    """

    secrets: dict[str, str]
    texts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)

    def add(self, place: str, text: str) -> None:
        """Keep what was seen somewhere."""
        self.texts[place] = self.texts.get(place, "") + text + "\n"

    def fail(self, name: str, call: Callable[[], object]) -> None:
        """Make a call that must fail, and keep all that its caller is told."""
        try:
            call()
        except errors.MaskwireError as error:
            cause = error.__cause__
            told: list[object] = [repr(error), vars(error), repr(cause)]
            for part in ("details", "trailing_metadata", "initial_metadata"):
                tell = getattr(cause, part, None)
                told.append(tell() if callable(tell) else tell)
            self.add(f"error of {name}", "\n".join(map(str, told)))
        else:
            raise AssertionError(f"{name} did not fail")


class Access:
    """The credentials: a key, tokens, certificates; and how to call with them."""

    def __init__(self, folder: Path, shown: Shown) -> None:
        self._authority = trustme.CA()
        issued = self._authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(str(folder / "server.key"))
        (folder / "server.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        signing = ec.generate_private_key(ec.SECP256R1())
        public = ECAlgorithm.to_jwk(signing.public_key(), as_dict=True)
        key_set = {"keys": [public | {"kid": "one", "alg": "ES256"}]}
        (folder / "tokens.json").write_text(json.dumps(key_set))
        record, self.key = ApiKeyRecord.create(name="test", tenant="acme", now=datetime.now(UTC))
        with changed_keys(folder / "keys.json") as keys:
            keys[record.key_id] = record
        self.token, self.expired = (_token(signing, age) for age in (0, 7200))
        # Nearly right: one character of the secret is another.
        self.wrong = self.key[:-8] + secrets.token_urlsafe(6)
        shown.secrets |= {
            "API key": self.key.split("_", 2)[2],
            "mistyped API key": self.wrong.split("_", 2)[2],
            "token": self.token.rpartition(".")[2],
            "expired token": self.expired.rpartition(".")[2],
            "private key": issued.private_key_pem.bytes().decode().splitlines()[2],
        }
        self.settings: dict[str, dict[str, Any]] = {
            "auth": {
                "keys_file": str(folder / "keys.json"),
                "token_issuer": _ISSUER,
                "token_key_set": str(folder / "tokens.json"),
            },
            "tls": {
                "certificate_file": str(folder / "server.pem"),
                "key_file": str(folder / "server.key"),
            },
        }

    def client(self, process: ServerProcess, key: str) -> Client:
        """Return a client that sends a key or a token."""
        port = process.address.rpartition(":")[2]
        tls = Tls(root_certificates=self._authority.cert_pem.bytes())
        return Client(
            f"localhost:{port}", tls=tls, api_key=key, retry_attempts=1, overload_retries=0
        )


def _token(key: ec.EllipticCurvePrivateKey, age_s: float) -> str:
    claims = {
        "iss": _ISSUER,
        "aud": "maskwire",
        "sub": "robot-7",
        "tenant": "acme",
        "exp": time.time() + 3600 - age_s,
    }
    return jwt.encode(claims, key, "ES256", headers={"kid": "one"})


async def show_everything(folder: Path, weights: Path) -> Shown:
    """Run the server, a worker and what they speak to; skips where a program is missing.

    Args:
        folder: Where everything is kept.
        weights: A folder of SAM 3, for the hub.
    """
    shown = Shown(
        {
            "webhook secret": base64.b64encode(secrets.token_bytes(30)).decode(),
            "S3 secret key": secrets.token_urlsafe(30),
            "NATS password": secrets.token_urlsafe(30),
            "NATS user": "user-" + secrets.token_hex(9),
            "collector header": secrets.token_urlsafe(30),
            "hub token": "hf_" + secrets.token_urlsafe(30),
            "another hub token": "hf_" + secrets.token_urlsafe(30),
            "secret key of a bucket": secrets.token_urlsafe(30),
            "Redis password": secrets.token_urlsafe(30),
        }
    )
    certificate = make_certificate(folder)
    access = Access(folder, shown)
    with ExitStack() as around, ExitStack() as stores:
        collector = around.enter_context(collecting())
        moto = stores.enter_context(moto_process(moto_program()))
        user, password = shown.secrets["NATS user"], shown.secrets["NATS password"]
        nats = nats_process(nats_program(), folder / "nats", user, password)
        nats_url = stores.enter_context(nats).url
        counting = redis_process(redis_program(), shown.secrets["Redis password"])
        store = stores.enter_context(counting)
        await asyncio.to_thread(_fill_buckets, moto)
        shown.settings = access.settings | _settings(
            shown, folder, moto, nats_url, store.url, collector.endpoint
        )
        shown.settings["webhooks"]["ca_file"] = str(certificate.authority)
        async with receiving(certificate) as receiver:
            with (
                server_process(folder, **shown.settings) as process,
                worker_process(folder / "maskwire.toml", MASKWIRE_JOBS__WORKERS="1") as worker_log,
            ):
                await asyncio.to_thread(_use_well, shown, process, access, receiver.url)
                (report, *_) = await receiver.requests(1)
                report.verified("whsec_" + shown.secrets["webhook secret"])
                shown.served.add("webhook secret")
                await asyncio.to_thread(_check_counts, shown, store)
                await asyncio.to_thread(_pull, shown, folder, weights)
                await asyncio.to_thread(_run_commands, shown, folder)
                await asyncio.to_thread(stores.close)
                await asyncio.to_thread(_use_badly, shown, process, access)
                shown.add("metrics page", metrics_page(process.metrics_port))
        shown.add("standard error", _whole(process.log))
        shown.add("a worker's log", _whole(worker_log))
        shown.add("standard output", process.output.read_text())
        spans = collector.wait_until(lambda seen: any("SubmitJob" in one.name for one in seen))
        shown.add("spans", "\n".join(map(repr, spans)))
        if {shown.secrets["collector header"]} <= {one.get("x-key") for one in collector.metadata}:
            shown.served.add("collector header")
    return shown


def _whole(log: deque[str]) -> str:
    assert len(log) < (log.maxlen or 0), "the log is whole"
    return "\n".join(log)


def _fill_buckets(moto: str) -> None:
    """Make the bucket of files, and one with a picture that callers may name."""
    for name in (_BUCKET, _SOURCE):
        request = urllib.request.Request(f"{moto}/{name}", method="PUT")
        urllib.request.urlopen(request).close()
    options: Any = {"endpoint": moto, "region": "us-east-1", "access_key_id": "any"}
    options |= {"secret_access_key": "any", "client_options": {"allow_http": True}}
    bucket, _, key = _OBJECT.removeprefix("s3://").partition("/")
    obstore.put(from_url(f"s3://{bucket}", **options), key, picture())


def _settings(
    shown: Shown, folder: Path, moto: str, nats_url: str, redis_url: str, collector: str
) -> dict[str, dict[str, Any]]:
    store = {"endpoint": moto, "region": "us-east-1", "allow_http": True}
    return {
        "models": {
            "cpu_threads": 1,
            "cache_folder": str(folder / "models"),
            "hub_token": shown.secrets["hub token"],
        },
        "logging": {"level": "debug", "format": "json"},
        "storage": {
            "url": f"s3://{_BUCKET}/files",
            "access_key_id": "AKIAMASKWIRETEST",
            "secret_access_key": shown.secrets["S3 secret key"],
            **store,
        },
        "sources": {
            "buckets": [
                {
                    "url": _OBJECT.rpartition("/")[0],
                    "access_key_id": "AKIAMASKWIREREAD",
                    "secret_access_key": shown.secrets["secret key of a bucket"],
                    **store,
                }
            ]
        },
        "quotas": {"calls_per_minute": 60_000, "store": redis_url, "store_timeout_s": 5.0},
        "jobs": {
            "backend": "nats",
            "nats_url": nats_url,
            "queues": ["segmentation"],
            "workers": 0,
        },
        "webhooks": {
            "secret": "whsec_" + shown.secrets["webhook secret"],
            "allow_private_addresses": True,
            "first_delay_s": 0.1,
            "max_attempts": 2,
        },
        "tracing": {
            "enabled": True,
            "endpoint": collector,
            "headers": "x-key=" + shown.secrets["collector header"],
        },
    }


def _use_well(shown: Shown, process: ServerProcess, access: Access, webhook: str) -> None:
    """Make calls that are answered, and some that the caller gets wrong."""
    for name, key in (("API key", access.key), ("token", access.token)):
        with access.client(process, key) as client:
            shown.add("answers", repr(client.segment(IMAGE, points=POINTS).image))
            shown.add("repr of a client", repr(client))
            shown.served.add(name)
            shown.fail("a picture that is none", lambda: client.segment(b"none", points=POINTS))
            shown.fail("a model that is none", lambda: client.model("no-such-model"))
    for key in (access.wrong, access.expired, "Basic " + access.key):
        with access.client(process, key) as client:
            shown.fail("wrong credentials", client.models)
    with access.client(process, access.key) as client:
        shown.add("answers", repr(client.segment(_OBJECT, points=POINTS).image))
        shown.served.add("secret key of a bucket")
        missing = _OBJECT.replace("picture.png", "nothing.png")
        shown.fail("an object that is none", lambda: client.segment(missing, points=POINTS))
        stored = client.upload(b"content" * 100)
        shown.add("answers", repr(stored) + repr(list(client.files())))
        shown.served |= {"S3 secret key", "NATS password", "NATS user", "private key"}
        url = client.download_url(stored)
        shown.secrets["signature of a presigned URL"] = parse_qs(urlsplit(url).query)[
            "X-Amz-Signature"
        ][0]
        call = SegmentCall(IMAGE, points=POINTS)
        good = client.submit_job(call, webhook_url=webhook)
        # The path is the caller's secret as much as the receiver's: neither shows it to others.
        path = secrets.token_urlsafe(24)
        shown.secrets["path of a webhook"] = path
        bad = client.submit_job(call, webhook_url=f"https://127.0.0.1:9/{path}")
        for job in (good, bad):
            for event in client.watch_job(job.name, timeout_s=_JOB_S):
                shown.add("job events", repr(event))
            shown.add("job records", repr(client.job(job.name)))
            shown.add("answers", repr(client.job_result(job.name))[:10_000])


def _use_badly(shown: Shown, process: ServerProcess, access: Access) -> None:
    """Make calls whose stores are gone."""
    with access.client(process, access.key) as client:
        again = _OBJECT.replace("picture.png", "other.png")
        shown.fail("a bucket that is gone", lambda: client.segment(again, points=POINTS))
        shown.fail("a store that is gone", lambda: list(client.files(timeout_s=30)))
        call = SegmentCall(IMAGE, points=POINTS)
        shown.fail("a broker that is gone", lambda: client.submit_job(call, timeout_s=30))
        shown.fail("jobs that are gone", lambda: client.job("jobs/" + "0" * 32, timeout_s=30))


def _check_counts(shown: Shown, store: RedisServer) -> None:
    with redis.Redis.from_url(store.url) as counts:
        assert list(counts.scan_iter("*tenant:acme*")), "calls were counted with the password"
    shown.served.add("Redis password")


def _pull(shown: Shown, folder: Path, weights: Path) -> None:
    """Pull a model whose licence wants a token, with one that is good and one that is not."""
    files = {file.name: file.read_bytes() for file in weights.iterdir()}
    command = ("models", "pull", "sam3", "--config", str(folder / "maskwire.toml"))
    with model_hub.serving("facebook/sam3", files, is_gated=True) as hub:
        hub.granted = {shown.secrets["hub token"]}
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_DEBUG": "1"}
        bad = {"MASKWIRE_MODELS__HUB_TOKEN": shown.secrets["another hub token"]}
        code, told = run(command, environment | bad)
        assert code != 0, told
        shown.add("a pull that is refused", told)
        code, told = run(command, environment)
        assert code == 0, told
        shown.add("a pull", told)
    shown.served.add("hub token")


def _run_commands(shown: Shown, folder: Path) -> None:
    """Run the commands that show settings, with the settings in the environment."""
    environment = {
        f"MASKWIRE_{group}__{name}".upper(): str(value)
        for group, values in shown.settings.items()
        for name, value in values.items()
        if isinstance(value, str)
    }
    file = ("--config", str(folder / "maskwire.toml"))
    for arguments in (
        ("config", *file),
        ("config", "--json", *file),
        ("--help",),
        ("serve", "--help"),
        ("models", "pull", "--help"),
    ):
        shown.add(f"maskwire {' '.join(arguments[:2])}", run(arguments, environment)[1])
    # Refused by the broker, who is asked with a user that it does not know.
    url = shown.settings["jobs"]["nats_url"].replace("user-", "nobody-user-")
    _, told = run(("doctor", *file), environment | {"MASKWIRE_JOBS__NATS_URL": url})
    shown.add("doctor of a broker that refuses", told)
    for name, value in broken(shown).items():
        code, told = run(("serve", *file), environment | {name: value})
        assert code != 0, name
        shown.add(f"serve with another {name}", told)


def broken(shown: Shown) -> dict[str, str]:
    """Return settings that hold a secret and are wrong."""
    return {
        "MASKWIRE_STORAGE__URL": f"https://x:{shown.secrets['S3 secret key']}@127.0.0.1/bucket",
        "MASKWIRE_STORAGE": f"{{ 'secret_access_key': '{shown.secrets['S3 secret key']}' }}",
    }


def run(arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command; return its exit code and all that it wrote."""
    ran = subprocess.run(
        [sys.executable, "-m", "maskwire_client.cli", *arguments],
        env={**os.environ, **environment, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return ran.returncode, ran.stdout
