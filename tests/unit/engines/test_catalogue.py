from __future__ import annotations

import re

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines import catalogue
from maskwire_server.engines.sam2.loading import packaged_config


def test_names_are_unique_and_the_default_is_first_and_ships():
    names = [entry.name for entry in catalogue.entries()]
    assert len(set(names)) == len(names)
    assert names[0] == catalogue.DEFAULT_MODEL
    assert catalogue.require(catalogue.DEFAULT_MODEL).published is None


def test_the_four_published_networks_agree_with_the_package_that_runs_them():
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    ours = {
        entry.published.repository: (entry.config, entry.published.filename)
        for entry in catalogue.entries()
        if entry.published is not None
    }
    upstreams = {
        repository: files
        for repository, files in HF_MODEL_ID_TO_FILENAMES.items()
        if repository.startswith("facebook/sam2.1-")
    }
    assert ours == upstreams


def test_published_entries_are_complete():
    for entry in catalogue.entries():
        if entry.published is not None:
            assert re.fullmatch("[0-9a-f]{64}", entry.published.sha256)
            assert entry.published.size_bytes > 10**8
            assert packaged_config(entry.config).is_file()


def test_published_folders_take_safetensors_and_no_code():
    folders = [entry.published_folder for entry in catalogue.entries() if entry.published_folder]
    assert [folder.repository for folder in folders] == ["facebook/sam3"]
    for folder in folders:
        assert "*.safetensors" in folder.patterns
        assert not {"*", "*.py", "*.pt", "*.bin"} & set(folder.patterns)


def test_what_ships_is_not_pulled_and_all_else_is():
    assert [entry.name for entry in catalogue.entries() if not entry.is_pulled] == ["maskwire-nano"]


def test_an_unknown_name_is_answered_with_the_known_ones():
    assert catalogue.find("sam9") is None
    with pytest.raises(MaskwireError, match=r"sam9.*sam2\.1-hiera-large") as caught:
        catalogue.require("sam9")
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
