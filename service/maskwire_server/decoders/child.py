"""What a decoding child does: one order after the other, until its server is gone.

The bytes of files lie at the beginning of the shared memory, or are the file that a video's child
was given; decoded values are written where the order says.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..domain.errors import MaskwireError
from ..domain.file_decoder import FileDecoder, InProcessDecoder, MaskFile
from ..domain.geometry import ImageSize
from ..domain.images import ImageLimits
from ..domain.reconstruction.geometry import Intrinsics
from ..domain.video.opened import OpenedVideo, PictureStream, VideoLimits
from . import messages
from .confinement import close_descriptors, confine, die_with_parent


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may use.

    Attributes:
        memory_bytes: Address space beyond what it has at its start.
        cpu_seconds: Processor time for one order; more ends it.
    """

    memory_bytes: int
    cpu_seconds: float


def run_child(
    connection: socket.socket, memory: int, file: int | None, limits: ChildLimits, parent: int
) -> None:
    """Serve a server's orders.

    Args:
        connection: To the server.
        memory: Descriptor of the shared memory.
        file: Descriptor of a video, for a child that decodes one.
        limits: What may be used.
        parent: Process identifier of the parent.
    """
    die_with_parent(parent)
    kept = (connection.fileno(), memory) if file is None else (connection.fileno(), memory, file)
    close_descriptors(kept)
    shared = mmap.mmap(memory, os.fstat(memory).st_size)
    os.close(memory)
    child = _Child(connection, shared, file, InProcessDecoder())
    is_filtered = confine(limits.memory_bytes)
    connection.send(messages.encode({"ready": True, "is_filtered": is_filtered}))
    while (order := messages.receive(connection)) is not None:
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)  # SIGPROF ends the process
        answer = child.answer(order)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(messages.encode(answer))


class _Child:
    """Carries out orders."""

    def __init__(
        self,
        connection: socket.socket,
        shared: mmap.mmap,
        file: int | None,
        decoder: FileDecoder,
    ) -> None:
        self._connection = connection
        self._shared = shared
        self._file = None if file is None else os.fdopen(file, "rb")
        self._decoder = decoder
        self._video: OpenedVideo | None = None
        self._pictures: PictureStream | None = None
        self._number = 0

    def answer(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out an order; whatever goes wrong is in the answer."""
        try:
            match order["do"]:
                case "image":
                    return self._image(order)
                case "masks":
                    return self._masks(order)
                case "point_map" | "depth_map":
                    return self._map(order)
                case "open_video":
                    return self._open_video(order)
                case "pictures":
                    return self._start_pictures(order)
                case _:
                    return self._read(order)
        except MaskwireError as error:
            return {"error": messages.error_to_fields(error)}
        except MemoryError:
            return {"failed": "memory"}
        except Exception as error:  # the server logs it, and starts another child
            return {"failed": "unexpected", "text": repr(error)[:500]}

    def _image(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        limits = ImageLimits(*order["limits"])
        pixels = self._decoder.image(self._bytes(order), limits, field=order["field"])
        return {"shape": self._put(pixels, order)}

    def _masks(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decode masks one after the other; a bit of each pixel goes into the shared memory."""
        size, begin, place = ImageSize(*order["image_size"]), 0, order["offset"]
        for size_bytes, field in zip(order["sizes_bytes"], order["fields"], strict=True):
            file = MaskFile(self._shared[begin : begin + size_bytes], field)
            (bitmap,) = self._decoder.masks([file], size)
            packed = np.packbits(bitmap)
            np.frombuffer(self._shared, np.uint8, packed.size, place)[:] = packed
            begin, place = begin + size_bytes, place + packed.size
        return {"masks": len(order["fields"])}

    def _map(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        data, size = self._bytes(order), ImageSize(*order["image_size"])
        field, most = order["field"], order["max_bytes"]
        if order["do"] == "point_map":
            points = self._decoder.point_map(data, size, field, most)
        else:
            camera = Intrinsics(*order["intrinsics"])
            points = self._decoder.depth_map(data, size, camera, order["unit_m"], field, most)
        return {"shape": self._put(points, order)}

    def _open_video(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._file is not None
        limits = VideoLimits(**order["limits"])
        self._video = self._decoder.open_video(self._file, limits, field=order["field"])
        video = self._video
        described = messages.video_to_fields(
            video.info, video.readable_frames, is_whole=video.is_whole
        )
        return {"video": described}

    def _start_pictures(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._video is not None
        self._pictures = self._video.pictures(range(*order["order"]))
        self._number += 1
        return {"stream": self._number}

    def _read(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._pictures is None or order["stream"] != self._number:
            return {"is_at_end": True}
        picture = self._pictures.read(order["patience_s"])
        if picture is None:
            return {"is_at_end": self._pictures.is_at_end}
        shape = self._put(picture.pixels, order)
        return {"shape": shape, "index": picture.index, "time_s": picture.time_s}

    def _bytes(self, order: Mapping[str, Any]) -> bytes:
        return self._shared[: order["size_bytes"]]

    def _put(self, values: NDArray[Any], order: Mapping[str, Any]) -> list[int]:
        """Write values into the shared memory; return their shape."""
        place = np.frombuffer(self._shared, values.dtype, values.size, order["offset"])
        np.copyto(place.reshape(values.shape), values)
        return list(values.shape)
