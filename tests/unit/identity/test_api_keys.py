"""API keys: what is kept of them, and when they are recognised."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.identity import ALL_SCOPES, Credentials, Identity, Scope
from maskwire_server.identity.api_keys import ApiKeyRecord, split_key
from maskwire_server.identity.key_file import KeyFile, KeyFileError, changed_keys, read_keys

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def new_key(tenant="acme", **changes):
    return ApiKeyRecord.create(name="arm", tenant=tenant, now=NOW, **changes)


def secret_of(key):
    parts = split_key(key)
    assert parts is not None
    return parts[1]


def written(path, *records):
    with changed_keys(path) as keys:
        keys.update({record.key_id: record for record in records})
    return path


def opened(path, now=NOW):
    return KeyFile(path, timedelta(seconds=1), lambda: now)


def refusal(file, secret):
    with pytest.raises(MaskwireError) as caught:
        file.authenticate(Credentials(secret))
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    return caught.value.message


def test_a_key_is_recognised_as_its_tenant_with_its_scopes(tmp_path):
    record, key = new_key(scopes=frozenset({Scope.FILES}))
    file = opened(written(tmp_path / "keys.json", record))
    expected = Identity("acme", record.key_id, frozenset({Scope.FILES}))
    assert file.authenticate(Credentials(key)) == expected


def test_a_key_has_256_random_bits_and_no_two_are_alike():
    made = [new_key() for _ in range(200)]
    secrets = {secret_of(key) for _, key in made}
    assert {len(secret) for secret in secrets} == {43}
    assert len(secrets) == len(made)


def test_only_the_digest_of_the_secret_is_written(tmp_path):
    record, key = new_key()
    path = written(tmp_path / "keys.json", record)
    secret = secret_of(key)
    assert secret not in path.read_text()
    assert secret not in repr(record)
    assert key not in repr(Credentials(key))
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: "mwk_00000000_" + key.rpartition("_")[2][-43:],
        lambda key: "mwk_",
        lambda key: "mwk_" + "é" * 52,
    ],
    ids=["other", "short", "long", "unknown", "empty", "not-ascii"],
)
def test_wrong_keys_are_refused_without_a_hint(tmp_path, spoil):
    record, key = new_key()
    file = opened(written(tmp_path / "keys.json", record))
    assert refusal(file, spoil(key)) == "the API key is not valid"


def test_the_other_kinds_of_credentials_are_not_its_business(tmp_path):
    file = opened(written(tmp_path / "keys.json"))
    assert file.authenticate(Credentials("")) is None
    assert file.authenticate(Credentials("a.b.c")) is None
    assert file.authenticate(Credentials("", "acme")) is None


def test_an_expired_key_is_refused_from_the_instant_on(tmp_path):
    record, key = new_key(expire_time=NOW + timedelta(hours=1))
    path = written(tmp_path / "keys.json", record)
    before = opened(path, NOW + timedelta(hours=1) - timedelta(microseconds=1))
    assert before.authenticate(Credentials(key)) is not None
    after = opened(path, NOW + timedelta(hours=1))
    assert refusal(after, key) == "the API key is expired"


def test_a_stranger_learns_nothing_about_a_revoked_key(tmp_path):
    record, key = new_key()
    revoked = record.model_copy(update={"revoke_time": NOW})
    file = opened(written(tmp_path / "keys.json", revoked))
    assert refusal(file, key) == "the API key is revoked"
    assert refusal(file, f"mwk_{record.key_id}_{'A' * 43}") == "the API key is not valid"


def test_a_file_that_changes_is_read_again(tmp_path):
    first, first_key = new_key()
    second, second_key = new_key()
    path = written(tmp_path / "keys.json", first)
    file = opened(path)
    refusal(file, second_key)
    with changed_keys(path) as keys:
        keys[first.key_id] = first.model_copy(update={"revoke_time": NOW})
        keys[second.key_id] = second
    file.reload()
    assert refusal(file, first_key) == "the API key is revoked"
    assert file.authenticate(Credentials(second_key)) is not None


@pytest.mark.parametrize("content", ["", "{", '{"version": 2}', '{"keys": [{"key_id": "x"}]}'])
def test_a_file_that_breaks_leaves_the_keys_as_they_were(tmp_path, content):
    record, key = new_key()
    path = written(tmp_path / "keys.json", record)
    file = opened(path)
    path.write_text(content)
    file.reload()
    assert file.authenticate(Credentials(key)) is not None
    path.unlink()
    file.reload()
    assert file.authenticate(Credentials(key)) is not None


@pytest.mark.parametrize("content", [None, "", '{"keys": 3}'])
def test_a_file_that_is_none_is_refused_at_the_start(tmp_path, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeyFileError, match=r"keys\.json"):
        opened(path)


def test_two_keys_of_one_identifier_are_refused(tmp_path):
    record, _ = new_key()
    path = written(tmp_path / "keys.json", record)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"keys": content["keys"] * 2}))
    with pytest.raises(KeyFileError, match="two keys"):
        read_keys(path)


def test_a_change_that_fails_writes_nothing(tmp_path):
    record, _ = new_key()
    path = written(tmp_path / "keys.json", record)
    before = path.read_bytes()
    with pytest.raises(KeyError), changed_keys(path) as keys:
        keys.pop(keys.popitem()[0])
    assert path.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {"keys.json", "keys.json.lock"}


@pytest.mark.parametrize("tenant", ["", "Acme", "-a", "a" * 64, "a/b", "ä", "a b", "a\n"])
def test_names_that_are_no_tenants_are_refused(tenant):
    with pytest.raises(ValidationError, match="tenant"):
        new_key(tenant=tenant)


def test_a_key_has_all_scopes_unless_some_are_chosen():
    assert new_key()[0].scopes == ALL_SCOPES
