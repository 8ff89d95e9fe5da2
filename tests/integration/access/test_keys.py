"""Who gets in with which key, and for how long, against a real server."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import pytest

from maskwire_client import Client, Point, errors
from maskwire_client.jobs import SegmentCall
from maskwire_server.domain.identity import Scope

from .conftest import GuardedServer

IMAGE = np.random.default_rng(5).integers(0, 255, (48, 64, 3), np.uint8)
POINTS = [Point(20, 20)]


def test_a_key_opens_the_server(guarded: GuardedServer):
    with guarded.client(guarded.acme) as client:
        assert client.segment(IMAGE, points=POINTS).masks


@pytest.mark.parametrize(
    "key", [None, "mwk_00000000_" + "A" * 43, "nonsense", "a.b.c", "Basic dXNlcjpwYXNz"]
)
def test_whoever_has_none_is_refused_before_the_request_is_read(guarded: GuardedServer, key):
    with guarded.client(key) as client:
        with pytest.raises(errors.Unauthenticated) as caught:
            client.segment(b"no image at all", points=POINTS)
        assert caught.value.reason == "UNAUTHENTICATED"
        with pytest.raises(errors.Unauthenticated), client.open_session() as session:
            session.track(IMAGE)


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_keys_may_come_in_either_header(guarded: GuardedServer, header):
    value = guarded.acme if header == "x-api-key" else f"bearer {guarded.acme}"
    with Client(guarded.process.address, metadata={header: value}) as client:
        assert client.models()


def test_a_key_opens_what_its_scopes_say(guarded: GuardedServer):
    _, key = guarded.keys.create("acme", frozenset({Scope.MODELS, Scope.JOBS}))
    with guarded.client(key) as client:
        until_known(client)
        with pytest.raises(errors.PermissionDenied, match="segmentation"):
            client.segment(IMAGE, points=POINTS)
        assert list(client.jobs()) is not None
        # Nor by the back door.
        with pytest.raises(errors.PermissionDenied, match="segmentation"):
            client.submit_job(SegmentCall(IMAGE, points=POINTS))


def test_a_new_key_opens_without_a_restart_and_a_revoked_one_no_more(guarded: GuardedServer):
    key_id, key = guarded.keys.create("acme")
    with guarded.client(key) as client:
        until_known(client)
        assert client.segment(IMAGE, points=POINTS).masks
        guarded.keys.revoke(key_id)
        until_refused(client)


def test_a_running_session_ends_with_its_key(guarded: GuardedServer):
    key_id, key = guarded.keys.create("acme")
    with guarded.client(key) as client:
        until_known(client)
        with client.open_session() as session:
            session.track(IMAGE, points=POINTS)
            guarded.keys.revoke(key_id)
            until_refused(client)
            with pytest.raises(errors.Unauthenticated, match="revoked"):
                session.track(IMAGE)


def test_no_key_is_in_the_log(guarded: GuardedServer):
    before = guarded.process.lines_read
    with guarded.client(guarded.acme) as client:
        client.models()
        with pytest.raises(errors.InvalidArgument):
            client.segment(b"no image", points=POINTS)
    assert guarded.lines_read() > before
    text = "\n".join(guarded.process.log_since(before))
    assert guarded.acme.split("_")[1] in text, "the key's identifier is in the log"
    for key in (guarded.acme, guarded.globex):
        assert key.split("_", 2)[2] not in text


def until_known(client: Client) -> None:
    """Return once the server has read the file with the client's key."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            client.models()
            return
        except errors.Unauthenticated:
            continue
    raise AssertionError("the new key was never known")


def exhausted(calls: Iterable[object]) -> None:
    """Make all calls."""
    for _ in calls:
        pass


def until_refused(client: Client) -> None:
    """Return once the server has read the file in which the client's key is revoked."""
    with pytest.raises(errors.Unauthenticated, match="revoked"):
        exhausted(client.models() for _ in range(100_000))
