"""What the command's exit codes mean, and which failure has which."""

from __future__ import annotations

import enum

from .. import errors
from ..errors import MaskwireError

__all__ = ["ExitCode", "exit_code_for"]


class ExitCode(enum.IntEnum):
    """Exit codes; their comments are what `maskwire --help` prints."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    INVALID_REQUEST = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    UNSUPPORTED = 6
    OVERLOADED = 7
    BROKEN_FILE = 8
    JOB_CANCELLED = 9
    NOT_ALLOWED = 10


DESCRIPTIONS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "an unexpected failure, of the server or of this program",
    ExitCode.USAGE: "wrong usage: an option, a file that cannot be read, a setting",
    ExitCode.INVALID_REQUEST: "the server refuses the request as invalid",
    ExitCode.NOT_FOUND: "a model, image, file or job is not known",
    ExitCode.UNAVAILABLE: "no server answers, or not in time; a model cannot be loaded",
    ExitCode.UNSUPPORTED: "the model or server does not do that",
    ExitCode.OVERLOADED: "the server is full, or a limit is exceeded",
    ExitCode.BROKEN_FILE: "a file is broken in the middle; what came before it is kept",
    ExitCode.JOB_CANCELLED: "the job was cancelled",
    ExitCode.NOT_ALLOWED: "the credentials are missing, not valid or do not allow it",
}

_BY_ERROR: tuple[tuple[type[MaskwireError], ExitCode], ...] = (
    (errors.InvalidArgument, ExitCode.INVALID_REQUEST),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.Unavailable, ExitCode.UNAVAILABLE),
    (errors.DeadlineExceeded, ExitCode.UNAVAILABLE),
    (errors.FailedPrecondition, ExitCode.UNSUPPORTED),
    (errors.Unimplemented, ExitCode.UNSUPPORTED),
    (errors.ResourceExhausted, ExitCode.OVERLOADED),
    (errors.DataLoss, ExitCode.BROKEN_FILE),
    (errors.AlreadyExists, ExitCode.INVALID_REQUEST),
    (errors.JobCancelled, ExitCode.JOB_CANCELLED),
    (errors.Unauthenticated, ExitCode.NOT_ALLOWED),
    (errors.PermissionDenied, ExitCode.NOT_ALLOWED),
)

# The same for errors of a server that runs in this process and fails before it can answer.
_BY_SERVER_CODE: dict[str, ExitCode] = {
    "INVALID_ARGUMENT": ExitCode.INVALID_REQUEST,
    "MODEL_NOT_FOUND": ExitCode.NOT_FOUND,
    "MODEL_UNAVAILABLE": ExitCode.UNAVAILABLE,
}


def exit_code_for(error: MaskwireError) -> ExitCode:
    """Return the exit code for a failed call; a job's is that of the call that was queued."""
    if isinstance(error, errors.JobFailed):
        return exit_code_for(error.cause)
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return ExitCode.UNEXPECTED


def exit_code_for_server_code(name: str) -> ExitCode:
    """Return the exit code for an error code of the server's domain."""
    return _BY_SERVER_CODE.get(name, ExitCode.UNEXPECTED)


def epilog() -> str:
    """Return the table of exit codes for the help page."""
    lines = [f"{code.value}: {description}" for code, description in DESCRIPTIONS.items()]
    return "Exit codes\n\n" + "\n\n".join(lines)
