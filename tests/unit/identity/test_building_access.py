"""What the settings of access must say before a server starts."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from maskwire_server.composition.access import build_access, is_loopback
from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.identity import ANONYMOUS, Credentials
from maskwire_server.identity.key_file import changed_keys
from maskwire_server.settings import AuthSettings, GrpcSettings, Settings, SettingsError


async def access_of(host: str = "127.0.0.1", **auth):
    settings = Settings(grpc=GrpcSettings(host=host), auth=AuthSettings(**auth))
    async with AsyncExitStack() as resources:
        return await build_access(settings, resources)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.0.1"])
async def test_only_this_machine_may_call_without_credentials(host):
    assert (await access_of(host)).identify(Credentials()) == ANONYMOUS


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.0.0.1", "maskwire.internal", ""])
async def test_a_server_that_others_reach_does_not_start_open_by_mistake(host):
    with pytest.raises(SettingsError, match="allow_anonymous"):
        await access_of(host)
    opened = await access_of(host, allow_anonymous=True)
    assert opened.identify(Credentials()) == ANONYMOUS


async def test_with_keys_nobody_is_anonymous_unless_it_is_said(tmp_path):
    path = tmp_path / "keys.json"
    with changed_keys(path):
        pass
    closed = await access_of(keys_file=path)
    with pytest.raises(MaskwireError):
        closed.identify(Credentials())
    opened = await access_of(keys_file=path, allow_anonymous=True)
    assert opened.identify(Credentials()) == ANONYMOUS


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ({"allow_anonymous": False}, "nobody could call"),
        ({"keys_file": "/nowhere/keys.json"}, "/nowhere/keys.json"),
        ({"certificates": True}, "client_ca_file"),
        ({"token_issuer": "https://issuer.example"}, "token_key_set"),
        (
            {"token_issuer": "https://issuer.example", "token_key_set": "/nowhere/set.json"},
            "/nowhere/set.json",
        ),
    ],
)
async def test_settings_that_let_in_nobody_are_refused(auth, problem):
    with pytest.raises(SettingsError, match=problem):
        await access_of(**auth)


def test_what_is_no_address_is_reached_by_others():
    assert not is_loopback("example.com")
    assert not is_loopback("127.0.0.1.example.com")
