"""A network of its own for a child process, in which every address is this machine.

Linux gives it to whoever may make user namespaces: a loopback interface to which every IPv4 and
IPv6 address leads, so that "public" servers, clouds' metadata and private hosts all are sockets of
the child; and a name server of the child's, through the system's own resolver.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

_ENTER = ("--user", "--map-root-user", "--net", "--mount", "--")
_LOOPBACK = 1
_LOCAL_TABLE, _LOCAL_ROUTE, _HOST_SCOPE = 255, 2, 254
# The resolver asks for IPv4 and IPv6 only where an interface has an address that is not loopback.
_OWN_ADDRESSES = (("93.184.216.1", 32), ("2606:2800:220:1::1", 128))
_RESOLVER_FILE = "nameserver 127.0.0.1\noptions timeout:10 attempts:1\n"


def unshare_program() -> str:
    """Return the program that makes namespaces; skip where there are none, and fail in CI."""
    program = shutil.which("unshare")
    if program is not None:
        tried = subprocess.run([program, *_ENTER, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return program
    assert not os.environ.get("CI"), "user and network namespaces must be allowed in CI"
    pytest.skip(
        "what callers' URIs reach was not tested in a network of its own: this machine has no "
        "unshare, or does not let us make user and network namespaces"
    )


def run_in_own_network(module: str, *arguments: str, timeout_s: float) -> str:
    """Run a Python module in a network of its own and return what it printed."""
    command = [unshare_program(), *_ENTER, sys.executable, "-m", module, *arguments]
    folder = Path(__file__).parents[2]
    ran = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout


def set_up_network(folder: Path) -> None:
    """Have every address lead to this process, and names be asked of port 53 on loopback."""
    with IPRoute() as routes:
        routes.link("set", index=_LOOPBACK, state="up")
        for address, length in _OWN_ADDRESSES:
            routes.addr("add", index=_LOOPBACK, address=address, prefixlen=length)
        for family, everything in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
            routes.route(
                "add",
                family=family,
                dst=everything,
                oif=_LOOPBACK,
                type=_LOCAL_ROUTE,
                table=_LOCAL_TABLE,
                scope=_HOST_SCOPE,
            )
    resolver_file = folder / "resolv.conf"
    resolver_file.write_text(_RESOLVER_FILE)
    place = Path("/etc/resolv.conf").resolve()
    subprocess.run(["mount", "--bind", resolver_file, place], check=True)


class ConnectionWatch:
    """Sees every TCP connection that anybody in this network begins, by its first packet."""

    def __init__(self) -> None:
        everything = socket.htons(0x0003)
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, everything)
        self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        self._packets.setblocking(False)

    def take(self) -> set[tuple[str, int]]:
        """Return the addresses and ports that were connected to since the last time."""
        seen = set[tuple[str, int]]()
        while True:
            try:
                packet, (_, protocol, *_) = self._packets.recvfrom(2048)
            except BlockingIOError:
                return seen
            place = _begun(packet, protocol)
            if place is not None:
                seen.add(place)

    def close(self) -> None:
        self._packets.close()


def _begun(packet: bytes, protocol: int) -> tuple[str, int] | None:
    """Return where a packet begins a connection to, if it does."""
    if protocol == 0x0800 and packet[9] == socket.IPPROTO_TCP:
        to, tcp = packet[16:20], packet[(packet[0] & 15) * 4 :]
    elif protocol == 0x86DD and packet[6] == socket.IPPROTO_TCP:
        to, tcp = packet[24:40], packet[40:]
    else:
        return None
    is_first = tcp[13] & 0b0001_0010 == 0b0000_0010  # SYN without ACK
    return (str(ip_address(to)), struct.unpack("!H", tcp[2:4])[0]) if is_first else None
