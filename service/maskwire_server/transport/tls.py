"""Encryption of the endpoint: certificates from files, read again when they change."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from ..settings import SettingsError, TlsSettings

_log = structlog.get_logger(__name__)

_Version = tuple[tuple[int, int, int], ...]


def server_credentials(settings: TlsSettings) -> grpc.ServerCredentials | None:
    """Return the credentials of the endpoint, or None where it is not encrypted.

    gRPC asks for new certificates at every handshake, on a thread of its own; connections that
    stand keep those that they were made with.

    Raises:
        SettingsError: Files are missing, unreadable, or do not fit together.
    """
    certificate, key, client_ca = (
        settings.certificate_file,
        settings.key_file,
        settings.client_ca_file,
    )
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise SettingsError("tls.certificate_file and tls.key_file belong together")
    files = _CertificateFiles(certificate, key, client_ca, settings.reload_interval_s)
    try:
        first = files.read()
    except (OSError, ValueError) as error:
        raise SettingsError(f"tls: {error}") from error
    return grpc.dynamic_ssl_server_credentials(
        first,
        files.changed,  # type: ignore[arg-type]  # None, whatever the stub says, changes nothing
        require_client_authentication=client_ca is not None,
    )


class _CertificateFiles:
    """The files, and which version of them is in use."""

    def __init__(
        self, certificate: Path, key: Path, client_ca: Path | None, interval_s: float
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._interval_s = interval_s
        self._seen: _Version = ()
        self._next_look_s = 0.0

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files.

        Raises:
            OSError: One cannot be read.
            ValueError: They are no certificates or keys, or the key is another certificate's.
        """
        self._seen = self._version()
        certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
        client_ca = None if self._client_ca is None else self._client_ca.read_bytes()
        _check(certificate, key, client_ca)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificates to use from now on, or None to go on with the same."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + self._interval_s
        try:
            if self._version() == self._seen:
                return None
            fresh = self.read()
        except (OSError, ValueError) as error:
            # In the middle of being replaced, perhaps: the next look tries again.
            self._seen = ()
            _log.error("the certificates were not read again", problem=str(error))
            return None
        _log.info("certificates read", file=str(self._certificate))
        return fresh

    def _version(self) -> _Version:
        files = (self._certificate, self._key, self._client_ca)
        found = [path.stat() for path in files if path is not None]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


def _check(certificate: bytes, key: bytes, client_ca: bytes | None) -> None:
    """Raise ValueError for what gRPC would only say to clients, by failing handshakes."""
    try:
        (first, *_) = load_pem_x509_certificates(certificate)
    except ValueError as error:
        raise ValueError("tls.certificate_file holds no certificate") from error
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("tls.key_file holds no private key without a password") from error
    if private.public_key() != first.public_key():
        raise ValueError("tls.key_file is not the key of tls.certificate_file")
    if client_ca is not None:
        try:
            load_pem_x509_certificates(client_ca)
        except ValueError as error:
            raise ValueError("tls.client_ca_file holds no certificate") from error
