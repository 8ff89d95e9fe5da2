"""The HTTP endpoint that Prometheus scrapes, on a thread and a port of its own.

It answers on every path and keeps no state; it stays up while the gRPC server drains.
"""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from .metrics import Metrics


class MetricsServer:
    """Serves metrics over HTTP between `start` and `stop`."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        """Take what to serve, and where; port 0 takes a free one."""
        self._metrics = metrics
        self._host = host
        self._port = port
        self._running: tuple[WSGIServer, threading.Thread] | None = None

    @property
    def port(self) -> int:
        """Port that the endpoint listens on; the one asked for until it is started."""
        return self._port

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        try:
            self._running = start_http_server(
                self._port, addr=self._host, registry=self._metrics.registry
            )
        except OSError as error:
            address = f"{self._host}:{self._port}"
            raise OSError(f"cannot listen on {address} for metrics: is the port taken?") from error
        self._port = self._running[0].server_port

    def stop(self) -> None:
        """Stop listening and end the thread; blocks for up to half a second."""
        if self._running is None:
            return
        server, thread = self._running
        self._running = None
        server.shutdown()
        server.server_close()
        thread.join()
