"""Where commands write: results to standard output, progress and messages to standard error.

Strings are printed as they are: words and paths may have brackets, which are no markup.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

__all__ = ["messages", "print_json", "results"]


def results() -> Console:
    """Return the console for what a command was asked for."""
    return Console(markup=False, emoji=False)


def messages() -> Console:
    """Return the console for progress and errors, so that `--json` leaves standard output clean."""
    return Console(stderr=True, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print a value as JSON, indented on a terminal."""
    json.dump(value, sys.stdout, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")
