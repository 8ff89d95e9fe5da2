"""Options and credentials of channels, the same for both clients; opens none itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc

Certificate: TypeAlias = bytes | Path
ChannelOptions: TypeAlias = list[tuple[str, str | int]]

IDEMPOTENT_METHODS: tuple[tuple[str, str | None], ...] = (
    ("maskwire.v1.SegmentationService", None),
    ("maskwire.v1.ModelService", None),
    ("maskwire.v1.FileService", "GetUpload"),
    ("maskwire.v1.FileService", "GetFile"),
    ("maskwire.v1.FileService", "ListFiles"),
    ("maskwire.v1.FileService", "CreateDownloadUrl"),
    ("maskwire.v1.JobService", "SubmitJob"),
    ("maskwire.v1.JobService", "GetJob"),
    ("maskwire.v1.JobService", "GetJobResult"),
    ("maskwire.v1.JobService", "ListJobs"),
    ("maskwire.v1.JobService", "CancelJob"),
)
"""Services (method None: all of it) whose calls may be sent again after UNAVAILABLE."""

_KEEPALIVE_MS = 60_000
_FRAMING_BYTES = 64 * 1024
_MAX_INT = 2**31 - 1
# gRPC's own pauses between attempts to connect grow to 2 min: a server that is back would be left
# alone for that long.
_FIRST_RECONNECT_MS = 200
_LONGEST_RECONNECT_MS = 5_000


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust the server, and to be trusted by it; PEM, as bytes or as a file.

    Attributes:
        root_certificates: Authorities that may sign the server's certificate; None means gRPC's
            own list.
        client_certificate: This client's certificate with its chain, for mutual TLS.
        client_key: Its private key.
        server_name: Name to expect in the server's certificate instead of the address's host.
    """

    root_certificates: Certificate | None = None
    client_certificate: Certificate | None = None
    client_key: Certificate | None = field(default=None, repr=False)
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for a channel.

        Raises:
            OSError: A file cannot be read.
            ValueError: Only one of client certificate and key is given.
        """
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together")
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.root_certificates),
            private_key=_pem(self.client_key),
            certificate_chain=_pem(self.client_certificate),
        )


def _pem(certificate: Certificate | None) -> bytes | None:
    return certificate.read_bytes() if isinstance(certificate, Path) else certificate


def service_config(retry_attempts: int) -> str:
    """Return gRPC's service config as JSON: retries, balancing, and leaving servers that drain.

    Args:
        retry_attempts: Most attempts of a call that fails with UNAVAILABLE, 1 to 5; 1 never
            retries.
    """
    config: dict[str, object] = {
        # Plain round_robin keeps calling a server that drains; with health checks it moves away.
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    }
    if retry_attempts > 1:
        names = [
            {"service": service} if method is None else {"service": service, "method": method}
            for service, method in IDEMPOTENT_METHODS
        ]
        policy = {
            "maxAttempts": retry_attempts,
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 3,
            # gRPC answers CANCELLED for a server that stops in the instant in which a call arrives;
            # what this client cancels itself is never sent again.
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": policy}]
        # When most calls fail anyway, retries stop: they would hold a struggling server down.
        config["retryThrottling"] = {"maxTokens": 20, "tokenRatio": 0.2}
    return json.dumps(config)


def channel_options(
    *, retry_attempts: int, max_message_bytes: int, tls: Tls | None, user_agent: str
) -> ChannelOptions:
    """Return the options of a channel.

    Raises:
        ValueError: `retry_attempts` is not 1 to 5.
    """
    if not 1 <= retry_attempts <= 5:
        raise ValueError(f"retry_attempts must be 1 to 5, not {retry_attempts}")
    options: ChannelOptions = [
        ("grpc.service_config", service_config(retry_attempts)),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # gRPC sends again only what it has kept, by default 256 KiB: less than most photographs.
        ("grpc.per_rpc_retry_buffer_size", min(max_message_bytes + _FRAMING_BYTES, _MAX_INT)),
        ("grpc.primary_user_agent", user_agent),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
    ]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options
