"""The endpoint encrypted: whose certificates are taken, and how they are replaced."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import trustme

from maskwire_client import Client, Point, Tls, errors
from tests.support.server_process import server_process

IMAGE = np.random.default_rng(7).integers(0, 255, (48, 64, 3), np.uint8)
POINTS = [Point(20, 20)]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def chain(issued) -> bytes:
    return b"".join(pem.bytes() for pem in issued.cert_chain_pems)


def write(folder: Path, issued) -> dict[str, str]:
    """Write a certificate and its key, each whole at once; return the settings."""
    files = {"certificate_file": chain(issued), "key_file": issued.private_key_pem.bytes()}
    for name, content in files.items():
        (folder / f"{name}.new").write_bytes(content)
        (folder / f"{name}.new").replace(folder / f"{name}.pem")
    return {name: str(folder / f"{name}.pem") for name in files}


@contextmanager
def encrypted_server(folder: Path, issued, client_authority=None, **auth):
    tls = write(folder, issued) | {"reload_interval_s": 0.01}
    if client_authority is not None:
        client_authority.cert_pem.write_to_path(str(folder / "clients.pem"))
        tls["client_ca_file"] = str(folder / "clients.pem")
    settings = {"tls": tls, "auth": auth, "models": {"cpu_threads": 1}}
    with server_process(folder, **settings) as process:
        yield process


def client_of(process, authority, issued=None, **options) -> Client:
    port = process.address.rpartition(":")[2]
    tls = Tls(
        root_certificates=authority.cert_pem.bytes(),
        client_certificate=None if issued is None else chain(issued),
        client_key=None if issued is None else issued.private_key_pem.bytes(),
        **options,
    )
    return Client(f"localhost:{port}", tls=tls, retry_attempts=1, timeout_s=20)


def refused(client: Client) -> errors.MaskwireError:
    with client, pytest.raises((errors.Unavailable, errors.DeadlineExceeded)) as caught:
        client.models()
    return caught.value


def test_only_a_certificate_that_the_client_trusts_is_taken(tmp_path, authority):
    with encrypted_server(tmp_path, authority.issue_cert("localhost")) as process:
        with client_of(process, authority) as client:
            assert client.segment(IMAGE, points=POINTS).masks
        refused(client_of(process, trustme.CA()))
        refused(client_of(process, authority, server_name="other.example"))
        refused(Client(process.address, retry_attempts=1, timeout_s=5))


def test_an_expired_certificate_is_not_taken(tmp_path, authority):
    past = datetime.now(UTC) - timedelta(days=1)
    expired = authority.issue_cert("localhost", not_before=past - timedelta(days=1), not_after=past)
    with encrypted_server(tmp_path, expired) as process:
        refused(client_of(process, authority))


def test_clients_show_certificates_of_the_right_authority(tmp_path, authority):
    own = trustme.CA()
    issued = authority.issue_cert("localhost")
    good = own.issue_cert("robots.example", common_name="robots")
    past = datetime.now(UTC) - timedelta(days=1)
    expired = own.issue_cert(
        "robots.example",
        common_name="robots",
        not_before=past - timedelta(days=1),
        not_after=past,
    )
    foreign = authority.issue_cert("robots.example", common_name="robots")
    with encrypted_server(tmp_path, issued, own, certificates=True) as process:
        with client_of(process, authority, good) as client:
            digest = client.segment(IMAGE, points=POINTS).image.digest
            assert client.segment(digest, points=POINTS).image.digest == digest
        for wrong in (None, foreign, expired):
            refused(client_of(process, authority, wrong))
        another = own.issue_cert("arms.example", common_name="arms")
        with client_of(process, authority, another) as client, pytest.raises(errors.ImageNotFound):
            client.segment(digest, points=POINTS)
        nobody = own.issue_cert("x.example", common_name="Nobody & Sons")
        with client_of(process, authority, nobody) as client, pytest.raises(errors.Unauthenticated):
            client.models()


def test_certificates_are_replaced_while_streams_run(tmp_path, authority):
    new_authority = trustme.CA()
    with (
        encrypted_server(tmp_path, authority.issue_cert("localhost")) as process,
        client_of(process, authority) as client,
        client.open_session() as session,
    ):
        session.track(IMAGE, points=POINTS)
        write(tmp_path, new_authority.issue_cert("localhost"))
        for _ in range(200):
            try:
                with client_of(process, new_authority) as fresh:
                    fresh.models(timeout_s=5)
                break
            except (errors.Unavailable, errors.DeadlineExceeded):
                continue
        else:
            raise AssertionError("the new certificate was never used")
        refused(client_of(process, authority))
        assert session.track(IMAGE) is not None


@pytest.mark.parametrize("spoil", ["certificate_file", "key_file"])
def test_files_that_break_leave_the_certificates_in_use(tmp_path, authority, spoil):
    with encrypted_server(tmp_path, authority.issue_cert("localhost")) as process:
        (tmp_path / f"{spoil}.pem").write_text("nothing")
        for _ in range(3):
            with client_of(process, authority) as client:
                assert client.models()
