"""Makes the Grafana dashboards beside this file: service, sessions, jobs, devices.

`python -m deploy.grafana.dashboards` writes them anew; edit `boards/`, not the JSON.
"""

from __future__ import annotations

from pathlib import Path

from .boards.devices import devices
from .boards.jobs import jobs
from .boards.service import service
from .boards.sessions import sessions
from .panels import to_json

FOLDER = Path(__file__).parent


def dashboards() -> dict[str, str]:
    """Return the JSON of each dashboard by the name of its file."""
    made = (service(), sessions(), jobs(), devices())
    return {f"{board.identifier}.json": to_json(board) for board in made}


def write() -> None:
    """Write every dashboard beside this file."""
    for name, content in dashboards().items():
        (FOLDER / name).write_text(content)


if __name__ == "__main__":
    write()
