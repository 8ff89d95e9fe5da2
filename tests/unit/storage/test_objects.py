"""The layer over obstore: what a store that fails says, and that secrets stay in the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.settings import Settings
from maskwire_server.storage.objects import Objects, StoreLocation


async def test_looking_for_files_makes_no_folder(tmp_path: Path):
    objects = Objects(StoreLocation(None, tmp_path / "files", {}))
    assert await objects.get("a/b") is None
    assert await objects.folders() == []
    assert [one async for one in objects.walk("a")] == []
    assert not (tmp_path / "files").exists()


async def test_a_folder_that_cannot_be_made_is_a_store_that_failed(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    objects = Objects(StoreLocation(None, tmp_path / "file" / "folder", {}))
    with pytest.raises(MaskwireError) as raised:
        await objects.put_new("a", b"")
    assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert str(tmp_path) not in raised.value.message


async def test_a_url_of_a_folder_and_the_folder_are_the_same(tmp_path: Path):
    by_url = Objects(StoreLocation(f"file://{tmp_path}/files", tmp_path, {}))
    by_path = Objects(StoreLocation(None, tmp_path / "files", {}))
    assert await by_url.put_new("a/b", b"1")
    assert not await by_path.put_new("a/b", b"2")
    assert await by_path.get("a/b") == b"1"
    assert await by_path.folders() == ["a"]


def test_the_secret_key_is_not_printed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASKWIRE_STORAGE__SECRET_ACCESS_KEY", "do not print me")
    settings = Settings.read()
    assert "do not print me" not in repr(settings) + settings.model_dump_json()
    assert settings.storage.secret_access_key is not None
    assert settings.storage.secret_access_key.get_secret_value() == "do not print me"
