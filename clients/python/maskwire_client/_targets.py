"""The channels of one session or watch: the client's own, and those to the targets of `Reconnect`.

Channels to other targets are opened when they are first needed, and are the session's to close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_ChannelT = TypeVar("_ChannelT")


class TargetChannels(Generic[_ChannelT]):
    """Channels by number of the connection; the targets are taken in turn, the own one first.

    Args:
        own: The client's own channel, which stays open.
        targets: The other addresses.
        open_channel: Opens a channel to an address.
    """

    def __init__(
        self, own: _ChannelT, targets: Sequence[str], open_channel: Callable[[str], _ChannelT]
    ) -> None:
        self._own = own
        self._targets = tuple(targets)
        self._open = open_channel
        self._others: dict[str, _ChannelT] = {}

    def __getitem__(self, index: int) -> _ChannelT:
        """Return the channel of a connection, counted from 0."""
        place = index % (len(self._targets) + 1)
        if place == 0:
            return self._own
        target = self._targets[place - 1]
        if target not in self._others:
            self._others[target] = self._open(target)
        return self._others[target]

    def take_others(self) -> list[_ChannelT]:
        """Forget the channels that were opened here, and return them to be closed."""
        others = list(self._others.values())
        self._others.clear()
        return others
