"""Fetching from buckets: an S3 service of our own, through what the settings build."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from maskwire_server.composition.sources import build_sources
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.images import identify_format
from maskwire_server.domain.remote_sources import WantedContent
from maskwire_server.domain.segmentation import Caller
from maskwire_server.observability.metrics import Metrics
from maskwire_server.settings import Settings, SettingsError
from tests.support.https_files import png
from tests.support.moto_process import moto_process, moto_program

ALICE, BOB, ANONYMOUS = Caller("alice", "1"), Caller("bob", "2"), Caller("", "3")
BUCKET, OTHER = "sources-test", "sources-other"
LIMIT_BYTES = 2**20
PICTURE = png()
WANTED = WantedContent("image.uri", LIMIT_BYTES, frozenset(("image/png",)), identify_format)
OBJECTS = {
    "shared/picture.png": PICTURE,
    "shared/with space, ü and %41.png": PICTURE,
    "shared/deep/er/picture": PICTURE,
    "shared/page.html": b"<html>" * 100,
    "shared/large": PICTURE + bytes(LIMIT_BYTES),
    "shared/empty": b"",
    "secret/picture.png": PICTURE,
    "in/alice/picture.png": PICTURE,
    "in/bob/picture.png": PICTURE,
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with moto_process(moto_program()) as found:
        for bucket in (BUCKET, OTHER):
            made = urllib.request.Request(f"{found}/{bucket}", method="PUT")
            urllib.request.urlopen(made).close()
            store = S3Store(
                bucket, client_options={"allow_http": True}, endpoint=found, **credentials()
            )
            for key, data in OBJECTS.items():
                obstore.put(store, key, data)
        yield found


def credentials() -> dict[str, Any]:
    return {"region": "us-east-1", "access_key_id": "id", "secret_access_key": "hidden-key"}


def bucket(address: str, url: str) -> dict[str, Any]:
    return {"url": url, "endpoint": address, "allow_http": True, **credentials()}


async def fetch(address: str, uri: str, caller: Caller = ALICE, **changes: Any) -> bytes:
    places = ["shared", "in/{tenant}"]
    buckets = [bucket(address, f"s3://{BUCKET}/{place}") for place in places]
    settings = Settings.read(sources={"buckets": buckets, "timeout_s": 20.0, **changes})
    async with AsyncExitStack() as resources:
        # As a worker's child is given them.
        passed = Settings.from_json(settings.to_json())
        sources = build_sources(passed, Metrics(), resources)
        return b"".join(await sources.fetch(uri, WANTED, caller))


async def refusal(address: str, uri: str, caller: Caller = ALICE, **changes: Any) -> MaskwireError:
    with pytest.raises(MaskwireError) as raised:
        await fetch(address, uri, caller, **changes)
    return raised.value


@pytest.mark.parametrize(
    "key",
    ["shared/picture.png", "shared/with space, ü and %41.png", "shared/deep/er/picture"],
)
async def test_an_object(address: str, key: str) -> None:
    for caller in (ALICE, ANONYMOUS):
        assert await fetch(address, f"s3://{BUCKET}/{key}", caller) == OBJECTS[key]


async def test_a_folder_of_each_tenant(address: str) -> None:
    for caller in (ALICE, BOB):
        uri = f"s3://{BUCKET}/in/{caller.tenant}/picture.png"
        assert await fetch(address, uri, caller) == PICTURE
    for caller, tenant in ((ALICE, "bob"), (BOB, "alice"), (ANONYMOUS, "alice")):
        error = await refusal(address, f"s3://{BUCKET}/in/{tenant}/picture.png", caller)
        nobody = await refusal(address, f"s3://{BUCKET}/in/nobody/picture.png", caller)
        assert error.code is ErrorCode.SOURCE_FORBIDDEN
        assert error.message == nobody.message


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{BUCKET}/secret/picture.png", ErrorCode.SOURCE_FORBIDDEN),
        (f"{OTHER}/shared/picture.png", ErrorCode.SOURCE_FORBIDDEN),
        (f"{BUCKET}/shared/../secret/picture.png", ErrorCode.INVALID_ARGUMENT),
        (f"{BUCKET}/shared/%2e%2e/secret/picture.png", ErrorCode.FILE_NOT_FOUND),
        (f"{BUCKET}/shared/..%2fsecret/picture.png", ErrorCode.FILE_NOT_FOUND),
        (f"{BUCKET}/shared/picture.png?versionId=1", ErrorCode.FILE_NOT_FOUND),
        (f"{BUCKET}/shared/nothing", ErrorCode.FILE_NOT_FOUND),
        (f"{BUCKET}/shared/page.html", ErrorCode.INVALID_ARGUMENT),
        (f"{BUCKET}/shared/empty", ErrorCode.INVALID_ARGUMENT),
        (f"{BUCKET}/shared/large", ErrorCode.PAYLOAD_TOO_LARGE),
    ],
)
async def test_what_is_not_given(address: str, path: str, code: ErrorCode) -> None:
    error = await refusal(address, f"s3://{path}")
    assert error.code is code


async def test_other_schemes_are_not_fetched_by_it(address: str) -> None:
    for scheme in ("gs", "az", "https", "file"):
        error = await refusal(address, f"{scheme}://{BUCKET}/shared/picture.png")
        assert error.code is ErrorCode.SOURCE_DISABLED


async def test_a_store_that_is_not_there_says_nothing_about_itself() -> None:
    nowhere = "http://127.0.0.1:1"
    error = await refusal(nowhere, f"s3://{BUCKET}/shared/picture.png", timeout_s=60.0)
    assert error.code is ErrorCode.SOURCE_UNAVAILABLE
    assert error.message == "image.uri: the object store did not give it"


@pytest.mark.parametrize(
    "url",
    ["s3://b/", "s3://bucket//in", "http://bucket/", "s3://{tenant}/in", "s3://Bucket/in", "s3://"],
)
def test_what_is_no_bucket_is_refused_by_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sources\.buckets"):
        Settings.read(sources={"buckets": [{"url": url}]})


async def test_a_path_that_is_none_keeps_the_server_from_starting() -> None:
    settings = Settings.read(sources={"buckets": [bucket("", "s3://bucket/in/../out")]})
    async with AsyncExitStack() as resources:
        with pytest.raises(SettingsError, match=r"sources\.buckets") as raised:
            build_sources(settings, Metrics(), resources)
    assert "hidden-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("https", "named"),
    [
        ({"allowed_hosts": ["https://host.test"]}, "no host name"),
        ({"denied_hosts": ["*"]}, "no host name"),
        ({"ca_file": "/nowhere"}, "ca_file"),
    ],
)
async def test_lists_that_are_none_keep_the_server_from_starting(https: Any, named: str) -> None:
    settings = Settings.read(sources={"https": {"enabled": True, **https}})
    async with AsyncExitStack() as resources:
        with pytest.raises(SettingsError, match=named):
            build_sources(settings, Metrics(), resources)
