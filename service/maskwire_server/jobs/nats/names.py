"""What streams, consumers and subjects are called.

A deployment's prefix begins all of them, so that several may share a NATS. Tenants and identifiers
become tokens that are legal whatever the text: the records themselves have the texts.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ...domain.jobs.job import JobKey

WORKERS = "workers"
"""The durable consumer of every queue, which all its workers share."""

_PLAIN_TOKEN = re.compile(r"[0-9a-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one deployment, which begin with its prefix."""

    prefix: str

    @property
    def jobs_stream(self) -> str:
        """The stream of all records and events."""
        return f"{self.prefix}_JOBS"

    @property
    def all_jobs(self) -> str:
        """Subject of all records."""
        return f"{self.prefix}.job.>"

    @property
    def all_changes(self) -> str:
        """Subject on which the server tells of every record that it stored."""
        return f"{self.prefix}.changed.>"

    @property
    def all_queued(self) -> str:
        """Subject of the places in all queues."""
        return f"{self.prefix}.queue.>"

    def tenant_jobs(self, tenant: str) -> str:
        """Return the subject of a tenant's records."""
        return f"{self.prefix}.job.{_tenant_token(tenant)}.*"

    def job(self, key: JobKey) -> str:
        """Return the subject of a job's records: its last message is the record as it stands."""
        return f"{self.prefix}.job.{_job_tokens(key)}"

    def changes(self, key: JobKey) -> str:
        """Return the subject on which the server tells of a job's records."""
        return f"{self.prefix}.changed.{_job_tokens(key)}"

    def queue_stream(self, queue: str) -> str:
        """Return the stream of a queue."""
        return f"{self.prefix}_QUEUE_{queue}"

    def queue_subjects(self, queue: str) -> str:
        """Return the subject of all places in a queue."""
        return f"{self.prefix}.queue.{queue}.>"

    def tenant_places(self, tenant: str) -> str:
        """Return the subject of a tenant's places in all queues."""
        return f"{self.prefix}.queue.*.{_tenant_token(tenant)}.*"

    def job_of_place(self, place: str) -> str:
        """Return the subject of the records of the job that has a place in a queue."""
        return f"{self.prefix}.job.{'.'.join(place.rsplit('.', 2)[1:])}"

    def place(self, queue: str, key: JobKey) -> str:
        """Return the subject of a job's place in a queue."""
        return f"{self.prefix}.queue.{queue}.{_job_tokens(key)}"

    def queue_of(self, stream: str) -> str | None:
        """Return the queue of a stream, or None where the stream is something else."""
        match = re.fullmatch(re.escape(self.prefix) + r"_QUEUE_([a-z0-9-]+)", stream)
        return None if match is None else match[1]


def _job_tokens(key: JobKey) -> str:
    return f"{_tenant_token(key.tenant)}.{_job_token(key.job_id)}"


def _tenant_token(tenant: str) -> str:
    return _hash(tenant)


def _job_token(job_id: str) -> str:
    """Return an identifier as it is, unless it is one that no job has and no subject can."""
    return job_id if _PLAIN_TOKEN.fullmatch(job_id) else f"h-{_hash(job_id)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
