"""Puts the transport together: a gRPC server with every service, its interceptors and its end.

Which domain objects answer is decided by the composition root, which calls `build_server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    realtime_pb2,
    realtime_pb2_grpc,
    reconstruction_pb2,
    reconstruction_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)

from ..domain.models import ModelRegistry
from ..domain.observer import Observer
from ..domain.segmentation_service import SegmentationService
from ..settings import GrpcSettings, Settings
from .health import HealthServicer
from .interceptors.access_log import AccessLogInterceptor
from .interceptors.admission import AdmissionInterceptor
from .interceptors.deadlines import DeadlineInterceptor
from .interceptors.error_translation import ErrorInterceptor
from .interceptors.metrics import CallRecorder, MetricsInterceptor
from .interceptors.pipeline import CallPipeline
from .interceptors.request_id import RequestIdInterceptor
from .interceptors.validation import ValidationInterceptor
from .servicers.models import ModelServicer
from .servicers.segmentation import SegmentationServicer
from .validation import RequestValidator

_log = structlog.get_logger(__name__)

_SERVED: tuple[ServiceDescriptor, ...] = (
    segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"],
    model_pb2.DESCRIPTOR.services_by_name["ModelService"],
)

# Services whose domain part does not exist yet: the generated base servicers answer UNIMPLEMENTED.
_UNSERVED: tuple[
    tuple[ServiceDescriptor, Callable[[Any, grpc.aio.Server], None], Callable[[], object]], ...
] = (
    (
        file_pb2.DESCRIPTOR.services_by_name["FileService"],
        file_pb2_grpc.add_FileServiceServicer_to_server,
        file_pb2_grpc.FileServiceServicer,
    ),
    (
        job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
        job_service_pb2_grpc.add_JobServiceServicer_to_server,
        job_service_pb2_grpc.JobServiceServicer,
    ),
    (
        realtime_pb2.DESCRIPTOR.services_by_name["RealtimeService"],
        realtime_pb2_grpc.add_RealtimeServiceServicer_to_server,
        realtime_pb2_grpc.RealtimeServiceServicer,
    ),
    (
        reconstruction_pb2.DESCRIPTOR.services_by_name["ReconstructionService"],
        reconstruction_pb2_grpc.add_ReconstructionServiceServicer_to_server,
        reconstruction_pb2_grpc.ReconstructionServiceServicer,
    ),
    (
        video_pb2.DESCRIPTOR.services_by_name["VideoService"],
        video_pb2_grpc.add_VideoServiceServicer_to_server,
        video_pb2_grpc.VideoServiceServicer,
    ),
)
_ALL: tuple[ServiceDescriptor, ...] = (*_SERVED, *(service for service, _, _ in _UNSERVED))

# Live sessions tell about a bad message in-band and go on.
_IN_BAND_PATHS = ("/maskwire.v1.RealtimeService/RunSession",)

_UNLIMITED_MS = 2**31 - 1
_KEEPALIVE_TIME_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_MIN_CLIENT_PING_INTERVAL_MS = 10_000
# At the end: for the last answers on their way out, and with no new call for so long.
_FLUSH_S = 1.0
_QUIET_S = 0.1


class Recorder(Observer, CallRecorder, Protocol):
    """Everything that the transport reports to."""


class GrpcServer:
    """The gRPC server between `start` and `drain_and_stop`, which run on one event loop."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health_servicer: HealthServicer,
        admission: AdmissionInterceptor,
        address: tuple[str, int],
    ) -> None:
        self._server = server
        self._health = health_servicer
        self._admission = admission
        self._host, self._port = address

    @property
    def port(self) -> int:
        """Port that the server listens on; the one asked for until it is started."""
        return self._port

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            OSError: The port is taken or the address is not this machine's.
        """
        address = f"{self._host}:{self._port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is the port taken?") from error
        self._port = port
        for service in _SERVED:
            await self._health.set(service.full_name, health_pb2.HealthCheckResponse.SERVING)
        for service, _, _ in _UNSERVED:
            await self._health.set(service.full_name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        return port

    async def drain_and_stop(self, *, notice_s: float, grace_s: float) -> None:
        """End the server without losing a call that it took.

        Health says NOT_SERVING at once; calls are still taken for `notice_s`, so that balancers
        can look elsewhere; then new ones are refused with UNAVAILABLE and those in flight have
        `grace_s` to end. What is left after that is cancelled.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(notice_s)
        self._admission.close()
        self._health.end_watches()
        flush_s = min(_FLUSH_S, grace_s / 4)
        try:
            async with asyncio.timeout(grace_s - 2 * flush_s):
                await self._admission.wait_until_idle()
        except TimeoutError:
            _log.warning("calls outlast the grace", in_flight=self._admission.in_flight)
        # gRPC answers CANCELLED, which says nothing, to a call that arrives in the instant of its
        # stop: so it stops only when callers have been refused properly and none comes any more.
        await self._admission.wait_until_quiet(_QUIET_S, at_most_s=flush_s)
        await self._server.stop(flush_s)


def build_server(
    settings: Settings,
    segmentation: SegmentationService,
    models: ModelRegistry,
    recorder: Recorder,
) -> GrpcServer:
    """Build the server with all services; call it on the event loop that is to run it.

    Args:
        settings: The groups `grpc` and `limits` are used.
        segmentation: Answers `SegmentationService`.
        models: Answers `ModelService`.
        recorder: Receives measurements.
    """
    admission = AdmissionInterceptor(settings.limits.max_in_flight_calls, recorder)
    pipeline = CallPipeline(
        [
            RequestIdInterceptor(),
            MetricsInterceptor(recorder),
            AccessLogInterceptor(),
            ErrorInterceptor(),
            admission,
            DeadlineInterceptor(settings.grpc.default_deadline_s, settings.grpc.max_deadline_s),
            ValidationInterceptor(_warm_validator(), exempt_paths=_IN_BAND_PATHS),
        ]
    )
    server = grpc.aio.server(
        interceptors=[pipeline], options=list(_channel_options(settings.grpc).items())
    )
    _add_services(server, segmentation, models)
    health_servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.grpc.enable_reflection:
        names = [service.full_name for service in _ALL]
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
    if settings.grpc.enable_channelz:
        channelz.add_channelz_servicer(server)
    return GrpcServer(server, health_servicer, admission, (settings.grpc.host, settings.grpc.port))


def _add_services(
    server: grpc.aio.Server, segmentation: SegmentationService, models: ModelRegistry
) -> None:
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(
        # The stubs call every method abstract; at run time those that are missing answer
        # UNIMPLEMENTED.
        SegmentationServicer(segmentation),  # type: ignore[abstract]
        server,
    )
    model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(models), server)
    for _, add_to_server, make_servicer in _UNSERVED:
        add_to_server(make_servicer(), server)


def _warm_validator() -> RequestValidator:
    validator = RequestValidator()
    validator.warm(_request_examples())
    return validator


def _request_examples() -> Iterator[Message]:
    for service in _ALL:
        for method in service.methods:
            yield GetMessageClass(method.input_type)()


def _channel_options(settings: GrpcSettings) -> Mapping[str, int]:
    return {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": settings.max_message_bytes,
        # Two servers of one device must not share a port without a word.
        "grpc.so_reuseport": 0,
        "grpc.keepalive_time_ms": _KEEPALIVE_TIME_MS,
        "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": _MIN_CLIENT_PING_INTERVAL_MS,
        "grpc.max_connection_age_ms": min(
            round(settings.max_connection_age_s * 1e3), _UNLIMITED_MS
        ),
        # An old connection takes no new calls; those that it has may go on as long as they like.
        "grpc.max_connection_age_grace_ms": _UNLIMITED_MS,
    }
