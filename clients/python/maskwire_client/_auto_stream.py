"""The iterators over automatic segmentation in progress, blocking and asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import grpc

from ._auto_messages import AutoSegmentReader
from ._errors import error_from_rpc
from .automatic import AutoSegmentUpdate
from .masks import Mask
from .results import SegmentationResult


class _AutoSegmentView:
    """What can be seen of the call without waiting."""

    def __init__(self, call: Any, request_id: str) -> None:
        self.request_id = request_id
        self._call = call
        self._reader = AutoSegmentReader()

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks that count so far, in the order in which they were found."""
        return tuple(self._reader.masks.values())

    @property
    def result(self) -> SegmentationResult | None:
        """The end: all masks, best first, and the pictures; None until the iteration came there."""
        return self._reader.result


class AutoSegmentStream(_AutoSegmentView, Iterator[AutoSegmentUpdate]):
    """Automatic segmentation in progress; `Client.stream_auto_segment` makes it.

    Closing it, or leaving its `with` block, cancels what is not done.
    """

    def __next__(self) -> AutoSegmentUpdate:
        """Return what changed, waiting for it.

        Raises:
            MaskwireError: The call failed.
        """
        try:
            update = self._reader.receive(next(self._call))
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.request_id) from None
        # After the result there is nothing but the status, which may still be an error.
        return self.__next__() if update is None else update

    def close(self) -> None:
        """Cancel what is not done."""
        self._call.cancel()

    def __enter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Cancel what is not done."""
        self.close()


class AsyncAutoSegmentStream(_AutoSegmentView, AsyncIterator[AutoSegmentUpdate]):
    """Automatic segmentation in progress; `AsyncClient.stream_auto_segment` makes it.

    It does what `AutoSegmentStream` does.
    """

    def __init__(self, call: Any, request_id: str) -> None:
        super().__init__(call, request_id)
        self._responses = aiter(call)

    async def __anext__(self) -> AutoSegmentUpdate:
        """Return what changed, waiting for it; raises as `AutoSegmentStream.__next__`."""
        try:
            update = self._reader.receive(await anext(self._responses))
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.request_id) from None
        return await self.__anext__() if update is None else update

    async def close(self) -> None:
        """Cancel what is not done."""
        self._call.cancel()

    async def __aenter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Cancel what is not done."""
        await self.close()
