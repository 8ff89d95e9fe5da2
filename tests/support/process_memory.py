"""How much memory a process has, from the kernel."""

from __future__ import annotations

import re
from pathlib import Path


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"^VmRSS:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024
