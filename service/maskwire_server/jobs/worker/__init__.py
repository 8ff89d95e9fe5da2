"""Workers: they take jobs from queues and run each in a child process under supervision.

`JobWorkers` (`workers.py`) runs several loops in the process that made them; each loop has one
child (`child_process.py`), whose inside is `serve_child` (`child.py`). One attempt at a job is in
`attempt.py`.

What the composition root writes:

    workers = JobWorkers(ledger, content, observer, setup)  # WorkerSetup
    workers.start()
    await workers.stop(grace_s)

where `argv` starts a module that calls

    serve_child(connection_of(sys.argv), make_runner)

and `make_runner(configuration)` is an asynchronous context manager that yields a `CallRunner`. The
runner must not answer before all work that it started has ended, so that a cancelled call leaves
nothing behind on the device: threads end when `progress.report` raises `JobCancelled` in them.
"""

from .child import connection_of, serve_child
from .keeping import KeepingTimes
from .worker import WorkerLimits
from .workers import JobWorkers, WorkerSetup

__all__ = [
    "JobWorkers",
    "KeepingTimes",
    "WorkerLimits",
    "WorkerSetup",
    "connection_of",
    "serve_child",
]
