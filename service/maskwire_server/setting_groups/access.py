"""The settings of who may call: encryption, credentials, and what each tenant may use."""

from __future__ import annotations

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
