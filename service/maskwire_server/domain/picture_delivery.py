"""Making the pictures of an answer and bringing them to the caller: in the answer, or stored.

Pictures are drawn one at a time and bounded all together, so that no request for crops of a
thousand objects fills the memory. What they show is in `renderings.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .errors import ErrorCode, FieldViolation, MaskwireError
from .executor import BoundedExecutor
from .files.store import FileStore
from .geometry import ImageSize
from .packed_masks import DrawableMask
from .renderings import Delivery, Picture, RenderingRequest, draw
from .segmentation import Caller


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How many bytes the pictures of one answer may have together.

    Attributes:
        inline_bytes: In the answer itself.
        stored_bytes: As stored files.
    """

    inline_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class DeliveredPictures:
    """Pictures with what they took.

    Attributes:
        pictures: In the order of the requests.
        queue_s: Seconds of waiting for threads.
        run_s: Seconds of drawing and encoding.
    """

    pictures: tuple[Picture, ...] = ()
    queue_s: float = 0.0
    run_s: float = 0.0


class PictureMaker:
    """Draws pictures on the executor for pixels and delivers them."""

    def __init__(
        self, pixel_executor: BoundedExecutor, files: FileStore | None, limits: PictureLimits
    ) -> None:
        """Take what is needed; without a file store, pictures are delivered inline only."""
        self._pixels = pixel_executor
        self._files = files
        self._limits = limits

    def check(self, delivery: Delivery) -> None:
        """Refuse a delivery that this server does not offer, before any work is done.

        Raises:
            MaskwireError: `SOURCE_DISABLED` for stored files where there is no file store.
        """
        if delivery is Delivery.STORED_FILE and self._files is None:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                "delivery: this server stores no files; ask for DELIVERY_INLINE",
            )

    async def make(
        self,
        requests: Sequence[RenderingRequest],
        delivery: Delivery,
        size: ImageSize,
        pixels: NDArray[np.uint8] | None,
        masks: Sequence[DrawableMask],
        caller: Caller,
    ) -> DeliveredPictures:
        """Draw pictures, as `renderings.draw`, and deliver them.

        Stored pictures belong to the caller's tenant and expire as its other files do. Those that
        were stored before one that fails are left to expire.

        Raises:
            MaskwireError: As `draw` and `check`; `PAYLOAD_TOO_LARGE` where they have more bytes
                together than the limit; `QUOTA_EXCEEDED`, `STORAGE_UNAVAILABLE` as
                `FileStore.put`.
        """
        self.check(delivery)
        is_inline = delivery is Delivery.INLINE
        most = self._limits.inline_bytes if is_inline else self._limits.stored_bytes
        drawing = draw(requests, size, pixels, masks)
        pictures: list[Picture] = []
        total_bytes, queue_s, run_s = 0, 0.0, 0.0
        while True:
            drawn = await self._pixels.run(lambda: next(drawing, None), is_refusable=False)
            queue_s, run_s = queue_s + drawn.queue_s, run_s + drawn.run_s
            picture = drawn.value
            if picture is None:
                return DeliveredPictures(tuple(pictures), queue_s, run_s)
            assert isinstance(picture.content, bytes)
            total_bytes += len(picture.content)
            if total_bytes > most:
                raise _too_large(most, is_inline)
            pictures.append(picture if is_inline else await self._store(picture, caller))

    async def _store(self, picture: Picture, caller: Caller) -> Picture:
        assert self._files is not None
        assert isinstance(picture.content, bytes)
        stored = await self._files.put(
            caller,
            picture.content,
            content_type=picture.content_type,
            file_name=picture.file_name,
            image_size=picture.size,
        )
        return replace(picture, content=stored)


def _too_large(most_bytes: int, is_inline: bool) -> MaskwireError:
    remedy = "JPEG, fewer pictures" + (" or DELIVERY_STORED_FILE" if is_inline else "")
    rule = f"the pictures have more than {most_bytes} bytes together; ask for {remedy}"
    return MaskwireError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        f"renderings: {rule}",
        violations=(FieldViolation(field="renderings", description=rule),),
    )
