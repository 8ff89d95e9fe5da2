"""The settings of who may call: encryption, credentials, and what each tenant may use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from .group import Address, SettingGroup


class TlsSettings(SettingGroup):
    """Encryption of the gRPC endpoint. Files that change are read again without a restart."""

    certificate_file: Path | None = None
    """The server's certificate with its chain (PEM); absent serves without encryption."""
    key_file: Path | None = None
    """Its private key (PEM)."""
    client_ca_file: Path | None = None
    """Authorities of client certificates (PEM): clients without one are refused."""
    reload_interval_s: float = Field(default=10.0, gt=0)
    """How often is looked whether the files changed, in seconds."""


class AuthSettings(SettingGroup):
    """Who may call. Without any kind of credentials everybody may, as one anonymous tenant: this
    is refused where others than this machine could reach the server, unless it is allowed.
    """

    allow_anonymous: bool | None = None
    """Let callers without credentials in, as the anonymous tenant; absent means: only where no
    kind of credentials is set up and grpc.host is a loopback address."""
    keys_file: Path | None = None
    """File of API keys, which `maskwire keys` makes."""
    reload_interval_s: float = Field(default=1.0, gt=0)
    """How often is looked whether the file of keys changed, in seconds: how long a revoked key
    lives on."""
    certificates: bool = False
    """Take the common name of a client's certificate for its tenant; needs tls.client_ca_file."""
    token_issuer: str | None = None
    """Issuer (`iss`) of JSON Web Tokens; absent takes none."""
    token_audience: str = "maskwire"
    """Audience (`aud`) that tokens must name."""
    token_key_set: Address | None = None
    """The issuer's JSON Web Key Set: a file, or an `https://` address."""
    token_tenant_claim: str = "tenant"
    """Claim of a token that names the tenant."""
    token_scope_claim: str = "scope"
    """Claim of a token with its scopes; a token without it may call everything."""
    token_ca_file: Path | None = None
    """Certificates to trust for the key set's address instead of the system's."""
    token_refresh_interval_s: float = Field(default=300.0, ge=1)
    """How often the key set is read again, in seconds."""


class TenantQuotaSettings(SettingGroup):
    """What one tenant may use, where it differs; what is absent is as for the others."""

    calls_per_minute: int | None = Field(default=None, ge=0)
    """As quotas.calls_per_minute."""
    burst: int | None = Field(default=None, ge=0)
    """As quotas.burst."""
    concurrent_calls: int | None = Field(default=None, ge=0)
    """As quotas.concurrent_calls."""
    concurrent_uploads: int | None = Field(default=None, ge=0)
    """As quotas.concurrent_uploads."""
    unfinished_jobs: int | None = Field(default=None, ge=0)
    """As quotas.unfinished_jobs."""
    weight: float | None = Field(default=None, gt=0, le=1000)
    """As quotas.weight."""


class QuotaSettings(SettingGroup):
    """What each tenant may use; 0 means as much as there is. Live sessions are limited by
    sessions.max_sessions_per_tenant, stored bytes by storage.max_tenant_bytes.
    """

    calls_per_minute: int = Field(default=0, ge=0)
    """Calls that a tenant may make in a minute; a stream is one call, however long it is."""
    burst: int = Field(default=0, ge=0)
    """Calls that a tenant may make at once when it has made none for a while; 0 means what the rate
    gives in ten seconds."""
    concurrent_calls: int = Field(default=0, ge=0)
    """Calls and streams that a tenant may have at a time, on each server."""
    concurrent_uploads: int = Field(default=0, ge=0)
    """Uploads that a tenant may have at a time, on each server; storage.max_uploads is for all."""
    unfinished_jobs: int = Field(default=0, ge=0)
    """Jobs of a tenant that may wait or run at a time; each submission counts them then."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """A tenant's share of a device beside others that want more than there is."""
    tenants: Mapping[str, TenantQuotaSettings] = Field(default_factory=dict)
    """Tenants for which some of this differs, by name: [quotas.tenants.acme]."""
    store: Address | None = Field(default=None, pattern=r"^rediss?://")
    """Redis or Valkey in which all servers count calls together, redis:// or rediss://; absent
    means that each counts its own. One that does not answer is as if it were absent."""
    store_timeout_s: float = Field(default=0.05, gt=0, le=5)
    """Longest wait for the store, in seconds."""
