"""What the blocking classes offer, the asyncio ones offer too, with the same arguments."""

from __future__ import annotations

import inspect

import pytest

from maskwire_client import (
    AsyncBodiesResult,
    AsyncClient,
    AsyncJobWatch,
    AsyncObjectsResult,
    AsyncReconstruction,
    AsyncResultStream,
    AsyncSession,
    AsyncTrackedVideoResult,
    AsyncVideoTrack,
    BodiesResult,
    Client,
    JobWatch,
    ObjectsResult,
    Reconstruction,
    ResultStream,
    Session,
    TrackedVideoResult,
    VideoTrack,
)

PAIRS = [
    (Client, AsyncClient),
    (Session, AsyncSession),
    (ResultStream, AsyncResultStream),
    (VideoTrack, AsyncVideoTrack),
    (JobWatch, AsyncJobWatch),
    (Reconstruction, AsyncReconstruction),
    (ObjectsResult, AsyncObjectsResult),
    (BodiesResult, AsyncBodiesResult),
    (TrackedVideoResult, AsyncTrackedVideoResult),
]

# These return at once what waits when it is entered, awaited or iterated over.
RETURN_AT_ONCE = {
    "open_session",
    "track_video",
    "stream",
    "stream_auto_segment",
    "results",
    "watch_job",
    "frames",
}

# The last annotation names the asyncio kind of what the other returns.
RETURN_THEIR_OWN_KIND = {"reconstruct_objects", "reconstruct_bodies", "job_result"}

# Asynchronous objects are made before anything is awaited, so their calls take this elsewhere.
DIFFERENT_ARGUMENTS = {("Session", "open"), ("VideoTrack", "open")}


def public_methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for name, function in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def arguments(signature: inspect.Signature) -> list[tuple[str, object, object]]:
    return [(one.name, one.kind, one.default) for one in signature.parameters.values()]


def properties(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, lambda one: isinstance(one, property))}


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_methods_and_arguments_are_equal(blocking: type, other: type) -> None:
    methods, twins = public_methods(blocking), public_methods(other)
    assert methods.keys() | {"open"} == twins.keys() | {"open"}
    for name, signature in methods.items():
        if (blocking.__name__, name) not in DIFFERENT_ARGUMENTS:
            assert arguments(signature) == arguments(twins[name]), name
    assert properties(blocking) == properties(other)


def test_there_is_something_to_compare() -> None:
    assert public_methods(Client).keys() >= {"segment", "models", "model", "open_session", "close"}
    assert public_methods(Session).keys() >= {"track", "prompt", "stream", "send", "end", "close"}
    assert properties(Session) >= {"session_id", "object_ids", "drain_notice", "summary"}


def test_calls_without_streams_are_equal_to_the_last_annotation() -> None:
    methods, twins = public_methods(Client), public_methods(AsyncClient)
    for name in methods.keys() - RETURN_AT_ONCE - RETURN_THEIR_OWN_KIND:
        assert methods[name] == twins[name], name


def test_constructors_of_clients_are_equal() -> None:
    assert inspect.signature(AsyncClient.__init__) == inspect.signature(Client.__init__)


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_what_waits_in_one_is_awaited_in_the_other(blocking: type, other: type) -> None:
    for name in public_methods(blocking):
        is_awaited = name not in RETURN_AT_ONCE
        assert inspect.iscoroutinefunction(getattr(other, name)) == is_awaited, name
        assert not inspect.iscoroutinefunction(getattr(blocking, name)), name
