"""Buckets of the settings, and which objects of them a tenant may name."""

from __future__ import annotations

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.remote_sources import WantedContent
from maskwire_server.domain.segmentation import Caller
from maskwire_server.sources import BucketPlace, BucketSource

WANTED = WantedContent("video.uri", 10, frozenset(), lambda start: None)


@pytest.mark.parametrize(
    ("url", "bucket", "folder"),
    [
        ("s3://pictures", "s3://pictures", ()),
        ("s3://pictures/", "s3://pictures", ()),
        ("gs://pictures/in/{tenant}/", "gs://pictures", ("in", "{tenant}")),
        ("az://pictures/of-{tenant}", "az://pictures", ("of-{tenant}",)),
    ],
)
def test_a_place(url, bucket, folder):
    place = BucketPlace.read(url, {})
    assert (place.bucket, place.folder) == (bucket, folder)


def test_a_folder_of_tenants_is_none_of_anonymous_callers():
    place = BucketPlace.read("s3://pictures/in/{tenant}", {})
    assert place.folder_of("alice") == ("in", "alice")
    assert place.folder_of("") is None
    assert BucketPlace.read("s3://pictures/in", {}).folder_of("") == ("in",)


def test_secrets_are_not_shown():
    assert "hidden" not in repr(BucketPlace.read("s3://pictures", {"secret_access_key": "hidden"}))


@pytest.mark.parametrize("url", ["s3://pictures//in", "s3://pictures/../in", "ftp://pictures"])
def test_what_is_no_place_is_refused(url):
    with pytest.raises(ValueError, match="must have"):
        BucketPlace.read(url, {})


async def refusal(uri: str, tenant: str = "alice") -> ErrorCode:
    source = BucketSource(
        [
            BucketPlace.read("s3://pictures/shared", {}),
            BucketPlace.read("s3://pictures/in/{tenant}", {}),
        ]
    )
    with pytest.raises(MaskwireError, match=r"video\.uri") as raised:
        await anext(source.read(uri, WANTED, Caller(tenant, "1")))
    return raised.value.code


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "s3:",
            "s3://",
            "s3:///a",
            "s3://pictures",
            "s3://pictures/",
            "s3://a:b@pictures/shared/a",
        ),
        *("s3://pictures/shared/", "s3://pictures/shared//a", "s3://pictures//shared/a"),
        *(
            "s3://pictures/shared/../in/bob/a",
            "s3://pictures/shared/./a",
            "s3://pictures/shared/..",
        ),
        *("s3://pictures/shared/a\0", "s3://pictures/shared/a\n", "s3://pictures/shared\\a"),
        *("s3://pictures/shared/\u202ea", f"s3://pictures/shared/{'a' * 1024}", "s3://127.1:80/a"),
    ],
)
async def test_malformed_uris(uri):
    assert await refusal(uri) is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "s3://pictures/a",
            "s3://pictures/shared",
            "s3://pictures/sharedx/a",
            "s3://other/shared/a",
        ),
        *("s3://pictures/in/bob/a", "s3://pictures/in/alice", "s3://pictures/in/alice2/a"),
        *("s3://pictures/in/{tenant}/a", "s3://pictures/in/Alice/a"),
        *("gs://pictures/shared/a", "s3://pictures/%2e%2e/shared/a", "s3://pictures/in%2falice/a"),
    ],
)
async def test_objects_that_no_place_holds(uri):
    assert await refusal(uri) is ErrorCode.SOURCE_FORBIDDEN


async def test_anonymous_callers_have_no_folder_of_tenants():
    assert await refusal("s3://pictures/in//a", "") is ErrorCode.INVALID_ARGUMENT
    assert await refusal("s3://pictures/in/a", "") is ErrorCode.SOURCE_FORBIDDEN
