"""Fuzzes one target with atheris, whose coverage guides it.

    python -m tests.robustness.fuzz TARGET --seconds N [--corpus FOLDER]

`TARGET` is one of `targets.TARGETS`. A finding ends the run with its traceback and status 77 and
leaves its input as `crash-...` in the corpus folder; `--input FILE` runs one such file again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["maskwire_server", "PIL", "zipfile"]):
    from tests.robustness.fuzz.targets import TARGETS, Target

_SLOW_INPUT_S = 2
_MOST_MEMORY_MB = 2048  # of the whole process; about 300 MB are taken at the start


def _run(target: Target, folder: Path, seconds: int, seed: int) -> None:
    for number, data in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_SLOW_INPUT_S}",
        f"-rss_limit_mb={_MOST_MEMORY_MB}",
        f"-seed={seed}",
        "-max_len=65536",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]

    def run_one(data: bytes) -> None:
        target.try_out(data)

    atheris.Setup([sys.argv[0], *options, str(folder)], run_one)
    atheris.Fuzz()


def main() -> None:
    """Read the arguments and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.robustness.fuzz")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--input", type=Path, help="run this one input instead")
    chosen = parser.parse_args()
    target = TARGETS[chosen.target]
    if chosen.input is not None:
        target.try_out(chosen.input.read_bytes())
        return
    folder = chosen.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{chosen.target}-"))
    folder.mkdir(parents=True, exist_ok=True)
    _run(target, folder, chosen.seconds, chosen.seed)


if __name__ == "__main__":
    main()
