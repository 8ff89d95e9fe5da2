"""An application that traces and uses both clients: address and collector are its arguments.

It prints the trace of each thing that it did, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from maskwire_client import AsyncClient, Client, Point, encode_image, errors
from maskwire_client.jobs import SegmentCall

CLICK = [Point(40, 30)]


def _picture(seed: int) -> bytes:
    """Return a light square on dark ground, another one for each seed."""
    pixels = np.full((60, 80, 3), 30 + seed, dtype=np.uint8)
    pixels[15:45, 20:60] = 200
    return encode_image(pixels)


@contextmanager
def _done(name: str, traces: dict[str, str]) -> Iterator[None]:
    with trace.get_tracer("application").start_as_current_span(name) as span:
        traces[name] = f"{span.get_span_context().trace_id:032x}"
        yield


def _blocking(address: str, traces: dict[str, str]) -> None:
    with Client(address, digest_first=False) as client:
        with _done("segment", traces):
            client.segment(_picture(1), points=CLICK, request_id="id-of-segment")
        with _done("bad image", traces), suppress(errors.InvalidArgument):
            client.segment(b"no image at all", points=CLICK)
        with _done("session", traces), client.open_session() as session:
            session.track(_picture(2), points=CLICK)
            session.track(_picture(3))
            session.prompt(points=CLICK)
            session.end()
        with _done("job", traces):
            call = SegmentCall(image=_picture(4), points=CLICK)
            job = client.submit_job(call)
        for _ in client.watch_job(job.name):
            pass


async def _asyncio(address: str, traces: dict[str, str]) -> None:
    async with AsyncClient(address, digest_first=False) as client:
        with _done("asyncio segment", traces):
            await client.segment(_picture(5), points=CLICK)
        with _done("asyncio deadline", traces), suppress(errors.DeadlineExceeded):
            await client.segment(_picture(6), points=CLICK, timeout_s=1e-4)


def main(address: str, endpoint: str) -> None:
    """Do everything once."""
    provider = TracerProvider(resource=Resource({"service.name": "application"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint, insecure=True)))
    trace.set_tracer_provider(provider)
    traces: dict[str, str] = {}
    _blocking(address, traces)
    asyncio.run(_asyncio(address, traces))
    provider.shutdown()
    print(json.dumps(traces))


if __name__ == "__main__":
    main(*sys.argv[1:])
