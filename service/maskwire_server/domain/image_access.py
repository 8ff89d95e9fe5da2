"""From the image source of a request to an embedding, with everything that is remembered.

Two caches, both by tenant and digest: encoded images, so that callers may send digests instead of
bytes, and embeddings, also by model. Concurrent calls for one image decode and encode it once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .caches import ByteBudgetCache, SingleFlightCache
from .engine import ImageEmbedding
from .errors import ErrorCode, MaskwireError
from .executor import BoundedExecutor, Completed
from .file_decoder import FileDecoder, FileDecoders, InProcessDecoders
from .files.store import FILE_NAME_PREFIX, FileStore
from .geometry import ImageSize
from .images import (
    ImageFormat,
    ImageLimits,
    check_bytes,
    identify_format,
    image_digest,
    parse_data_uri,
)
from .inference_size import shown_to_model
from .models import ServedModel
from .observer import Observer
from .remote_sources import RemoteSources, WantedContent
from .segmentation import Caller, ImageDigest, ImageInfo, ImageSource, ImageUri, InlineImage

_URI_FIELD = "image.uri"
_MEDIA_TYPES = frozenset(known.value for known in ImageFormat) | {"image/jpg"}
_HASH_INLINE_BYTES = 256 * 1024
"""Below this a digest takes less time (0.15 ms) than a trip to another thread and back."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image embedding with the identity of its image and what it cost.

    Attributes:
        embedding: What the engine's encoder made.
        info: Digest, size and media type of the image.
        decode_s: Seconds that reading and decoding the file took.
        queue_s: Seconds of waiting for threads and the device.
        encode_s: Seconds of the image encoder.
    """

    embedding: ImageEmbedding
    info: ImageInfo
    decode_s: float
    queue_s: float
    encode_s: float


@dataclass(frozen=True, slots=True, eq=False)
class LocatedImage:
    """An image known by its digest.

    Attributes:
        digest: Digest of the encoded bytes.
        data: The encoded bytes, if the request brought them.
        decoded: Shape (height, width, 3), uint8, RGB, and what decoding took; None as long as
            nothing but the image's embedding was needed.
    """

    digest: str
    data: bytes | None
    decoded: Completed[NDArray[np.uint8]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FrameImage:
    """A frame of a live session, read and ready to be encoded.

    Attributes:
        digest: Digest of the encoded bytes.
        data: The encoded bytes, or None where only the embedding is held.
        size: Size of the frame.
        pixels: Shape (height, width, 3), uint8, RGB; None where the embedding is held.
        embedding: The embedding, where it is held.
        decode_s: Seconds that decoding took.
        queue_s: Seconds of waiting for threads.
        decoded_s: When it was decoded, on `time.perf_counter`'s clock; None where it was not.
    """

    digest: str
    data: bytes | None
    size: ImageSize
    pixels: NDArray[np.uint8] | None
    embedding: EncodedImage | None
    decode_s: float
    queue_s: float
    decoded_s: float | None = None

    @property
    def is_cached(self) -> bool:
        """Whether the embedding is held."""
        return self.embedding is not None


class ImageAccess:
    """Finds images and their embeddings, scoped to the caller's tenant."""

    def __init__(
        self,
        pixel_executor: BoundedExecutor,
        limits: ImageLimits,
        observer: Observer,
        *,
        embedding_budget_bytes: int,
        image_budget_bytes: int,
        files: FileStore | None = None,
        sources: RemoteSources | None = None,
        decoders: FileDecoders | None = None,
    ) -> None:
        self._files = files
        self._sources = sources
        self._pixels = pixel_executor
        self._limits = limits
        self._decoders = decoders or InProcessDecoders()
        self._observer = observer
        self._images: ByteBudgetCache[tuple[str, str], bytes] = ByteBudgetCache(
            "image", image_budget_bytes, len, observer
        )
        self._embeddings: SingleFlightCache[tuple[str, str, str], EncodedImage] = SingleFlightCache(
            ByteBudgetCache(
                "embedding",
                embedding_budget_bytes,
                lambda encoded: encoded.embedding.size_bytes,
                observer,
            )
        )

    @property
    def limits(self) -> ImageLimits:
        """The limits that images are accepted by."""
        return self._limits

    def decoder_of(self, caller: Caller) -> FileDecoder:
        """Return what decodes a caller's files."""
        return self._decoders.of_tenant(caller.tenant)

    async def locate(self, source: ImageSource, caller: Caller) -> LocatedImage:
        """Return the digest of the image, and its bytes where the source has them.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` or `PAYLOAD_TOO_LARGE` for a `data:` URI or a stored
                file that is broken or too large, `FILE_NOT_FOUND`, `STORAGE_UNAVAILABLE`,
                `SOURCE_DISABLED` for URIs that this server does not fetch, and for those that
                it does what `RemoteSources.copy` raises.
        """
        if isinstance(source, ImageDigest):
            return LocatedImage(source.digest, None)
        data = source.data if isinstance(source, InlineImage) else await self._fetch(source, caller)
        if len(data) <= _HASH_INLINE_BYTES:
            return LocatedImage(image_digest(data), data)
        hashed = await self._pixels.run(lambda: image_digest(data))
        return LocatedImage(hashed.value, data)

    async def decode(self, image: LocatedImage, caller: Caller) -> LocatedImage:
        """Return the image with its pixels, which `embedding` then does not decode again.

        Raises:
            MaskwireError: As `embedding`.
        """
        data, decoder = self._bytes_of(image, caller), self.decoder_of(caller)
        decoded = await self._pixels.run(lambda: decoder.image(data, self._limits))
        return LocatedImage(image.digest, data, decoded)

    async def embedding(
        self,
        image: LocatedImage,
        model: ServedModel,
        caller: Caller,
        *,
        longest_side_px: int | None = None,
    ) -> tuple[EncodedImage, bool]:
        """Return the embedding of an image, and whether it was in the cache.

        Args:
            image: The image.
            model: Whose embedding.
            caller: Whose image it is.
            longest_side_px: Reduce a larger image to this before the model sees it; the embedding
                then has the smaller size, and `EncodedImage.info` that of the image itself.

        Raises:
            MaskwireError: `IMAGE_NOT_FOUND` for a digest whose image is not held any more,
                `INVALID_ARGUMENT` for bytes that are no image, `PAYLOAD_TOO_LARGE` for one beyond
                the limits, `OVERLOADED`, `MODEL_UNAVAILABLE`.
        """
        name = model.description.name
        seen_by = name if longest_side_px is None else f"{name}@{longest_side_px}"
        key = (caller.tenant, image.digest, seen_by)
        held = self._embeddings.get(key)
        if held is not None:
            if image.data is not None:
                self._images.put((caller.tenant, image.digest), image.data)
            return held, True
        found = replace(image, data=self._bytes_of(image, caller))

        async def encode() -> EncodedImage:
            return await self._encode(found, model, caller, longest_side_px)

        return await self._embeddings.compute(key, encode), False

    async def read_frame(
        self, source: ImageSource, model: ServedModel, caller: Caller
    ) -> FrameImage:
        """Read a frame of a live session: its size is known before the device is troubled.

        Raises:
            MaskwireError: As `locate` and `embedding`.
        """
        located = await self.locate(source, caller)
        held = self._embeddings.get((caller.tenant, located.digest, model.description.name))
        if held is not None:
            data = located.data or self._images.get((caller.tenant, located.digest))
            return FrameImage(located.digest, data, held.info.size, None, held, 0.0, 0.0)
        data, decoder = self._bytes_of(located, caller), self.decoder_of(caller)
        decoded = await self._pixels.run(
            lambda: decoder.image(data, self._limits, field="frame.image.data"),
            is_refusable=False,
        )
        height, width = decoded.value.shape[:2]
        size = ImageSize(width_px=width, height_px=height)
        return FrameImage(
            located.digest,
            data,
            size,
            decoded.value,
            None,
            decoded.run_s,
            decoded.queue_s,
            decoded.ended_s,
        )

    async def encode_frame(
        self, frame: FrameImage, model: ServedModel, caller: Caller, *, keep: bool
    ) -> EncodedImage:
        """Return the embedding of a frame.

        Args:
            frame: What `read_frame` returned.
            model: The model.
            caller: Whose frame it is.
            keep: Whether to remember frame and embedding like those of a still image; a live
                video would only push everything else out of the caches.

        Raises:
            MaskwireError: `OVERLOADED`, `MODEL_UNAVAILABLE`.
        """
        if frame.embedding is not None:
            return frame.embedding
        pixels, data = frame.pixels, frame.data
        assert pixels is not None
        assert data is not None
        encoded = await model.run(lambda: model.engine.encode(pixels), is_refusable=False)
        name = model.description.name
        self._observer.stage_finished("decode", name, frame.decode_s, frame.decoded_s)
        self._observer.stage_finished("encode", name, encoded.run_s, encoded.ended_s)
        image = EncodedImage(
            embedding=encoded.value,
            info=ImageInfo(frame.digest, frame.size, identify_format(data).value),
            decode_s=frame.decode_s,
            queue_s=frame.queue_s + encoded.queue_s,
            encode_s=encoded.run_s,
        )
        if keep:
            self._images.put((caller.tenant, frame.digest), data)
            self._embeddings.put((caller.tenant, frame.digest, name), image)
        return image

    async def pixels(self, image: LocatedImage, caller: Caller) -> NDArray[np.uint8]:
        """Return the decoded image, shape (height, width, 3), for drawing on.

        Raises:
            MaskwireError: As `embedding`.
        """
        held = image if image.decoded is not None else await self.decode(image, caller)
        assert held.decoded is not None
        return held.decoded.value

    async def _fetch(self, source: ImageUri, caller: Caller) -> bytes:
        if source.uri.startswith(FILE_NAME_PREFIX) and self._files is not None:
            return await self._read_stored(self._files, source.uri, caller)
        if source.uri[:5].lower() == "data:":
            return (await self._pixels.run(lambda: parse_data_uri(source.uri, self._limits))).value
        if self._sources is None:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                f"{_URI_FIELD}: this server reads data: URIs and uploaded files only; "
                "send the image's bytes",
            )
        chunks = await self._sources.fetch(source.uri, self._wanted(), caller)
        return (await self._pixels.run(partial(b"".join, chunks))).value

    def _wanted(self) -> WantedContent:
        return WantedContent(
            _URI_FIELD,
            self._limits.max_bytes,
            _MEDIA_TYPES,
            partial(identify_format, field=_URI_FIELD),
        )

    async def _read_stored(self, files: FileStore, name: str, caller: Caller) -> bytes:
        stored = await files.get(caller, name)
        check_bytes(stored.size_bytes, self._limits, _URI_FIELD)
        chunks = [chunk async for chunk in files.read(caller, name)]
        return (await self._pixels.run(partial(b"".join, chunks))).value

    def _bytes_of(self, image: LocatedImage, caller: Caller) -> bytes:
        data = image.data
        if data is None:
            data = self._images.get((caller.tenant, image.digest))
        if data is None:
            raise MaskwireError(
                ErrorCode.IMAGE_NOT_FOUND,
                f"image.digest: no image {image.digest} is held here; send its bytes",
                resource=image.digest,
            )
        return data

    async def _encode(
        self, image: LocatedImage, model: ServedModel, caller: Caller, longest_side_px: int | None
    ) -> EncodedImage:
        if image.decoded is None:
            image = await self.decode(image, caller)
        decoded, data = image.decoded, image.data
        assert decoded is not None
        assert data is not None
        pixels = decoded.value
        height, width = pixels.shape[:2]
        size = ImageSize(width_px=width, height_px=height)
        self._images.put((caller.tenant, image.digest), data)
        if longest_side_px is not None:
            shown = await self._pixels.run(lambda: shown_to_model(decoded.value, longest_side_px))
            pixels = shown.value
        # By the prompts, which whoever wants the embedding has at hand.
        encoded = await model.run(lambda: model.engine.encode(pixels), is_followed=True)
        name = model.description.name
        self._observer.stage_finished("decode", name, decoded.run_s, decoded.ended_s)
        self._observer.stage_finished("encode", name, encoded.run_s, encoded.ended_s)
        return EncodedImage(
            embedding=encoded.value,
            info=ImageInfo(image.digest, size, identify_format(data).value),
            decode_s=decoded.run_s,
            queue_s=decoded.queue_s + encoded.queue_s,
            encode_s=encoded.run_s,
        )
