"""Client certificates: mutual TLS has verified them, and their common name is the tenant's."""

from __future__ import annotations

from ..domain.identity import Authenticator, Credentials, Identity, is_tenant_name, unauthenticated


class ClientCertificates(Authenticator):
    """Recognises callers by the certificate of their connection.

    A key or a token says more than the connection does (a balancer's, perhaps), so credentials in
    the call itself go before it.
    """

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return whose certificate it is; as the interface says."""
        name = credentials.certificate_name
        if credentials.secret or not name:
            return None
        if not is_tenant_name(name):
            raise unauthenticated("the certificate's common name is no tenant's name")
        return Identity(name, f"certificate:{name}")
