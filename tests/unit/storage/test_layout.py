"""How files lie in a store: keys that no tenant can choose, records that come back as written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.domain.files.store import StoredFile, suggested_name
from maskwire_server.domain.files.uploads import UploadDescription
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.storage import layout

TIMES = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)
).map(layout.whole_milliseconds)
IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)
FILES = st.builds(
    StoredFile,
    name=IDS.map("files/".__add__),
    file_name=st.text(max_size=20),
    content_type=st.just("image/png"),
    size_bytes=st.integers(0, 2**50),
    digest=st.just("sha256:" + "0" * 64),
    create_time=TIMES,
    expire_time=TIMES,
    image_size=st.none() | st.builds(ImageSize, st.integers(1, 9), st.integers(1, 9)),
)


@given(st.text())
def test_a_tenants_folder_is_one_safe_part_of_a_path(tenant):
    assert re.fullmatch(
        r"anonymous|t-[a-z0-9_-]{0,100}|h-[0-9a-f]{64}", layout.tenant_folder(tenant)
    )


@given(st.lists(st.text(max_size=120), unique=True, max_size=30))
def test_no_two_tenants_share_a_folder_whatever_the_case(tenants):
    folders = {layout.tenant_folder(tenant).lower() for tenant in tenants}
    assert len(folders) == len(tenants)


@given(FILES, st.lists(st.integers(1, 2**30), max_size=5).map(tuple))
def test_a_record_comes_back_as_it_was_written(file, part_sizes):
    record = layout.FileRecord(file, part_sizes)
    file_id = layout.file_id_of_name(file.name)
    assert file_id is not None
    assert layout.read_record(file_id, layout.write_record(record)) == record


@given(FILES)
def test_the_times_are_read_from_the_key(file):
    folder = layout.file_folder("alice", "0" * 32)
    times = layout.times_of_key(layout.times_key(folder, file))
    assert times is not None
    assert tuple(layout.time_of_ms(one) for one in times) == (file.create_time, file.expire_time)


def test_other_keys_tell_no_times():
    folder = layout.file_folder("alice", "0" * 32)
    for key in (layout.record_key(folder), layout.part_key(folder, 5), layout.whole_key(folder)):
        assert layout.times_of_key(key) is None


def test_an_upload_comes_back_as_it_was_written():
    upload_id = "0123abcd-0123-0123-0123-0123456789ab"
    for to_live in (None, timedelta(seconds=1.5)):
        description = UploadDescription(upload_id, "a/b", "é\n", 7, "sha256:0", to_live)
        written = layout.write_upload(description, "f" * 32)
        assert layout.read_upload(upload_id, written) == (description, "f" * 32)


@given(st.text())
def test_a_suggested_name_has_no_folders_and_nothing_invisible(name):
    suggested = suggested_name(name)
    assert not set("/\\\n\0") & set(suggested)
    assert suggested not in (".", "..")
    assert len(suggested) <= 255
