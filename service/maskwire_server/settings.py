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
from tomllib import TOMLDecodeError
from typing import Self, cast

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from .setting_groups.access import AuthSettings, QuotaSettings, TenantQuotaSettings, TlsSettings
from .setting_groups.decoding import DecodingSettings
from .setting_groups.keeping import (
    JobSettings,
    StorageSettings,
    WebhookSettings,
)
from .setting_groups.models import (
    ModelSettings,
    ModelsSettings,
    ReconstructionSettings,
)
from .setting_groups.serving import (
    CacheSettings,
    GrpcSettings,
    LimitSettings,
    LoggingSettings,
    MetricsSettings,
    SessionSettings,
    VideoSettings,
)
from .setting_groups.sources import BucketSettings, HttpsSettings, SourceSettings
from .setting_groups.tracing import TracingSettings

__all__ = [
    "CONFIG_FILE_VARIABLE",
    "AuthSettings",
    "BucketSettings",
    "CacheSettings",
    "DecodingSettings",
    "GrpcSettings",
    "HttpsSettings",
    "JobSettings",
    "LimitSettings",
    "LoggingSettings",
    "MetricsSettings",
    "ModelSettings",
    "ModelsSettings",
    "QuotaSettings",
    "ReconstructionSettings",
    "SessionSettings",
    "Settings",
    "SettingsError",
    "SourceSettings",
    "StorageSettings",
    "TenantQuotaSettings",
    "TlsSettings",
    "TracingSettings",
    "VideoSettings",
    "WebhookSettings",
]

CONFIG_FILE_VARIABLE = "MASKWIRE_CONFIG"
"""Environment variable that names the TOML configuration file."""


class SettingsError(Exception):
    """The settings are not valid; the message names each field and rule."""


class Settings(BaseSettings):
    """All settings of the server."""

    model_config = SettingsConfigDict(
        env_prefix="MASKWIRE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    grpc: GrpcSettings = GrpcSettings()
    """The gRPC endpoint."""
    tls: TlsSettings = TlsSettings()
    """Encryption of the gRPC endpoint."""
    auth: AuthSettings = AuthSettings()
    """Who may call."""
    quotas: QuotaSettings = QuotaSettings()
    """What each tenant may use."""
    metrics: MetricsSettings = MetricsSettings()
    """The Prometheus endpoint."""
    models: ModelsSettings = ModelsSettings()
    """Which models are served, and where they run."""
    cache: CacheSettings = CacheSettings()
    """What is kept between calls."""
    limits: LimitSettings = LimitSettings()
    """Bounds on what is accepted."""
    decoding: DecodingSettings = DecodingSettings()
    """Decoding of untrusted files in child processes."""
    sessions: SessionSettings = SessionSettings()
    """Live sessions."""
    video: VideoSettings = VideoSettings()
    """Stored videos."""
    storage: StorageSettings = StorageSettings()
    """Files that callers upload and the server makes."""
    sources: SourceSettings = SourceSettings()
    """Files that the server fetches from where callers say."""
    jobs: JobSettings = JobSettings()
    """Durable jobs: where they are kept and who runs them."""
    webhooks: WebhookSettings = WebhookSettings()
    """Reports of the end of jobs to the caller's URLs."""
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    """Reconstruction of 3D objects and bodies."""
    logging: LoggingSettings = LoggingSettings()
    """The log on standard error."""
    tracing: TracingSettings = TracingSettings()
    """Traces for an OpenTelemetry collector."""

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
        except (SourceError, TOMLDecodeError) as error:
            # A group in the environment that is no JSON, a file that is no TOML; no value is told.
            raise SettingsError(str(error)) from error


def _plain(value: object) -> str:
    """Return a setting's value as JSON can hold it."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
