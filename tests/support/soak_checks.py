"""What must be so after a soak, however long it was."""

from __future__ import annotations

from maskwire_client import JobState
from maskwire_client.load import Kind
from tests.support.soak_run import SoakReport, dump


def check_soak(seen: SoakReport) -> None:
    """No call failed, sessions were resumed with their objects, and each job was done once."""
    told = dump(seen.document)
    kinds = seen.result.recorder.kinds
    for kind in (Kind.SEGMENT, Kind.AUTO, Kind.JOB):
        if kind in kinds:
            assert (kinds[kind].failed, kinds[kind].shed) == (0, 0), told
    assert kinds[Kind.SEGMENT].ok > 0, told
    sessions = seen.result.sessions
    assert (sessions.failed, sessions.unaccounted, sessions.without_object) == (0, 0, 0), told
    assert sessions.reconnects >= 1, told
    assert seen.submitted, told
    names = [job.name for job in seen.jobs]
    assert sorted(names) == sorted(seen.submitted), told
    assert len(names) == len(set(names)), told
    assert {job.state for job in seen.jobs} == {JobState.SUCCEEDED}, told
    assert {job.attempt for job in seen.jobs} == {1}, told
    assert all(seen.fetched.get(name) for name in names), told
