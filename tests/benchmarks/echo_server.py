"""The floor of the measurements: a gRPC server that sends back what it gets.

Runs as a process of its own, `python -m tests.benchmarks.echo_server`, prints its port and ends
when its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

METHOD = "/maskwire.benchmark.Echo/Echo"


class _Echo(grpc.GenericRpcHandler):
    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        async def echo(request: bytes, context: object) -> bytes:
            return request

        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(echo)


async def _serve() -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve())
