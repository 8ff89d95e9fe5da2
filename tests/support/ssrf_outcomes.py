"""What `ssrf_world` prints about each case of the matrix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        case: Its name; `control` for a connection that was made on purpose.
        through: `adapter` or `server`.
        outcomes: What each try ended with.
        messages: What the caller was told, empty where it was fetched.
        packets: Addresses and ports that somebody in this network connected to.
        calls: Those that this process's Python code connected to.
    """

    case: str
    through: str
    outcomes: list[str]
    messages: list[str]
    packets: list[tuple[str, int]]
    calls: list[tuple[str, int]]
