"""The command `maskwire` run in this process, and one server with the embedded default for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from maskwire_client.cli import main
from tests.support.server_process import server_process


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with server_process(folder, storage={"folder": str(folder / "files")}) as process:
        yield process.address


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return its exit code, output and messages."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        output, messages = capfd.readouterr()
        return int(ended.value.code or 0), output, messages

    return call
