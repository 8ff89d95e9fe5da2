"""Writes the settings of the manifests: `python -m deploy.kubernetes.settings`.

Each row below names a setting, its value in a cluster and why it differs from the default. What is
written, `settings.env` in the base, overlays and components, is what kustomize makes the ConfigMap
`maskwire-settings` from: environment variables that servers and workers share, each with the
setting's own documentation. A test holds the files to these rows, and the rows to `Settings`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic.fields import FieldInfo

from maskwire_server.settings import Settings

FOLDER = Path(__file__).parent
"""The tree of manifests."""

WEIGHTS = "/var/cache/maskwire"
"""Where checkpoints are mounted."""

DATA = "/var/lib/maskwire"
"""Where a pod keeps what it must write and may lose."""

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of a file.

    Attributes:
        setting: Group and field: `grpc.host`.
        value: What it is set to.
        why: Why not the default, as a clause or sentences.
    """

    setting: str
    value: str | int | float | bool | tuple[object, ...]
    why: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        group, field = self.setting.split(".")
        return f"MASKWIRE_{group.upper()}__{field.upper()}"

    @property
    def text(self) -> str:
        """The value as the environment variable has it."""
        if isinstance(self.value, str):
            return self.value
        return json.dumps(self.value)


_BASE = (
    Row("grpc.host", "0.0.0.0", "a pod's address is not known before"),
    Row("grpc.max_deadline_s", 300, "so that a drain, which waits for calls, has an end"),
    Row("grpc.drain_notice_s", 5, "balancers that ask for health every two seconds notice in time"),
    Row(
        "grpc.shutdown_grace_s",
        330,
        "longer than the longest call, so that no call that was taken is cut; a job in hand that "
        "takes longer goes back to its queue",
    ),
    Row(
        "grpc.max_connection_age_s",
        600,
        "new replicas get their share of long-lived clients within ten minutes",
    ),
    Row(
        "auth.allow_anonymous",
        True,
        "who may call is who the network policy lets in (label maskwire-client); the overlay "
        "production wants keys",
    ),
    Row("metrics.host", "0.0.0.0", "Prometheus scrapes the pod's address"),
    Row("logging.format", "json", "what collectors of logs read"),
    Row("models.cache_folder", WEIGHTS, "a volume: the image's own file system is read-only"),
    Row(
        "sessions.lease_s",
        900,
        "a session's state is in its server; with a lease of 15 minutes clients resume from their "
        "seed often enough that load evens out, and a pod may outlive every session that it has "
        "(terminationGracePeriodSeconds)",
    ),
    Row(
        "sessions.drain_grace_s",
        60,
        "clients are told at once and resume elsewhere within seconds; a minute is for slow ones",
    ),
    Row("jobs.backend", "nats", "replicas share one queue of jobs, which outlives each of them"),
    Row("jobs.nats_url", "nats://maskwire-nats:4222", "the component nats; or your own servers"),
    Row("jobs.nats_replicas", 3, "the loss of one NATS server loses no job"),
    Row("jobs.workers", 0, "servers serve; pods of their own work on jobs (maskwire worker)"),
    Row("jobs.lease_s", 30, "a device that loads a model, or a node under pressure, is not dead"),
    Row("storage.url", "s3://maskwire", "all pods see the same files; name your bucket"),
    Row("storage.region", "eu-central-1", "of that bucket"),
)

_DEV = (
    Row("logging.format", "console", "for people"),
    Row("jobs.backend", "sqlite", "one pod, no other services"),
    Row("jobs.database", f"{DATA}/jobs.sqlite", "a volume of the pod: gone with the pod"),
    Row("jobs.workers", 1, "the server works on its jobs itself"),
    Row("storage.url", f"file://{DATA}/files", "no object store; gone with the pod"),
    Row("sessions.lease_s", 3600, "nobody else needs the place"),
    Row("models.device", "cpu", "what kind and minikube have"),
)

_CPU = (
    Row("models.device", "cpu", "an absent accelerator is then no surprise"),
    Row("sessions.max_sessions", 4, "few frames a second on a CPU"),
    Row("limits.max_device_queue", 16, "more than that would wait longer than callers do"),
)

_GPU = (
    Row("models.device", "cuda", "a pod without its device must fail, not serve from the CPU"),
    Row(
        "models.serve",
        ({"name": "sam2.1-hiera-base-plus"}, {"name": "sam2.1-hiera-large"}),
        "the component model-cache fetches both; the first is the default",
    ),
    Row("sessions.max_sessions", 32, "to be measured: `maskwire bench load` on your devices"),
    Row(
        "reconstruction.object_models",
        ("inflate", "sam3d-objects"),
        "servers take requests for both; each has workers of its own",
    ),
    Row("reconstruction.body_models", ("sam3d-body",), "its workers are those of sam3d-objects"),
    Row(
        "reconstruction.sam3d_objects_config",
        f"{WEIGHTS}/sam3d-objects/pipeline.yaml",
        "Meta's licence wants each user's consent: put the folder on the volume yourself",
    ),
    Row(
        "reconstruction.sam3d_body_checkpoint",
        f"{WEIGHTS}/sam3d-body/model.ckpt",
        "as sam3d_objects_config",
    ),
    Row(
        "reconstruction.sam3d_body_rig",
        f"{WEIGHTS}/sam3d-body/mhr_model.pt",
        "as sam3d_objects_config",
    ),
)

_PRODUCTION = (
    Row("auth.allow_anonymous", False, "every caller has a key, and with it a tenant and quotas"),
    Row("auth.keys_file", "/etc/maskwire/keys.json", "of the Secret maskwire-keys"),
)

_TRACING = (
    Row("tracing.enabled", True, "who adds the component wants it"),
    Row(
        "tracing.endpoint",
        "http://otel-collector.monitoring:4317",
        "name your collector; the network policy beside this file lets spans out to it",
    ),
    Row(
        "tracing.sample_ratio",
        0.05,
        "sessions make a trace of each frame; callers that bring a trace decide for it themselves",
    ),
)

FILES: dict[str, tuple[Row, ...]] = {
    "base/settings.env": _BASE,
    "overlays/dev/settings.env": _DEV,
    "overlays/cpu/settings.env": _CPU,
    "overlays/gpu/settings.env": _GPU,
    "overlays/production/settings.env": _PRODUCTION,
    "components/tracing/settings.env": _TRACING,
}
"""The rows of each file; those of an overlay or a component win over the base's."""


def field_of(setting: str) -> FieldInfo:
    """Return what `Settings` says about a setting.

    Raises:
        KeyError: There is no such setting.
    """
    group, field = setting.split(".")
    model = Settings.model_fields[group].annotation
    assert model is not None
    fields: dict[str, FieldInfo] = model.model_fields
    return fields[field]


def render(rows: Sequence[Row]) -> str:
    """Return a file of environment variables, each below what it means and why it is set."""
    header = "# Made by `python -m deploy.kubernetes.settings`: change the rows there.\n"
    return "\n".join([header, *(_entry(row) for row in rows)])


def _entry(row: Row) -> str:
    documentation = " ".join((field_of(row.setting).description or "").split())
    lines = textwrap.wrap(f"{row.setting}: {documentation}", _WIDTH - 2)
    lines += textwrap.wrap(f"Here: {row.why}.", _WIDTH - 2)
    return "\n".join([*(f"# {line}" for line in lines), f"{row.variable}={row.text}", ""])


def main() -> None:
    """Write every file."""
    for name, rows in FILES.items():
        (FOLDER / name).write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
