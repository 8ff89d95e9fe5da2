"""Binds gRPC servers to their addresses."""

from __future__ import annotations

import grpc


def listen(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Bind a server that has not started, and return the port; for 0 it is a free one.

    Args:
        server: The server.
        host: Address to listen on.
        port: Port, or 0.
        credentials: Encrypt connections; None does not.

    Raises:
        OSError: The port is taken or the address is not this machine's.
    """
    address = f"{host}:{port}"
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: is the port taken?") from error
