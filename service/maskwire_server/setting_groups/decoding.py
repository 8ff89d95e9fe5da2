"""The settings of decoding."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .group import SettingGroup


class DecodingSettings(SettingGroup):
    """Decoding of untrusted files in child processes."""

    isolation: Literal["process", "none"] = "process"
    """Decode images, point maps, depth maps and videos in child processes with limits (Linux), or
    in the server itself, which a decoder that crashes then takes along."""
    processes: int = Field(default=0, ge=0, le=256)
    """Most child processes for images and maps; 0 means one for each of limits.pixel_threads. Each
    video in work has one of its own."""
    memory_bytes: int = Field(default=2 * 2**30, ge=2**26)
    """Address space of a child beyond that of its libraries, in bytes; the largest image of
    limits.max_image_pixels needs up to 20 bytes a pixel."""
    cpu_seconds: float = Field(default=20.0, gt=0)
    """Most processor time for a file, or for the next frame of a video."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest time for a file, or for the next frame of a video, in seconds."""
    recycle_after: int = Field(default=1000, ge=1)
    """Files after which a child is replaced; 1 has a new one for every file."""
    kept_children: int = Field(default=8, ge=1, le=1024)
    """Children that wait for the next file of the tenants that they decode for, at most; each takes
    20 to 28 MB. Where more tenants take turns, each turn starts a child anew."""
    share_children: bool = False
    """Have a child decode for one tenant after the other: nobody then waits for one to start, and a
    file that took a child over could see and change the files of others that come after it."""
