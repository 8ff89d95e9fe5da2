"""Every named fault and every past bug, with the test that has it: what `README.md` says, as data.

A fault's tests draw from a seed where it says so; the command is the same for all:
`python -m tests.robustness NAME --seed N`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.job_worker_faults import FAULTS as JOB_FAULTS

README = Path(__file__).with_name("README.md")
_JOBS = "tests/integration/jobs/workers/test_faults.py::test_no_fault_loses_or_doubles_a_job"
_NATS = "tests/integration/jobs/nats/test_broker_restarts.py"
_SERVER = "tests/robustness/test_server_faults.py"


@dataclass(frozen=True)
class Fault:
    """One way in which something fails.

    Attributes:
        name: What it is called on the command line.
        where: Where it is put in.
        checked: What must hold all the same.
        test: The test, as pytest names it; a part of a name that stands for all its parameters.
        is_seeded: Whether the test draws from a seed.
    """

    name: str
    where: str
    checked: str
    test: str
    is_seeded: bool = False


@dataclass(frozen=True)
class Bug:
    """A fault of ours that was found and mended.

    Attributes:
        name: What it is called on the command line.
        what: What went wrong.
        mended: The commit.
        test: The test that fails with the mending taken back.
    """

    name: str
    what: str
    mended: str
    test: str


def _job_faults() -> Iterator[Fault]:
    """Yield the faults of jobs; each runs on SQLite and on NATS."""
    for name, fault in JOB_FAULTS.items():
        slug = "job-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        what = (inspect.getdoc(fault) or "").partition("\n")[0].rstrip(".")
        yield Fault(
            slug,
            what,
            "no job lost, done twice, left hanging; events without a gap",
            f"{_JOBS}[{name}]",
            is_seeded=True,
        )


FAULTS: tuple[Fault, ...] = (
    *_job_faults(),
    Fault(
        "upload-server-killed",
        "`kill -9` of the server in an upload, once a part is on disk",
        "it goes on from what was kept; the digest is right",
        f"{_SERVER}::test_a_server_killed_in_an_upload_lets_it_go_on",
        is_seeded=True,
    ),
    Fault(
        "upload-servers-killed-together",
        "`kill -9` of the server in four uploads",
        "answered files are there, no half file is",
        "tests/integration/server/test_files.py::test_a_server_killed_in_the_middle_leaves_no_half_file",
    ),
    Fault(
        "store-disk-full",
        "the server's files may not grow any more (RLIMIT_FSIZE), then they may again",
        "STORAGE_UNAVAILABLE; what is stored stays whole; later uploads succeed",
        f"{_SERVER}::test_a_full_disk_is_told_and_spoils_nothing",
        is_seeded=True,
    ),
    Fault(
        "clock-jumps",
        "the clock of the job store goes an hour back or ahead while jobs wait and run",
        "no job is hidden, lost or settled by a lease that is over",
        f"{_SERVER}::test_a_clock_that_jumps_neither_loses_nor_doubles_a_job",
        is_seeded=True,
    ),
    Fault(
        "keys-garbage",
        "the file of keys becomes noise, half of itself, empty, another file",
        "keys stay valid; the log says why; the next good file is taken",
        f"{_SERVER}::test_a_file_of_keys_that_becomes_garbage_shuts_nobody_out",
        is_seeded=True,
    ),
    Fault(
        "certificate-garbage",
        "the certificate or its key becomes nothing",
        "the old certificate is served",
        "tests/integration/access/test_tls.py::test_files_that_break_leave_the_certificates_in_use",
    ),
    Fault(
        "certificate-replaced",
        "another certificate while a stream runs",
        "new connections get it, the stream goes on",
        "tests/integration/access/test_tls.py::test_certificates_are_replaced_while_streams_run",
    ),
    Fault(
        "broker-paused-append",
        "SIGSTOP of the NATS server for longer than one try of an append, then SIGCONT",
        "the event is written once",
        f"{_NATS}::test_an_append_whose_answer_was_late_is_told_to_be_written",
    ),
    Fault(
        "broker-paused-create",
        "SIGSTOP of the NATS server while a job is made, then SIGCONT",
        "there is one job, queued once",
        f"{_NATS}::test_a_create_whose_answer_was_late_makes_one_job",
    ),
    Fault(
        "broker-killed",
        "`kill -9` of the NATS server while six jobs are written, once and three times",
        "what was acknowledged is there, in order, once",
        f"{_NATS}::test_what_was_acknowledged_outlives_kills_of_the_broker",
    ),
    Fault(
        "database-writer-killed",
        "`kill -9` of a process that writes jobs into SQLite",
        "what was acknowledged is there",
        "tests/unit/jobs/test_sqlite_backend.py::test_all_that_was_acknowledged_survives_a_kill",
    ),
    Fault(
        "session-server-killed",
        "`kill -9` of a server in a live session",
        "ids stay; answered and lost frames are all that were sent",
        "tests/integration/client/test_sessions_against_server.py::test_a_killed_server_costs_unanswered_frames_only",
    ),
    Fault(
        "session-server-drained",
        "SIGTERM of a server in a live session",
        "the session goes on elsewhere, nothing is lost",
        "tests/integration/client/test_sessions_against_server.py::test_a_server_that_drains_costs_nothing",
    ),
    Fault(
        "server-stopped-under-load",
        "SIGTERM of a server under calls",
        "no call that was taken is lost",
        "tests/integration/server/test_shutdown.py::test_sigterm_under_load_loses_no_call_that_was_taken",
    ),
    Fault(
        "rolling-restart",
        "two servers over one NATS are restarted under mixed load (a short soak)",
        "every call answered, every job done once, every frame accounted for",
        "tests/integration/test_soak_in_miniature.py::test_a_rolling_restart_under_load_loses_nothing",
    ),
    Fault(
        "soak",
        "three servers behind Envoy are restarted under mixed load, ten minutes",
        "as above, and memory is flat",
        "tests/robustness/test_soak.py::test_a_rolling_restart_under_load_loses_nothing",
    ),
    Fault(
        "connection-cut-upload",
        "the connection is cut in an upload",
        "the client goes on from what was kept",
        "tests/integration/client/test_files.py::test_a_broken_upload_goes_on_by_itself",
    ),
    Fault(
        "connection-cut-download",
        "the connection is cut in a download",
        "the client goes on from what it has",
        "tests/integration/client/test_files.py::test_a_broken_download_goes_on_by_itself",
    ),
    Fault(
        "quota-store-frozen",
        "SIGSTOP of the Redis that counts quotas",
        "nobody is refused or held up for it",
        "tests/integration/access/test_shared_quotas.py::test_a_store_that_does_not_answer_refuses_nobody_and_holds_up_nobody",
    ),
    Fault(
        "decoder-killed",
        "the child that decodes is killed",
        "one request fails, the next is served by a new child",
        "tests/integration/server/test_decoding.py::test_a_decoder_that_dies_is_replaced",
    ),
    Fault(
        "weights-torn",
        "a checkpoint in the cache is changed",
        "it is refused when it is loaded, by its digest",
        "tests/integration/sam2/test_checkpoints.py::test_a_changed_file_in_the_cache_is_refused_at_loading",
    ),
    Fault(
        "requests-damaged",
        "bits, floats and parts of valid requests are changed",
        "no INTERNAL, no crash, no hang",
        "tests/robustness/test_mutated_requests.py::test_damaged_requests_are_answered",
    ),
    Fault(
        "files-malformed",
        "images, maps and videos of all formats are cut, mutated, bombs, of two formats at once",
        "no INTERNAL, no crash, no hang, memory is bounded",
        "tests/robustness/test_hostile_input.py::test_hostile_files_are_answered",
    ),
    Fault(
        "messages-malformed",
        "bytes, wire types, nesting, numbers and texts of messages of every method are changed",
        "no INTERNAL, no crash, no hang, memory is bounded",
        "tests/robustness/test_hostile_input.py::test_hostile_messages_are_answered",
    ),
)

BUGS: tuple[Bug, ...] = (
    Bug(
        "drain-held-by-ending-session",
        "Python 3.11's `wait_for` swallowed a cancellation that came with its event: a session "
        "that ended as the drain began was held for the whole grace",
        "c816836",
        "tests/unit/domain/sessions/test_session_lifetime.py::test_draining_while_a_session_ends_does_not_hold_it",
    ),
    Bug(
        "logits-window-27-gb",
        "mask logits of a window of 60,000 px made nano allocate 27 GB for one small request",
        "482ace0",
        "tests/unit/engines/nano/test_views.py::test_logits_far_beyond_the_image_lead_to_windows_of_its_size",
    ),
    Bug(
        "empty-mask-prompt",
        "a mask prompt without a mask gave INTERNAL",
        "in 0.1.0",
        "tests/unit/transport/test_converters.py::test_prompts_that_say_nothing_or_too_much_are_refused",
    ),
    Bug(
        "large-image-not-sent-again",
        "gRPC kept only 256 KiB of a call for retries: larger images were not sent again after "
        "UNAVAILABLE",
        "in 0.4.0",
        "tests/integration/client/test_calls.py::test_a_large_image_is_sent_again_after_unavailable",
    ),
    Bug(
        "sigterm-while-loading",
        "SIGTERM while models load was lost: the process went on",
        "7792760",
        "tests/integration/server/test_startup.py::test_sigterm_while_a_model_loads_ends_the_server",
    ),
    Bug(
        "second-signal-of-process-1",
        "a second signal did not end a server that is process 1",
        "c9af2da",
        "tests/integration/server/test_shutdown.py::test_a_second_signal_ends_the_process_at_once",
    ),
    Bug(
        "queue-unknown-to-scaler",
        "the autoscaler could not read the depth of a queue before its first job",
        "a49eb27",
        "tests/integration/jobs/nats/test_setup.py::test_a_server_makes_the_queues_of_the_engines_that_it_takes_jobs_for",
    ),
    Bug(
        "asyncio-uploads-traced",
        "the new tracing of clients broke every upload of the asyncio client",
        "6a35f33",
        "tests/integration/client/test_files.py::test_a_file_goes_up_and_down",
    ),
    Bug(
        "lost-job-ended-its-child",
        "a worker that lost a job to another took its child's last word for nonsense and killed it",
        "47987ea",
        "tests/integration/jobs/workers/test_stopping.py::test_a_lost_job_is_given_up_and_its_child_kept",
    ),
    Bug(
        "status-replaced-while-writing",
        "grpc.aio tells INTERNAL instead of an early status while the client still writes",
        "6e32abb",
        "tests/unit/client/test_first_status.py::test_only_a_replaced_status_is_put_back",
    ),
    Bug(
        "one-bit-png-mask",
        "a mask from a 1-bit PNG could not be written again",
        "a47f048",
        "tests/unit/domain/test_masks.py::test_a_bitmap_read_from_a_png_can_be_written_again",
    ),
    Bug(
        "numbers-beyond-rules",
        "sizes past 64 bits broke the rules' own arithmetic: INTERNAL",
        "a47f048",
        "tests/unit/transport/test_validation.py::test_a_number_beyond_what_rules_can_count_with_is_the_callers_error",
    ),
    Bug(
        "rings-without-a-bound",
        "a mask of any number of rings was taken",
        "a47f048",
        "tests/unit/transport/test_validation.py::test_masks_have_a_bounded_number_of_rings_in_all",
    ),
    Bug(
        "time-to-live-beyond-python",
        "a file's time to live of more seconds than Python's durations hold was INTERNAL",
        "bef00a8",
        "tests/unit/transport/test_file_converters.py::test_what_is_no_duration_is_refused",
    ),
    Bug(
        "cancelled-job-not-reported",
        "a job that was cancelled while it waited was reported when its turn came, not at once",
        "9511e3d",
        "tests/unit/jobs/test_webhook_deliverer.py::test_a_job_that_is_cancelled_while_it_waits_is_reported",
    ),
    Bug(
        "mask-decoded-in-the-server",
        "PNG masks of requests were decoded in the server itself, for as long as they took",
        "a46313c",
        "tests/integration/server/test_decoding.py::test_a_mask_that_stops_its_decoder_costs_its_request_and_not_the_server",
    ),
    Bug(
        "finished-jobs-read-at-submission",
        "each submission of a tenant with a limit of jobs read all jobs that it keeps",
        "a46313c",
        "tests/contract/jobs/test_unfinished_jobs.py::test_jobs_that_are_done_are_not_read",
    ),
    Bug(
        "settings-traceback",
        "a group of settings in the environment that is no JSON ended in a traceback",
        "72c3b6b",
        "tests/integration/access/test_secrets.py::test_a_group_that_is_no_json_is_said_in_a_line",
    ),
    Bug(
        "credentials-in-config",
        "`maskwire config` printed the password in NATS' URL, `repr` of `Tls` a private key",
        "56c87f0",
        "tests/integration/access/test_secrets.py::test_settings_show_no_secret",
    ),
)


def nodes_of(test: str) -> list[str]:
    """Return pytest's names for a test of the tables: faults of jobs run on both backends."""
    if not test.endswith("]"):
        return [test]
    node, _, parameter = test.rstrip("]").partition("[")
    return [f"{node}[{backend}-{parameter}]" for backend in ("sqlite", "nats")]


def rows() -> dict[str, str]:
    """Return the test of every name."""
    return {one.name: one.test for one in FAULTS} | {one.name: one.test for one in BUGS}


def command(name: str, *, is_seeded: bool = False) -> str:
    """Return the command that runs one."""
    return f"`.venv/bin/python -m tests.robustness {name}{' --seed N' if is_seeded else ''}`"


def readme_tables() -> str:
    """Return the tables of the README."""
    lines = ["## Faults", "", "| fault | where it is put in | what is checked | command |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {one.name} | {one.where} | {one.checked} | "
        f"{command(one.name, is_seeded=one.is_seeded)} |"
        for one in FAULTS
    ]
    lines += ["", "## Past bugs", "", "| bug | what went wrong | mended | command |"]
    lines.append("|---|---|---|---|")
    lines += [f"| {one.name} | {one.what} | {one.mended} | {command(one.name)} |" for one in BUGS]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the tables into the README, after what people wrote."""
    before = README.read_text(encoding="utf-8").partition("## Faults")[0]
    README.write_text(before + readme_tables(), encoding="utf-8")


if __name__ == "__main__":
    main()
