"""Every setting of the server: the only place that reads the environment or a configuration file.

Settings come, in falling order of precedence, from arguments, from environment variables
(`MASKWIRE_` + group + `__` + field, e.g. `MASKWIRE_GRPC__PORT`), from the TOML file that
`MASKWIRE_CONFIG` or `--config` names, and from the defaults below. `maskwire config` prints what
is in force.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_FILE_VARIABLE = "MASKWIRE_CONFIG"
"""Environment variable that names the TOML configuration file."""


class SettingsError(Exception):
    """The settings are not valid; the message names each field and rule."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class GrpcSettings(_Group):
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
    enable_reflection: bool = True
    """Serve gRPC reflection, so that tools can list and call methods."""
    enable_channelz: bool = False
    """Serve channelz, which shows every connection; for debugging."""
    max_connection_age_s: float = Field(default=3600.0, gt=0)
    """Age in seconds at which connections are closed gracefully, so that balancing evens out."""


class MetricsSettings(_Group):
    """The Prometheus endpoint."""

    enabled: bool = True
    """Serve metrics over HTTP."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=9464, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""


class ModelSettings(_Group):
    """One model to serve."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name that requests use; a name of the catalogue implies the other fields."""
    engine: str | None = None
    """Engine that loads it, e.g. sam2; needed for models that the catalogue does not know."""
    checkpoint: Path | None = None
    """File with the weights (.safetensors, .pt); absent means the cache folder or the bundle."""
    config: Path | None = None
    """File with the architecture, for models that the catalogue does not know."""
    device: str | None = None
    """Device of this model; absent means the device of all."""
    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Arithmetic of this model; absent means the precision of all."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected digest of the checkpoint file; a different one refuses to load."""


class ModelsSettings(_Group):
    """Which models are served, and where they run."""

    serve: tuple[ModelSettings, ...] = Field(
        default=(ModelSettings(name="maskwire-nano"),), min_length=1
    )
    """The models, the default one first."""
    device: str = "auto"
    """cpu, cuda, cuda:N, mps, or auto: the first accelerator there is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks; auto is bf16 on cuda and fp32 elsewhere."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads of one network on the CPU; 0 leaves it to torch."""
    cache_folder: Path = Path("~/.cache/maskwire")
    """Folder of downloaded checkpoints."""


class CacheSettings(_Group):
    """What is kept between calls."""

    embedding_bytes: int = Field(default=2**30, ge=0)
    """Memory for image embeddings, in bytes."""
    image_bytes: int = Field(default=256 * 2**20, ge=0)
    """Memory for encoded images that callers may name by digest, in bytes."""


class LimitSettings(_Group):
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


class SessionSettings(_Group):
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


class VideoSettings(_Group):
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


class StorageSettings(_Group):
    """Files that callers upload and the server makes."""

    url: str | None = Field(default=None, pattern=r"^(s3|s3a|gs|az|azure|abfs|memory|file)://")
    """Object store and prefix, e.g. s3://bucket/prefix, gs://, az://; absent means the folder."""
    folder: Path = Path("~/.local/share/maskwire/files")
    """Folder of files where no url is given; made when the first file is stored."""
    endpoint: str | None = None
    """Address of an S3-compatible service other than Amazon's, e.g. https://minio.internal:9000."""
    region: str | None = None
    """Region of the S3 bucket."""
    allow_http: bool = False
    """Speak to the endpoint without TLS."""
    access_key_id: str | None = None
    """S3 access key; absent leaves credentials to the environment or the instance's role."""
    secret_access_key: SecretStr | None = None
    """S3 secret key."""
    max_file_bytes: int = Field(default=2 * 2**30, ge=1)
    """Largest file, in bytes."""
    max_tenant_bytes: int = Field(default=20 * 2**30, ge=0)
    """Most bytes that a tenant may have stored; each file counts 6 KiB more than its size."""
    time_to_live_s: float = Field(default=7 * 86400.0, gt=0, le=10 * 366 * 86400)
    """How long files are kept, in seconds: where a request does not say, and at most."""
    upload_time_to_live_s: float = Field(default=86400.0, gt=0, le=366 * 86400)
    """How long an unfinished upload on which nothing happens is kept, in seconds."""
    upload_idle_s: float = Field(default=60.0, gt=0)
    """How long an upload may send nothing, or less than 64 KiB, before it is ended, in seconds."""
    max_uploads: int = Field(default=16, ge=1)
    """Uploads that run at a time, each with up to 24 MiB of memory; more are refused."""
    sweep_interval_s: float = Field(default=600.0, gt=0)
    """Pause between two removals of what expired, in seconds."""


class JobSettings(_Group):
    """Durable jobs: where they are kept and who runs them."""

    backend: Literal["sqlite", "nats"] = "sqlite"
    """sqlite keeps jobs in a file of this machine; nats in JetStream, for a cluster."""
    database: Path = Path("~/.local/share/maskwire/jobs.sqlite")
    """File of the sqlite backend; made when the first job is submitted."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Servers of the nats backend, separated by commas; nats:// or tls://."""
    nats_credentials: Path | None = None
    """Credentials file (.creds) for NATS."""
    nats_prefix: str = Field(default="maskwire", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    """Begins the names of streams and subjects, so that deployments may share a NATS."""
    nats_replicas: int = Field(default=1, ge=1, le=5)
    """Replicas of the streams; 3 in a cluster."""
    workers: int = Field(default=1, ge=0, le=64)
    """Jobs that this process works on at a time, each in a child process; 0 leaves all to
    `maskwire worker`."""
    queues: tuple[str, ...] = ("segmentation", "inflate")
    """Queues that the workers of this process serve: segmentation, and the names of reconstruction
    engines."""
    lease_s: float = Field(default=10.0, ge=0.5)
    """How long a job stays with a worker that says nothing; a dead worker's job restarts after."""
    max_attempts: int = Field(default=3, ge=1, le=10)
    """How often a job is tried before it fails."""
    retry_delay_s: float = Field(default=1.0, ge=0)
    """Pause before the second attempt after a failure, in seconds; doubled before the third."""
    stall_timeout_s: float = Field(default=120.0, gt=0)
    """A child that reports no progress for so long is killed: the attempt fails."""
    cancel_grace_s: float = Field(default=1.5, ge=0)
    """How long a child may take to end a cancelled job before it is killed."""
    child_idle_s: float = Field(default=300.0, ge=0)
    """A child that has had nothing to do for so long is ended, which frees its models' memory."""
    child_memory_bytes: int = Field(default=0, ge=0)
    """Most address space of a child, in bytes; 0 sets none."""
    event_interval_s: float = Field(default=0.25, gt=0)
    """Least time between two events of progress within one stage."""
    max_queued: int = Field(default=1000, ge=1)
    """Jobs that wait in one queue; one more is RESOURCE_EXHAUSTED."""
    max_request_bytes: int = Field(default=128 * 2**20, ge=2**16)
    """Largest request of a job with all that was put into it, in bytes."""
    max_watchers: int = Field(default=256, ge=1)
    """Streams that watch jobs at a time; one more is RESOURCE_EXHAUSTED."""
    retention_s: float = Field(default=7 * 86400.0, gt=0)
    """How long a job that is done and its result are kept, in seconds; its files are kept as long,
    but not longer than storage.time_to_live_s."""
    sweep_interval_s: float = Field(default=600.0, gt=0)
    """Pause between two removals of jobs that expired, in seconds."""


class WebhookSettings(_Group):
    """Reports of the end of jobs to the caller's URLs, signed as Standard Webhooks says."""

    secret: SecretStr | None = None
    """Signing secret, `whsec_` and base 64; absent refuses requests with a webhook."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    allow_private_addresses: bool = False
    """Report to addresses that are not public, too: for receivers in the same network."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Longest time of one attempt, in seconds."""
    max_attempts: int = Field(default=8, ge=1, le=20)
    """Attempts before the report is given up."""
    first_delay_s: float = Field(default=5.0, gt=0)
    """Pause after the first failed attempt; doubled after each, up to an hour, and jittered."""


class ReconstructionSettings(_Group):
    """Reconstruction of 3D objects and bodies."""

    object_models: tuple[str, ...] = ("inflate",)
    """Engines that reconstruct objects, the default one first: inflate, sam3d-objects."""
    body_models: tuple[str, ...] = ()
    """Engines that reconstruct bodies: sam3d-body."""
    max_objects: int = Field(default=64, ge=1, le=64)
    """Most objects or people of one request."""
    max_geometry_bytes: int = Field(default=256 * 2**20, ge=2**10)
    """Most bytes of a point map or a depth map, unpacked; an upload may be as large as a file."""
    mesh_resolution_px: int = Field(default=256, ge=16, le=1024)
    """Longest side of the grid that inflate solves on."""
    texture_px: int = Field(default=1024, ge=16, le=8192)
    """Longest side of a texture."""
    max_splats: int = Field(default=60_000, ge=100)
    """Most splats of one object that inflate makes."""
    sam3d_objects_config: Path | None = None
    """pipeline.yaml of SAM 3D Objects' checkpoint folder."""
    sam3d_body_checkpoint: Path | None = None
    """Checkpoint file of SAM 3D Body."""
    sam3d_body_rig: Path | None = None
    """Momentum Human Rig asset file (mhr_model.pt) for SAM 3D Body."""


class LoggingSettings(_Group):
    """The log on standard error."""

    format: Literal["auto", "console", "json"] = "auto"
    """Lines for people or JSON; auto is console on a terminal and JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written."""


class Settings(BaseSettings):
    """All settings of the server."""

    model_config = SettingsConfigDict(
        env_prefix="MASKWIRE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    grpc: GrpcSettings = GrpcSettings()
    """The gRPC endpoint."""
    metrics: MetricsSettings = MetricsSettings()
    """The Prometheus endpoint."""
    models: ModelsSettings = ModelsSettings()
    """Which models are served, and where they run."""
    cache: CacheSettings = CacheSettings()
    """What is kept between calls."""
    limits: LimitSettings = LimitSettings()
    """Bounds on what is accepted."""
    sessions: SessionSettings = SessionSettings()
    """Live sessions."""
    video: VideoSettings = VideoSettings()
    """Stored videos."""
    storage: StorageSettings = StorageSettings()
    """Files that callers upload and the server makes."""
    jobs: JobSettings = JobSettings()
    """Durable jobs: where they are kept and who runs them."""
    webhooks: WebhookSettings = WebhookSettings()
    """Reports of the end of jobs to the caller's URLs."""
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    """Reconstruction of 3D objects and bodies."""
    logging: LoggingSettings = LoggingSettings()
    """The log on standard error."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the configuration file below the environment."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    def to_json(self) -> bytes:
        """Write all settings, secrets included, for a child process of this one."""
        return json.dumps(self.model_dump(), default=_plain).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote; no other source adds to it."""
        return cls(**json.loads(data))

    @classmethod
    def read(cls, config_file: Path | None = None, **overrides: object) -> Self:
        """Read the settings from all sources.

        Args:
            config_file: TOML file to read instead of the one that the environment names.
            overrides: Whole groups or fields of groups, as nested dictionaries; they win.

        Raises:
            SettingsError: A file is missing or unreadable, or a value breaks a rule.
        """
        named = config_file or os.environ.get(CONFIG_FILE_VARIABLE)
        if named and not Path(named).is_file():
            raise SettingsError(f"the configuration file {named} does not exist")

        class Configured(cls):  # type: ignore[misc, valid-type]
            model_config = SettingsConfigDict(toml_file=named)

        try:
            return cast(Self, Configured(**overrides))
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
                for item in error.errors()
            ]
            raise SettingsError("; ".join(lines)) from error


def _plain(value: object) -> str:
    """Return a setting's value as JSON can hold it."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
