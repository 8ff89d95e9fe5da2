"""A real gRPC server whose answers a test writes down: what clients make of errors and retries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from maskwire.v1 import (
    model_pb2,
    model_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)

Request = segmentation_pb2.SegmentImageRequest
Response = segmentation_pb2.SegmentImageResponse
Answer = Callable[[Request, grpc.aio.ServicerContext], Awaitable[Response]]


@dataclass
class Script(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Answers each call of `SegmentImage` by the next of `answers`, the last for ever.

    Attributes:
        answers: What to do.
        requests: What came, in order.
        metadata: Metadata of each call, in order.
    """

    answers: list[Answer]
    requests: list[Request] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)

    async def SegmentImage(  # noqa: N802 - the method's name in the contract
        self, request: Request, context: grpc.aio.ServicerContext
    ) -> Response:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        return await answer(request, context)

    async def AutoSegment(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")

    async def StreamAutoSegment(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")
        yield


class OneModel(model_pb2_grpc.ModelServiceServicer):
    """Serves a model called `nano`."""

    MODEL = model_pb2.Model(
        name="nano",
        engine="test",
        # 99 stands for a kind of a newer contract.
        prompt_kinds=[model_pb2.PROMPT_KIND_POINT, 99],  # type: ignore[list-item]
        capabilities=[model_pb2.CAPABILITY_SEGMENT_IMAGE],
        load_state=model_pb2.LOAD_STATE_LOADED,
        is_default=True,
    )

    async def ListModels(self, request, context):  # noqa: N802
        return model_pb2.ListModelsResponse(models=[self.MODEL])

    async def GetModel(self, request, context):  # noqa: N802
        if request.name not in ("", "nano"):
            await refuse(
                context,
                grpc.StatusCode.NOT_FOUND,
                f"no model {request.name}",
                reason="MODEL_NOT_FOUND",
            )
        return model_pb2.GetModelResponse(model=self.MODEL)


async def refuse(
    context: grpc.aio.ServicerContext,
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str = "",
    details: Iterable[Message] = (),
) -> None:
    """End a call with a status and its details, as Maskwire's server does."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    information = [error_details_pb2.ErrorInfo(domain="maskwire.v1", reason=reason)]
    for detail in [*(information if reason else []), *details]:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort_with_status(rpc_status.to_status(status))


def refusing(
    code: grpc.StatusCode, message: str = "no", reason: str = "", details: Iterable[Message] = ()
) -> Answer:
    """Return an answer that refuses."""

    async def answer(request: Request, context: grpc.aio.ServicerContext) -> Response:
        await refuse(context, code, message, reason=reason, details=details)
        raise AssertionError("refusing raises")

    return answer


def returning(response: Response) -> Answer:
    """Return an answer that returns this response."""

    async def answer(request: Request, context: grpc.aio.ServicerContext) -> Response:
        return response

    return answer


@asynccontextmanager
async def serving(script: Script, port: int = 0) -> AsyncIterator[str]:
    """Serve a script (and one model) on a port of the loopback interface; give its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(script, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(OneModel(), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
