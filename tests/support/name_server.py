"""A real name server on loopback, whose answers tests write: also ones that change each time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A
from dnslib.server import BaseResolver, DNSServer

_MAX_CHAIN = 8


@dataclass(frozen=True)
class Host:
    """What a name has.

    Attributes:
        addresses: The addresses of each answer in turn, the last one again and again; IPv4 and
            IPv6 together.
        alias: Another name that this one stands for.
        is_silent: Whether questions about it are never answered.
    """

    addresses: Sequence[Sequence[str]] = ()
    alias: str = ""
    is_silent: bool = False


_NOBODY = Host()


def at(*addresses: str) -> Host:
    """Return a host that always has these addresses."""
    return Host((addresses,))


@dataclass
class ScriptedNames(BaseResolver):  # type: ignore[misc] # it has no types
    """Answers with time to live 0.

    A lookup asks for IPv4 and for IPv6; each kind has its own turn, so that one lookup sees one
    row of `Host.addresses` whatever the order of its questions.
    """

    hosts: Mapping[str, Host]
    asked: list[str] = field(default_factory=list)
    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Is released for each lookup of a silent host once its question has come."""
    _turns: dict[tuple[str, int], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def forget(self) -> None:
        """Begin every host's answers anew."""
        with self._lock:
            self._turns.clear()
            self.asked.clear()

    def end(self) -> None:
        """Let those go whose questions were not answered."""
        self._ended.set()

    def resolve(self, request, handler):
        reply = request.reply()
        kind = request.q.qtype
        name = str(request.q.qname).rstrip(".").lower()
        if self.hosts.get(name, _NOBODY).is_silent:
            if kind == QTYPE.A:
                self.waiting.release()
            self._ended.wait()
            return reply
        with self._lock:
            self.asked.append(name)
            for _ in range(_MAX_CHAIN):
                host = self.hosts.get(name)
                if host is None:
                    reply.header.rcode = RCODE.NXDOMAIN
                    break
                if not host.alias:
                    self._add(reply, name, host, kind)
                    break
                reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(host.alias), ttl=0))
                name = host.alias
        return reply

    def _add(self, reply, name: str, host: Host, kind: int) -> None:
        turn = self._turns.get((name, kind), 0)
        self._turns[name, kind] = turn + 1
        for address in host.addresses[min(turn, len(host.addresses) - 1)]:
            if ":" in address and kind == QTYPE.AAAA:
                reply.add_answer(
                    RR(name, QTYPE.AAAA, rdata=AAAA(tuple(IPv6Address(address).packed)), ttl=0)
                )
            elif ":" not in address and kind == QTYPE.A:
                reply.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=0))


class _Silent:
    """Logs nothing."""

    def __getattr__(self, name):
        return lambda *_: None


@contextmanager
def serving_names(names: ScriptedNames, port: int = 53) -> Iterator[None]:
    """Answer questions over UDP and TCP."""
    servers = [
        DNSServer(names, port=port, address="127.0.0.1", tcp=tcp, logger=_Silent())
        for tcp in (False, True)
    ]
    for server in servers:
        server.start_thread()
    try:
        yield
    finally:
        names.end()
        for server in servers:
            server.stop()
            server.server.server_close()
