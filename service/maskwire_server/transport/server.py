"""Puts the transport together: a gRPC server with every service, its interceptors and its end.

Which domain objects answer is decided by the composition root, which calls `build_server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import grpc
import structlog
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..domain.fair_door import FairDoor
from ..domain.identity import OPEN_ACCESS, AccessControl
from ..domain.observer import Observer
from ..domain.quotas import CallQuotas
from ..settings import GrpcSettings, Settings
from .health import HealthServicer
from .interceptors.access_log import AccessLogInterceptor
from .interceptors.admission import AdmissionInterceptor
from .interceptors.authentication import AuthenticationInterceptor
from .interceptors.deadlines import DeadlineInterceptor
from .interceptors.error_translation import ErrorInterceptor
from .interceptors.metrics import CallRecorder, MetricsInterceptor
from .interceptors.pipeline import CallPipeline
from .interceptors.quotas import QuotaInterceptor
from .interceptors.request_id import RequestIdInterceptor
from .interceptors.tracing import CallTracer, TracingInterceptor
from .interceptors.validation import ValidationInterceptor
from .listening import listen
from .services import Binding, DomainServices, bind
from .tls import server_credentials
from .validation import RequestValidator

_log = structlog.get_logger(__name__)

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
        bindings: Sequence[Binding],
        address: tuple[str, int],
        credentials: grpc.ServerCredentials | None,
    ) -> None:
        self._server = server
        self._credentials = credentials
        self._bindings = bindings
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
        port = listen(self._server, self._host, self._port, self._credentials)
        self._port = port
        for binding in self._bindings:
            status = (
                health_pb2.HealthCheckResponse.SERVING
                if binding.is_served
                else health_pb2.HealthCheckResponse.NOT_SERVING
            )
            await self._health.set(binding.descriptor.full_name, status)
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
    domain: DomainServices,
    recorder: Recorder,
    access: AccessControl = OPEN_ACCESS,
    quotas: CallQuotas | None = None,
    device_door: FairDoor | None = None,
    tracer: CallTracer | None = None,
) -> GrpcServer:
    """Build the server with all services; call it on the event loop that is to run it.

    Args:
        settings: The groups `grpc`, `tls` and `limits` are used.
        domain: What answers the calls.
        recorder: Receives measurements.
        access: Decides who may call.
        quotas: Decides what is one call too many for its tenant; None refuses none.
        device_door: Refuses calls that a device's queue would; None refuses none.
        tracer: Traces calls; None traces none.

    Raises:
        SettingsError: Certificates cannot be read.
    """
    validator = RequestValidator()
    bindings = bind(domain, validator)
    validator.warm(_request_examples(bindings))
    admission = AdmissionInterceptor(settings.limits.max_in_flight_calls, recorder, device_door)
    pipeline = CallPipeline(
        [
            RequestIdInterceptor(),
            *([] if tracer is None else [TracingInterceptor(tracer)]),
            MetricsInterceptor(recorder),
            AccessLogInterceptor(),
            ErrorInterceptor(),
            # Before admission: whoever is nobody takes nobody's place.
            AuthenticationInterceptor(access),
            *([] if quotas is None else [QuotaInterceptor(quotas)]),
            admission,
            DeadlineInterceptor(settings.grpc.default_deadline_s, settings.grpc.max_deadline_s),
            ValidationInterceptor(validator, exempt_paths=_IN_BAND_PATHS),
        ],
        max_stall_s=settings.grpc.max_stall_s,
        max_request_s=settings.grpc.max_request_s,
    )
    server = grpc.aio.server(
        interceptors=[pipeline], options=list(_channel_options(settings.grpc).items())
    )
    for binding in bindings:
        binding.add_to_server(binding.servicer, server)
    health_servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.grpc.enable_reflection:
        names = [binding.descriptor.full_name for binding in bindings]
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
    if settings.grpc.enable_channelz:
        channelz.add_channelz_servicer(server)
    address = (settings.grpc.host, settings.grpc.port)
    credentials = server_credentials(settings.tls)
    return GrpcServer(server, health_servicer, admission, bindings, address, credentials)


def _request_examples(bindings: Sequence[Binding]) -> Iterator[Message]:
    for binding in bindings:
        for method in binding.descriptor.methods:
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
