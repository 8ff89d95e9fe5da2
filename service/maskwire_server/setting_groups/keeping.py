"""The settings of what outlives a call: files, jobs, and reports of their end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from .group import Address, SettingGroup


class StorageSettings(SettingGroup):
    """Files that callers upload and the server makes."""

    url: Address | None = Field(default=None, pattern=r"^(s3|s3a|gs|az|azure|abfs|memory|file)://")
    """Object store and prefix, e.g. s3://bucket/prefix, gs://, az://; absent means the folder."""
    folder: Path = Path("~/.local/share/maskwire/files")
    """Folder of files where no url is given; made when the first file is stored."""
    endpoint: Address | None = None
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


class JobSettings(SettingGroup):
    """Durable jobs: where they are kept and who runs them."""

    backend: Literal["sqlite", "nats"] = "sqlite"
    """sqlite keeps jobs in a file of this machine; nats in JetStream, for a cluster."""
    database: Path = Path("~/.local/share/maskwire/jobs.sqlite")
    """File of the sqlite backend; made when the first job is submitted."""
    nats_url: Address = "nats://127.0.0.1:4222"
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
    health_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which `maskwire worker` serves grpc.health.v1, unencrypted, on the address grpc.host:
    SERVING until it drains; absent serves none, 0 takes a free one."""
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


class WebhookSettings(SettingGroup):
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
