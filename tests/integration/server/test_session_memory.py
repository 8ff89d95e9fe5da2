"""The memory of a session does not grow with the stream, and none is left of sessions that end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from maskwire.v1 import geometry_pb2, image_pb2, prompt_pb2, realtime_pb2
from maskwire_client import Client, Point, encode_image
from tests.support.clips import make_clip
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess, server_process
from tests.support.session_server import SessionServer, Stream, session_server
from tests.support.session_world import picture

RED = (255, 0, 0)
GROWTH = 0.02
ON_THE_SQUARE = prompt_pb2.Prompt(
    point=prompt_pb2.PointPrompt(point=geometry_pb2.Point(x=4.0, y=10.0))
)


@pytest.fixture(scope="module")
def server() -> Iterator[SessionServer]:
    with session_server() as running:
        yield running


def test_what_a_session_holds_is_the_same_after_2000_frames(server: SessionServer) -> None:
    pictures = [picture((left, RED)) for left in range(2, 22)]
    held = {}
    with grpc.insecure_channel(server.address) as channel:
        stream = Stream(channel)
        stream.ask(sequence=1, config=realtime_pb2.SessionConfig(held_frames=2))
        for number in range(2000):
            frame = realtime_pb2.SessionFrame(
                image=image_pb2.ImageSource(data=pictures[number % len(pictures)]),
                frame_id=number,
                prompts=[ON_THE_SQUARE] if number == 0 else [],
            )
            answer = stream.ask(sequence=number + 2, frame=frame)
            assert answer.frame_result.masks[0].state != realtime_pb2.OBJECT_STATE_LOST
            if number % 20 == 19:
                held[number + 1] = server.value("maskwire_sessions_bytes")
        stream.half_close()
        assert stream.hear().WhichOneof("message") == "ended"
        assert stream.hear_end() is grpc.StatusCode.OK
    assert len({size for frames, size in held.items() if frames >= 20}) == 1
    assert server.value("maskwire_sessions_bytes") == 0


@pytest.mark.robustness
@pytest.mark.timeout(1800)
def test_resident_memory_after_300_and_3000_frames(tmp_path: Path) -> None:
    frames = clip_frames()
    memory = {}
    with (
        server_process(tmp_path) as server,
        Client(server.address) as client,
        client.open_session() as session,
    ):
        session.track(frames[0], points=[Point(*first_click())])
        for number in range(1, 3000):
            shown = frames[_back_and_forth(number, len(frames))]
            assert len(session.track(shown, frame_id=number)) == 1
            if number + 1 in (300, 3000):
                memory[number + 1] = resident_bytes(server.process.pid)
    print(f"resident: {memory}, growth {memory[3000] / memory[300] - 1:+.4f}")
    assert memory[3000] < memory[300] * (1 + GROWTH)


@pytest.mark.robustness
@pytest.mark.timeout(1800)
def test_resident_memory_after_50_sessions(tmp_path: Path) -> None:
    frames = clip_frames()
    with server_process(tmp_path) as server, Client(server.address) as client:
        run_sessions(client, frames, 10)
        before = resident_bytes(server.process.pid)
        run_sessions(client, frames, 50)
        after = resident_bytes(server.process.pid)
        print(f"resident: {before} -> {after}, growth {after / before - 1:+.4f}")
        assert after < before * (1 + GROWTH)
        assert_nothing_is_open(server)


def resident_bytes(process_id: int) -> int:
    """Resident memory of a process, in bytes."""
    status = Path(f"/proc/{process_id}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def run_sessions(client: Client, frames: list[bytes], count: int) -> None:
    for number in range(count):
        with client.open_session() as session:
            session.track(frames[0], points=[Point(*first_click())])
            for offset in range(1, 6):
                session.track(frames[(number + offset) % len(frames)], frame_id=offset)


def assert_nothing_is_open(server: ServerProcess) -> None:
    assert scraped(server.metrics_port, "maskwire_sessions_active") == 0
    assert scraped(server.metrics_port, "maskwire_sessions_bytes") == 0


def clip_frames() -> list[bytes]:
    clip = make_clip(seed=3, frames=48)
    return [encode_image(pixels, "jpeg") for pixels in clip.frames]


def first_click() -> tuple[float, float]:
    mask = next(iter(make_clip(seed=3, frames=48).masks[0].values()))
    y, x = np.argwhere(mask).mean(0)
    return float(x), float(y)


def _back_and_forth(number: int, count: int) -> int:
    """Play a clip forward and backward in turn, so that nothing jumps."""
    position = number % (2 * count - 2)
    return position if position < count else 2 * count - 2 - position
