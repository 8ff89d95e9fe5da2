"""The settings of serving: the endpoints, the log, and what calls and streams may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .group import SettingGroup


class GrpcSettings(SettingGroup):
    """The gRPC endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    max_message_bytes: int = Field(default=64 * 2**20, ge=2**16)
    """Largest message in either direction, in bytes; a larger one is RESOURCE_EXHAUSTED."""
    default_deadline_s: float = Field(default=60.0, gt=0)
    """Deadline of unary calls that bring none, in seconds."""
    max_deadline_s: float = Field(default=600.0, gt=0)
    """Longest deadline of unary calls, in seconds; a longer one is shortened to it."""
    drain_notice_s: float = Field(default=0.5, ge=0)
    """Pause between NOT_SERVING and refusing new calls at shutdown, so that balancers notice."""
    shutdown_grace_s: float = Field(default=30.0, ge=0)
    """Longest time that calls in flight may take to finish at shutdown, in seconds."""
    max_stall_s: float = Field(default=60.0, gt=0)
    """Longest time that a stream waits for a client that does not read, in seconds."""
    max_request_s: float = Field(default=120.0, gt=0)
    """Longest time that the message of a call with one request takes to come, in seconds; sessions
    and uploads have limits of their own (sessions.idle_timeout_s, storage.upload_idle_s)."""
    enable_reflection: bool = True
    """Serve gRPC reflection, so that tools can list and call methods."""
    enable_channelz: bool = False
    """Serve channelz, which shows every connection; for debugging."""
    max_connection_age_s: float = Field(default=3600.0, gt=0)
    """Age in seconds at which connections are closed gracefully, so that balancing evens out."""


class MetricsSettings(SettingGroup):
    """The Prometheus endpoint."""

    enabled: bool = True
    """Serve metrics over HTTP."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=9464, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""


class LoggingSettings(SettingGroup):
    """The log on standard error."""

    format: Literal["auto", "console", "json"] = "auto"
    """Lines for people or JSON; auto is console on a terminal and JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written."""


class LimitSettings(SettingGroup):
    """Bounds on what is accepted."""

    max_image_bytes: int = Field(default=48 * 2**20, ge=1)
    """Largest encoded image, in bytes."""
    max_image_pixels: int = Field(default=64_000_000, ge=1)
    """Most pixels of an image, read from its header before it is decoded."""
    max_image_side_px: int = Field(default=16_384, ge=1)
    """Longest side of an image."""
    mask_bytes: int = Field(default=2**29, ge=2**20)
    """Memory for the masks of one call of SegmentImage that are kept, one bit a pixel of their
    boxes, to draw them and to find those that overlap, in bytes."""
    max_refined_masks: int = Field(default=16, ge=1)
    """Most masks of one call of SegmentImage that postprocess.refine draws a second time, the best
    scores first; each takes the encoder once more, if it shares no window with another."""
    max_picture_bytes: int = Field(default=256 * 2**20, ge=1)
    """Most bytes that the pictures of one answer have together; pictures in the answer itself have
    at most three quarters of the largest message."""
    max_prompts: int = Field(default=1024, ge=1, le=4096)
    """Most prompts in a request."""
    max_grid_points: int = Field(default=65_536, ge=1)
    """Most grid points of automatic segmentation, all crops of a request together."""
    auto_segment_bytes: int = Field(default=512 * 2**20, ge=2**20)
    """Memory for the masks that one automatic segmentation holds while it runs, in bytes, and the
    same again for those that it has finished."""
    max_in_flight_calls: int = Field(default=512, ge=1)
    """Most calls and streams at a time, health and reflection not counted."""
    max_device_queue: int = Field(default=128, ge=0)
    """Most calls that wait for a device; one more is RESOURCE_EXHAUSTED with RetryInfo."""
    max_pixel_queue: int = Field(default=512, ge=0)
    """Most calls that wait for decoding and encoding pictures on the CPU."""
    pixel_threads: int = Field(default=0, ge=0)
    """Threads that decode and encode pictures; 0 means one for each core."""


class CacheSettings(SettingGroup):
    """What is kept between calls."""

    embedding_bytes: int = Field(default=2**30, ge=0)
    """Memory for image embeddings, in bytes."""
    image_bytes: int = Field(default=256 * 2**20, ge=0)
    """Memory for encoded images that callers may name by digest, in bytes."""


class SessionSettings(SettingGroup):
    """Live sessions."""

    max_sessions: int = Field(default=64, ge=1)
    """Most sessions at a time; one more is RESOURCE_EXHAUSTED with RetryInfo."""
    max_sessions_per_tenant: int = Field(default=64, ge=1)
    """Most sessions of one tenant at a time."""
    max_objects: int = Field(default=64, ge=1, le=1024)
    """Most objects of a session at a time."""
    max_held_frames: int = Field(default=8, ge=0, le=64)
    """Most frames before the latest that prompts may refer to; each holds its embedding."""
    idle_timeout_s: float = Field(default=60.0, gt=0)
    """A session whose client says nothing for so long is ended."""
    lease_s: float = Field(default=4 * 3600.0, gt=0)
    """Longest time that a session lasts; then it must be resumed from its seed."""
    lease_notice_s: float = Field(default=30.0, ge=0)
    """How long before the end of the lease the client is told."""
    drain_grace_s: float = Field(default=10.0, ge=0)
    """How long sessions may go on when the server stops; bounded by grpc.shutdown_grace_s."""
    max_waiting_requests: int = Field(default=64, ge=1)
    """Requests of one session that wait; then reading stops, and flow control pushes back."""
    max_waiting_frames: int = Field(default=2, ge=1)
    """Frames among them."""
    max_waiting_responses: int = Field(default=4, ge=1)
    """Responses that wait for a client that does not read; then its session stops working."""
    max_seed_bytes: int = Field(default=12 * 2**20, ge=2**16, le=15 * 2**20)
    """Most bytes of frames and masks in an exported seed."""


class VideoSettings(SettingGroup):
    """Stored videos."""

    max_video_bytes: int = Field(default=256 * 2**20, ge=1)
    """Largest encoded video, in bytes; one in a request is also bound by grpc.max_message_bytes."""
    max_frame_pixels: int = Field(default=9_000_000, ge=1)
    """Most pixels of a frame; 4096 x 2160 is 8,847,360."""
    max_frame_side_px: int = Field(default=8192, ge=1)
    """Longest side of a frame."""
    max_frames: int = Field(default=100_000, ge=1)
    """Most frames of a video."""
    max_duration_s: float = Field(default=3600.0, gt=0)
    """Longest video, in seconds."""
    max_streams: int = Field(default=8, ge=1)
    """Most videos in work at a time; one more is RESOURCE_EXHAUSTED with RetryInfo."""
    max_objects: int = Field(default=64, ge=1, le=1024)
    """Most objects that one request tracks."""
    decode_ahead_frames: int = Field(default=4, ge=1)
    """Decoded frames of one video that wait for the device."""
    reverse_buffer_bytes: int = Field(default=256 * 2**20, ge=0)
    """Memory for decoded frames of one video that is tracked backward; less of it means that more
    frames are decoded several times."""
    max_overlay_bytes: int = Field(default=48 * 2**20, ge=2**16)
    """Largest overlay video, in bytes; returned inline it must fit grpc.max_message_bytes."""
    max_overlay_mask_bytes: int = Field(default=64 * 2**20, ge=2**16)
    """Memory for the masks of one video that wait to be drawn."""
