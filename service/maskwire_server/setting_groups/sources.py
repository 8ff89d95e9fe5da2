"""The settings of what the server fetches from where callers say."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import Field, SecretStr

from .group import Address, SettingGroup


class HttpsSettings(SettingGroup):
    """Files at `https:` URIs. Only public addresses are connected to, whatever a name says."""

    enabled: bool = False
    """Whether `https:` URIs are fetched at all."""
    allowed_hosts: tuple[str, ...] = ()
    """The only hosts: names, addresses, or `*.example.com` for all names below one; none means
    every host."""
    denied_hosts: tuple[str, ...] = ()
    """Hosts that are not fetched from, also where `allowed_hosts` has them."""
    allowed_ports: tuple[int, ...] = (443,)
    """The only ports."""
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are not public and may be connected to all the same, e.g. 10.20.0.0/16: every
    caller then reaches whatever answers HTTPS there."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Longest time to look up a name, to connect and to agree on TLS, in seconds."""
    max_redirects: int = Field(default=3, ge=0, le=10)
    """Redirects that are followed, each checked like the first address."""


class BucketSettings(SettingGroup):
    """A bucket of an object store, or a folder in one, that callers may name objects of."""

    url: str = Field(pattern=r"^(s3|gs|az)://[a-z0-9][a-z0-9._-]+(/[^/]+)*/?$")
    """Bucket and folder, e.g. s3://pictures/inbox; `{tenant}` in the folder stands for the caller's
    tenant, and then anonymous callers have none."""
    endpoint: Address | None = None
    """Address of an S3-compatible service other than Amazon's."""
    region: str | None = None
    """Region of the S3 bucket."""
    allow_http: bool = False
    """Speak to the endpoint without TLS."""
    access_key_id: str | None = None
    """S3 access key; absent leaves credentials to the environment or the instance's role."""
    secret_access_key: SecretStr | None = None
    """S3 secret key."""


class SourceSettings(SettingGroup):
    """What the server fetches from where callers say; nothing, unless it is said here."""

    https: HttpsSettings = HttpsSettings()
    """Files at `https:` URIs."""
    buckets: tuple[BucketSettings, ...] = ()
    """Buckets whose objects callers may name, as s3:, gs: or az: URIs."""
    max_fetches: int = Field(default=32, ge=1, le=1024)
    """Fetches at a time, each with up to a file of memory; more are RESOURCE_EXHAUSTED."""
    max_fetches_per_tenant: int = Field(default=8, ge=1, le=1024)
    """Fetches of one tenant at a time."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest time of one fetch, in seconds, redirects included."""
