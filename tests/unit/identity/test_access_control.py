"""Who is let in, by several kinds of credentials at once."""

from datetime import UTC, datetime, timedelta

import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.identity import ANONYMOUS, AccessControl, Credentials, Scope
from maskwire_server.domain.segmentation import Caller
from maskwire_server.identity.api_keys import ApiKeyRecord
from maskwire_server.identity.certificates import ClientCertificates
from maskwire_server.identity.key_file import KeyFile, changed_keys


@pytest.fixture
def key_and_file(tmp_path):
    record, key = ApiKeyRecord.create(name="arm", tenant="acme", now=datetime.now(UTC))
    with changed_keys(tmp_path / "keys.json") as keys:
        keys[record.key_id] = record
    return key, KeyFile(tmp_path / "keys.json", timedelta(seconds=1))


def code_of(access, credentials):
    with pytest.raises(MaskwireError) as caught:
        access.identify(credentials)
    return caught.value.code


def test_without_credentials_nobody_is_let_in_unless_anonymous_callers_are(key_and_file):
    _, file = key_and_file
    closed = AccessControl([file], is_anonymous_allowed=False)
    assert code_of(closed, Credentials()) is ErrorCode.UNAUTHENTICATED
    opened = AccessControl([file], is_anonymous_allowed=True)
    assert opened.identify(Credentials()) == ANONYMOUS


@pytest.mark.parametrize("secret", ["mwk_00000000_" + "A" * 43, "nonsense", "a.b.c"])
def test_wrong_credentials_are_refused_where_none_are_needed(key_and_file, secret):
    access = AccessControl([key_and_file[1]], is_anonymous_allowed=True)
    assert code_of(access, Credentials(secret)) is ErrorCode.UNAUTHENTICATED


def test_a_key_goes_before_the_connections_certificate(key_and_file):
    key, file = key_and_file
    access = AccessControl([file, ClientCertificates()], is_anonymous_allowed=False)
    assert access.identify(Credentials(key, "gateway")).tenant == "acme"
    assert access.identify(Credentials("", "gateway")).tenant == "gateway"
    assert code_of(access, Credentials("wrong", "gateway")) is ErrorCode.UNAUTHENTICATED


def test_a_certificate_whose_name_is_no_tenants_is_refused():
    access = AccessControl([ClientCertificates()], is_anonymous_allowed=True)
    assert code_of(access, Credentials("", "Robot 7")) is ErrorCode.UNAUTHENTICATED


def test_a_caller_without_the_scope_is_denied():
    caller = Caller("acme", "r", frozenset({Scope.FILES}))
    caller.require(Scope.FILES)
    with pytest.raises(MaskwireError, match="segmentation") as caught:
        caller.require(Scope.SEGMENTATION)
    assert caught.value.code is ErrorCode.PERMISSION_DENIED
