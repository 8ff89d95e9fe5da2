"""Both clients against a real gRPC server with scripted answers: retries, digests, errors."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from maskwire.v1 import mask_pb2, processing_pb2
from maskwire_client import AsyncClient, Client, PromptKind, errors
from tests.support.scripted_server import Response, Script, refusing, returning, serving

IMAGE = b"an encoded image"
LARGE_IMAGE = bytes(300_000)
OK = Response(
    masks=[mask_pb2.Mask(object_id=1)],
    info=processing_pb2.ProcessingInfo(request_id="r"),
)
IMAGE_NOT_FOUND = refusing(grpc.StatusCode.NOT_FOUND, "send it", "IMAGE_NOT_FOUND")
UNAVAILABLE = refusing(grpc.StatusCode.UNAVAILABLE, "draining", "SHUTTING_DOWN")


def overloaded(seconds: float):
    delay = error_details_pb2.RetryInfo()
    delay.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    return refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", [delay])


class Caller:
    """Calls one kind of client as the other, so that every test is of both."""

    def __init__(self, kind: type[Client] | type[AsyncClient]) -> None:
        self._kind = kind

    async def __call__(self, address: str, *calls: tuple[str, dict[str, Any]], **options: Any):
        """Return the last of the calls' results, all made by one client."""
        if self._kind is AsyncClient:
            async with AsyncClient(address, **options) as client:
                for name, arguments in calls:
                    result = await getattr(client, name)(**arguments)
                return result
        return await asyncio.to_thread(self._blocking, address, calls, options)

    @staticmethod
    def _blocking(address: str, calls, options):
        with Client(address, **options) as client:
            for name, arguments in calls:
                result = getattr(client, name)(**arguments)
            return result


@pytest.fixture(params=[Client, AsyncClient])
def call(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


def segment(image: bytes | str = IMAGE, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "segment", {"image": image, "points": [(1, 2)], **arguments}


async def test_a_small_new_image_is_sent_at_once(call: Caller) -> None:
    script = Script([returning(OK)])
    async with serving(script) as address:
        result = await call(address, segment())
    assert [request.image.data for request in script.requests] == [IMAGE]
    assert [mask.object_id for mask in result] == [1]


async def test_calls_on_one_image_name_its_digest_to_balancers(call: Caller) -> None:
    digest = "sha256:" + hashlib.sha256(LARGE_IMAGE).hexdigest()
    script = Script([IMAGE_NOT_FOUND, overloaded(0.01), returning(OK)])
    async with serving(script) as address:
        await call(address, segment(LARGE_IMAGE), segment(digest), ("models", {}))
    assert [sent.get("maskwire-image-digest") for sent in script.metadata] == [digest] * 4


async def test_a_large_image_is_sent_again_after_unavailable(call: Caller) -> None:
    script = Script([IMAGE_NOT_FOUND, UNAVAILABLE, UNAVAILABLE, returning(OK)])
    async with serving(script) as address:
        await call(address, segment(bytes(3_000_000)))
    assert len(script.requests) == 4


async def test_an_image_that_is_elsewhere_has_no_digest_to_name(call: Caller) -> None:
    script = Script([returning(OK)])
    async with serving(script) as address:
        await call(address, segment("https://example.com/a.jpg"))
    assert "maskwire-image-digest" not in script.metadata[0]


async def test_a_large_image_is_sent_only_after_its_digest_is_not_found(call: Caller) -> None:
    script = Script([IMAGE_NOT_FOUND, returning(OK)])
    async with serving(script) as address:
        await call(address, segment(LARGE_IMAGE))
    probe, upload = script.requests
    assert probe.image.WhichOneof("source") == "digest"
    assert upload.image.data == LARGE_IMAGE
    assert upload.prompts == probe.prompts


async def test_an_image_is_sent_once_and_named_by_digest_from_then_on(call: Caller) -> None:
    script = Script([returning(OK)])
    async with serving(script) as address:
        await call(address, segment(), segment(), segment())
    sources = [request.image.WhichOneof("source") for request in script.requests]
    assert sources == ["data", "digest", "digest"]


async def test_an_image_that_the_server_has_dropped_is_sent_again(call: Caller) -> None:
    script = Script([returning(OK), IMAGE_NOT_FOUND, returning(OK), returning(OK)])
    async with serving(script) as address:
        await call(address, segment(), segment(), segment())
    sources = [request.image.WhichOneof("source") for request in script.requests]
    assert sources == ["data", "digest", "data", "digest"]


async def test_without_digest_first_every_call_carries_the_image(call: Caller) -> None:
    script = Script([returning(OK)])
    async with serving(script) as address:
        await call(address, segment(LARGE_IMAGE), segment(LARGE_IMAGE), digest_first=False)
    sources = [request.image.WhichOneof("source") for request in script.requests]
    assert sources == ["data", "data"]


async def test_another_not_found_is_not_taken_for_a_missing_image(call: Caller) -> None:
    script = Script([refusing(grpc.StatusCode.NOT_FOUND, "no model", "MODEL_NOT_FOUND")])
    async with serving(script) as address:
        with pytest.raises(errors.ModelNotFound):
            await call(address, segment(LARGE_IMAGE))
    assert len(script.requests) == 1


async def test_unavailable_is_tried_again_by_the_service_config(call: Caller) -> None:
    script = Script([UNAVAILABLE, UNAVAILABLE, returning(OK)])
    async with serving(script) as address:
        await call(address, segment())
    assert len(script.requests) == 3


async def test_unavailable_ends_after_the_attempts_allowed(call: Caller) -> None:
    script = Script([UNAVAILABLE])
    async with serving(script) as address:
        with pytest.raises(errors.Unavailable, match="draining") as raised:
            await call(address, segment(), retry_attempts=2)
    assert len(script.requests) == 2
    assert raised.value.reason == "SHUTTING_DOWN"


async def test_an_absent_server_is_unavailable(call: Caller) -> None:
    async with serving(Script([returning(OK)])) as address:
        pass  # the port is closed again
    with pytest.raises(errors.Unavailable):
        await call(address, segment())


async def test_an_overloaded_server_is_tried_again_when_it_says(call: Caller) -> None:
    script = Script([overloaded(0.01), overloaded(0.01), returning(OK)])
    async with serving(script) as address:
        await call(address, segment())
    assert len(script.requests) == 3


async def test_overload_ends_after_the_retries_allowed(call: Caller) -> None:
    script = Script([overloaded(0.01)])
    async with serving(script) as address:
        with pytest.raises(errors.Overloaded) as raised:
            await call(address, segment(), overload_retries=2)
    assert len(script.requests) == 3
    assert raised.value.retry_after == timedelta(seconds=0.01)


async def test_a_pause_beyond_the_deadline_is_not_begun(call: Caller) -> None:
    script = Script([overloaded(3600)])
    async with serving(script) as address:
        with pytest.raises(errors.Overloaded):
            await call(address, segment(timeout_s=30))
    assert len(script.requests) == 1


async def test_what_is_too_large_is_not_tried_again(call: Caller) -> None:
    script = Script([refusing(grpc.StatusCode.INVALID_ARGUMENT, "too large", "PAYLOAD_TOO_LARGE")])
    async with serving(script) as address:
        with pytest.raises(errors.PayloadTooLarge):
            await call(address, segment())
    assert len(script.requests) == 1


async def test_the_deadline_holds(call: Caller) -> None:
    released = asyncio.Event()

    async def never(request, context):
        await released.wait()
        return OK

    async with serving(Script([never])) as address:
        with pytest.raises(errors.DeadlineExceeded):
            await call(address, segment(timeout_s=0.05))
        released.set()


async def test_violations_are_listed(call: Caller) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="prompts[0].box.x_max", description="x_max must be greater than x_min"
    )
    refusal = refusing(
        grpc.StatusCode.INVALID_ARGUMENT,
        "bad box",
        "INVALID_ARGUMENT",
        [error_details_pb2.BadRequest(field_violations=[violation])],
    )
    async with serving(Script([refusal])) as address:
        with pytest.raises(errors.InvalidArgument) as raised:
            await call(address, segment(request_id="abc"))
    assert raised.value.request_id == "abc"
    assert raised.value.violations == (
        errors.FieldViolation("prompts[0].box.x_max", "x_max must be greater than x_min"),
    )


async def test_metadata_and_one_request_id_accompany_every_attempt(call: Caller) -> None:
    script = Script([overloaded(0.01), returning(OK), returning(OK)])
    async with serving(script) as address:
        await call(address, segment(), segment(), metadata={"Authorization": "Bearer k"})
    identifiers = [entry["x-request-id"] for entry in script.metadata]
    assert identifiers[0] == identifiers[1] != identifiers[2]
    assert {entry["authorization"] for entry in script.metadata} == {"Bearer k"}


async def test_models_are_listed_and_described(call: Caller) -> None:
    async with serving(Script([returning(OK)])) as address:
        models = await call(address, ("models", {}))
        model = await call(address, ("model", {"name": "nano"}))
        with pytest.raises(errors.ModelNotFound, match="no model other"):
            await call(address, ("model", {"name": "other"}))
    assert models == (model,)
    assert model.is_default
    assert model.prompt_kinds == {PromptKind.POINT}  # the kind 99 of a newer server is left out


async def test_cancelling_the_asyncio_call_cancels_it_on_the_server() -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request, context):
        arrived.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(Script([hang])) as address, AsyncClient(address) as client:
        call = asyncio.ensure_future(client.segment(IMAGE, points=[(1, 2)]))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(cancelled.wait(), 10)
