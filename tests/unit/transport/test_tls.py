"""Files of certificates: which are refused at the start, and when they are read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from maskwire_server.settings import SettingsError, TlsSettings
from maskwire_server.transport.tls import server_credentials


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def written(folder: Path, authority) -> dict[str, Any]:
    issued = authority.issue_cert("localhost")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    authority.issue_cert("localhost").private_key_pem.write_to_path(str(folder / "other.pem"))
    (folder / "nothing.pem").write_text("nothing")
    return {"certificate_file": certificate, "key_file": key}


def test_without_files_nothing_is_encrypted():
    assert server_credentials(TlsSettings()) is None


def test_files_that_fit_are_taken(tmp_path, authority):
    files = written(tmp_path, authority)
    assert server_credentials(TlsSettings(**files)) is not None
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with_clients = TlsSettings(**files, client_ca_file=tmp_path / "ca.pem")
    assert server_credentials(with_clients) is not None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"key_file": None}, "belong together"),
        ({"certificate_file": None}, "belong together"),
        ({"certificate_file": "missing.pem"}, "missing.pem"),
        ({"key_file": "other.pem"}, "not the key of"),
        ({"key_file": "nothing.pem"}, "holds no private key"),
        ({"certificate_file": "nothing.pem"}, "certificate_file holds no certificate"),
        ({"client_ca_file": "nothing.pem"}, "client_ca_file holds no certificate"),
        ({"certificate_file": None, "key_file": None, "client_ca_file": "ca.pem"}, "belong"),
    ],
)
def test_files_that_do_not_fit_are_refused_at_the_start(tmp_path, authority, changes, problem):
    chosen = written(tmp_path, authority)
    for name, value in changes.items():
        chosen[name] = None if value is None else tmp_path / value
    with pytest.raises(SettingsError, match=problem):
        server_credentials(TlsSettings(**chosen))
