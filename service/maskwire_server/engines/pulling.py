"""How far a pull is: its stages, what listeners hear, and the hub client's bar that tells them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class PullStage(enum.Enum):
    """What a pull is busy with."""

    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    CONVERTING = "converting"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is.

    Attributes:
        stage: What it is busy with.
        done_bytes: Bytes of this stage that are done.
        total_bytes: Bytes of this stage in all.
    """

    stage: PullStage
    done_bytes: int
    total_bytes: int


ProgressListener = Callable[[PullProgress], None]


def bar_for(listener: ProgressListener, total_bytes: int, done_bytes: int = 0) -> type:
    """Return a class that the hub client takes for a progress bar and that tells the listener.

    Args:
        listener: Who is told.
        total_bytes: Size of all that is fetched.
        done_bytes: How much of it is here already, in other files.
    """

    class ListenerBar:
        def __init__(self, **options: Any) -> None:
            self.total = total_bytes
            self.n = done_bytes + int(options.get("initial") or 0)

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            listener(PullProgress(PullStage.DOWNLOADING, self.n, self.total))

        def update_transfer(self, count: float) -> None:
            """Bytes on the wire; `update` tells those on disk."""

        def set_postfix_str(self, text: str, refresh: bool = True) -> None: ...

        def set_transfer_postfix_str(self, text: str, refresh: bool = True) -> None: ...

        def close(self) -> None: ...

        def __enter__(self) -> ListenerBar:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    return ListenerBar
