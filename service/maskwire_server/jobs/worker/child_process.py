"""A child process as its worker sees it: started, spoken to, ended with all that it started."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Self

import structlog

from ...domain.errors import ErrorCode, MaskwireError
from . import frames
from .frames import Frame

_log = structlog.get_logger(__name__)

_KEPT_LINES = 3
_LINE_CHARACTERS = 200
_OUTPUT_BLOCK_BYTES = 2**16
_LOGGED_LINES = 100
_OUTPUT_PAUSE_S = 0.01
_READ_AHEAD_BYTES = 2**20
_TIDY_UP_S = 6.0


@dataclass(frozen=True, slots=True)
class ChildSetup:
    """How children are started.

    Attributes:
        argv: The program and its arguments; the number of a descriptor is added.
        memory_bytes: Most address space; 0 sets none.
        max_body_bytes: Largest request or result.
        configuration: What the child makes its runner from; it may hold secrets, and goes over the
            connection, not through arguments or the environment.
    """

    argv: Sequence[str]
    memory_bytes: int
    max_body_bytes: int
    configuration: bytes = b""


class ChildProcess:
    """A running child; made by `start`, ended by `finish` or `kill`, used on one event loop."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        output: _Output,
        max_body_bytes: int,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._output = output
        self._max_body_bytes = max_body_bytes

    @classmethod
    async def start(cls, setup: ChildSetup) -> Self:
        """Start a child in a session of its own, with one connection to it.

        One that fails or is cancelled leaves neither a process nor a descriptor behind.

        Raises:
            MaskwireError: `WORKER_LOST`: the program cannot be started.
        """
        ours, theirs = socket.socketpair()
        output_end, output_of_child = os.pipe()
        output_pipe = os.fdopen(output_end, "rb", 0)
        async with AsyncExitStack() as undoing:
            undoing.callback(ours.close)
            undoing.callback(output_pipe.close)
            with theirs, os.fdopen(output_of_child, "wb", 0) as output_of_child_pipe:
                process = await _spawn(setup.argv, theirs, output_of_child_pipe)
            undoing.push_async_callback(_end, process)
            output = await _Output.of_pipe(output_pipe, process.pid)
            undoing.push_async_callback(output.close)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_READ_AHEAD_BYTES)
            child = cls(process, reader, writer, output, setup.max_body_bytes)
            undoing.pop_all()
            undoing.push_async_callback(child.kill)
            limits = {"memory_bytes": setup.memory_bytes, "max_body_bytes": setup.max_body_bytes}
            await child.send(Frame(frames.START, limits, setup.configuration))
            undoing.pop_all()
        return child

    @property
    def pid(self) -> int:
        """Its process identifier, which is also that of its group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None and not self._reader.at_eof()

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that it printed since `forget_lines`."""
        return tuple(self._output.lines)

    def forget_lines(self) -> None:
        """Forget what it printed: the next call may be another tenant's."""
        self._output.lines.clear()

    async def send(self, frame: Frame) -> None:
        """Send a frame; what a child that is gone does not take is noticed when one receives."""
        with suppress(ConnectionError):
            self._writer.write(frame.head())
            if frame.body:
                self._writer.write(frame.body)
            await self._writer.drain()

    async def receive(self) -> Frame | None:
        """Return the next frame, or None where the child has ended or says nothing readable."""
        try:
            return await frames.read_frame(self._reader, self._max_body_bytes)
        except frames.BrokenFrame as error:
            _log.error("a child said what is no frame", child=self.pid, error=str(error))
            return None

    async def finish(self) -> None:
        """Let a child that has nothing to do tidy up and end; kill it if it takes too long."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        await self._ended_within(_TIDY_UP_S)

    async def ended(self) -> str:
        """Wait for a child that closed its connection to end, not for long; else kill it."""
        return await self._ended_within(1.0)

    async def kill(self) -> str:
        """End the child and what it started, at once; return how it ended: a signal or a code.

        It is done whole also where the caller is cancelled meanwhile.
        """
        killing = asyncio.ensure_future(self._kill())
        try:
            return await asyncio.shield(killing)
        finally:
            await asyncio.wait({killing})

    async def _ended_within(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            ending = await self.kill()
        return ending

    async def _kill(self) -> str:
        self._writer.close()
        code = await _end(self._process)
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        await self._output.close()
        return _ending(code)


class _Output:
    """What a child prints: read all the time, logged for people, the last lines kept."""

    def __init__(
        self, transport: asyncio.ReadTransport, reader: asyncio.StreamReader, pid: int
    ) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._transport = transport
        self._reader = reader
        self._pid = pid
        self._task = asyncio.create_task(self._read(), name=f"output-{pid}")

    @classmethod
    async def of_pipe(cls, pipe: io.FileIO, pid: int) -> Self:
        """Read from the end of a pipe."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        return cls(transport, reader, pid)

    async def close(self) -> None:
        """Take what the child printed last; something that it started may hold the pipe open."""
        await asyncio.wait({self._task}, timeout=0.2)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._transport.close()

    async def _read(self) -> None:
        rest = b""
        while block := await self._reader.read(_OUTPUT_BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            self._take(lines)
            if len(rest) > _OUTPUT_BLOCK_BYTES:
                self._take([rest])
                rest = b""
            if len(block) == _OUTPUT_BLOCK_BYTES:
                # One that floods its output is slowed down, not the loop that reads it.
                await asyncio.sleep(_OUTPUT_PAUSE_S)
        self._take([rest])

    def _take(self, lines: Sequence[bytes]) -> None:
        for raw in lines[-_LOGGED_LINES:]:
            line = raw[: 4 * _LINE_CHARACTERS].decode(errors="replace").strip()
            if line:
                self.lines.append(line[:_LINE_CHARACTERS])
                _log.debug("output of a child", child=self._pid, line=line)


async def _spawn(
    argv: Sequence[str], connection: socket.socket, output: io.FileIO
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            str(connection.fileno()),
            pass_fds=(connection.fileno(),),
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    except OSError as error:
        raise MaskwireError(
            ErrorCode.WORKER_LOST, f"no child can be started: {error.strerror}"
        ) from error


async def _end(process: asyncio.subprocess.Process) -> int:
    """Kill a child and what it started, and return its exit code."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return await process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
