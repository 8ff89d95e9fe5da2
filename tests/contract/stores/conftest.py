"""Runs the contract suite over every kind of store."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskwire_server.storage.objects import StoreLocation
from tests.support.moto_process import moto_process, moto_program
from tests.support.stores import Stores, folder_location, opened

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with moto_process(moto_program()) as address:
        bucket = urllib.request.Request(f"{address}/maskwire-test", method="PUT")
        urllib.request.urlopen(bucket).close()
        yield address


@pytest.fixture(params=["folder", "memory", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    if request.param == "folder":
        return folder_location(tmp_path / "made" / "later")
    if request.param == "memory":
        return StoreLocation("memory://", tmp_path, {})
    options = {
        "endpoint": request.getfixturevalue("s3_address"),
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
    }
    url = f"s3://maskwire-test/{next(_prefixes)}"
    return StoreLocation(url, tmp_path, options, allow_http=True)


@pytest.fixture
def stores(location: StoreLocation) -> Iterator[Stores]:
    with opened(location) as made:
        yield made
