"""How commands fail: with one message on standard error, and an exit code that says what kind."""

from __future__ import annotations

from ..errors import MaskwireError
from .console import messages
from .exit_codes import ExitCode, exit_code_for

__all__ = ["CommandFailure", "report_failed_call", "report_failure"]


class CommandFailure(Exception):
    """A failure that the user can do something about.

    Attributes:
        message: What failed.
        exit_code: Which kind of failure it is.
        hint: What would help, or empty.
    """

    def __init__(self, message: str, exit_code: ExitCode, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hint = hint


def report_failure(failure: CommandFailure) -> ExitCode:
    """Print a failure and return its exit code."""
    console = messages()
    console.print("error:", style="bold red", end=" ")
    console.print(failure.message, highlight=False, soft_wrap=True)
    if failure.hint:
        console.print(failure.hint, highlight=False, soft_wrap=True)
    return failure.exit_code


def report_failed_call(error: MaskwireError) -> ExitCode:
    """Print why a call failed and return the exit code for it."""
    lines = [f"{error.message} ({error.status})"]
    lines += [
        f"  {violation.field}: {violation.rule}"
        for violation in error.violations
        # A single violation is what the message says already.
        if violation.rule not in error.message
    ]
    if error.retry_after is not None:
        lines.append(f"  try again in {error.retry_after.total_seconds():.1f} s")
    hint = f"request id: {error.request_id}" if error.request_id else ""
    return report_failure(CommandFailure("\n".join(lines), exit_code_for(error), hint))
