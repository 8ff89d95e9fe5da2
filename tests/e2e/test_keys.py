"""`maskwire keys`, and calling a server with what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.support.server_process import server_process

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def created(run: Run, keys: Path, *options: object) -> tuple[str, str]:
    code, output, messages = run(
        "keys", "create", "--tenant", "acme", "--name", "arm", "--file", keys, *options
    )
    assert code == 0, messages
    (key,) = output.split()
    return key.split("_")[1], key


def test_a_key_is_printed_once_and_listed_without_its_secret(run: Run, keys: Path):
    key_id, key = created(run, keys, "--scope", "files", "--scope", "jobs")
    code, output, _ = run("keys", "list", "--file", keys, "--json")
    (listed,) = json.loads(output)
    assert code == 0
    assert listed["key_id"] == key_id
    assert listed["scopes"] == ["files", "jobs"]
    assert listed["state"] == "valid"
    shown = output + run("keys", "list", "--file", keys)[1] + keys.read_text()
    assert key_id in shown
    assert key.split("_", 2)[2] not in shown


def test_a_key_is_revoked(run: Run, keys: Path):
    key_id, _ = created(run, keys)
    assert run("keys", "revoke", key_id, "--file", keys)[0] == 0
    assert json.loads(run("keys", "list", "--file", keys, "--json")[1])[0]["state"] == "revoked"
    code, _, messages = run("keys", "revoke", "00000000", "--file", keys)
    assert code == 4
    assert "00000000" in messages


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--tenant", "Acme Ltd", "--name", "x"), "tenant"),
        (("--tenant", "acme", "--name", ""), "name"),
        (("--tenant", "acme", "--name", "x", "--scope", "everything"), "segmentation"),
    ],
)
def test_what_breaks_a_rule_is_said_and_nothing_is_written(run: Run, keys: Path, options, problem):
    code, output, messages = run("keys", "create", *options, "--file", keys)
    assert (code, output) == (2, "")
    assert problem in messages
    assert not keys.exists()


def test_without_a_file_it_says_which_setting_names_one(run: Run):
    code, _, messages = run("keys", "list")
    assert code == 2
    assert "auth.keys_file" in messages


def test_commands_call_an_encrypted_server_with_a_key(run: Run, keys: Path, tmp_path: Path):
    _, key = created(run, keys)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    (tmp_path / "key").write_text(key + "\n")
    tls = {name: str(tmp_path / "server.pem") for name in ("certificate_file", "key_file")}
    auth = {"keys_file": str(keys)}
    models = {"cpu_threads": 1}
    with server_process(tmp_path, tls=tls, auth=auth, models=models) as process:
        server = f"localhost:{process.address.rpartition(':')[2]}"
        trusted = ("--ca-file", tmp_path / "ca.pem")
        code, output, messages = run(
            *trusted, "--api-key-file", tmp_path / "key", "models", "list", "--server", server
        )
        assert code == 0, messages
        assert "maskwire-nano" in output
        code, _, messages = run(*trusted, "models", "list", "--server", server)
        assert code == 10
        assert "credentials" in messages
        # Nobody needs a key to ask whether it is alive.
        assert run(*trusted, "health", "--server", server)[0] == 0
        assert run("health", "--server", server)[0] == 5
