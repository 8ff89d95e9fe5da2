"""Builds what decides who may call, as the settings say."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from ipaddress import ip_address

from ..domain.identity import AccessControl, Authenticator
from ..identity.certificates import ClientCertificates
from ..identity.json_web_tokens import JsonWebTokens, KeySetError, TokenRules
from ..identity.key_file import KeyFile, KeyFileError
from ..settings import AuthSettings, Settings, SettingsError


async def build_access(settings: Settings, resources: AsyncExitStack) -> AccessControl:
    """Build the access control; what must be ended goes on `resources`.

    Raises:
        SettingsError: The settings let in nobody, or everybody without saying so; keys cannot be
            read.
    """
    auth = settings.auth
    authenticators: list[Authenticator] = []
    try:
        if auth.keys_file is not None:
            keys = KeyFile(auth.keys_file, timedelta(seconds=auth.reload_interval_s))
            keys.start()
            resources.push_async_callback(keys.stop)
            authenticators.append(keys)
        if auth.token_issuer is not None:
            tokens = await JsonWebTokens.open(_token_rules(auth, auth.token_issuer))
            resources.push_async_callback(tokens.close)
            authenticators.append(tokens)
    except (KeyFileError, KeySetError) as error:
        raise SettingsError(f"auth: {error}") from error
    if auth.certificates:
        if settings.tls.client_ca_file is None:
            raise SettingsError("auth.certificates needs tls.client_ca_file")
        authenticators.append(ClientCertificates())
    return AccessControl(
        authenticators, is_anonymous_allowed=_is_anonymous_allowed(settings, bool(authenticators))
    )


def _is_anonymous_allowed(settings: Settings, has_credentials: bool) -> bool:
    chosen = settings.auth.allow_anonymous
    if chosen is not None:
        if not chosen and not has_credentials:
            raise SettingsError(
                "auth.allow_anonymous is false and no kind of credentials is set up: nobody could "
                "call; set auth.keys_file (maskwire keys create), auth.token_issuer or "
                "auth.certificates"
            )
        return chosen
    if has_credentials:
        return False
    if not is_loopback(settings.grpc.host):
        raise SettingsError(
            f"grpc.host is {settings.grpc.host}, which others than this machine may reach, and no "
            "kind of credentials is set up: set auth.keys_file (maskwire keys create), "
            "auth.token_issuer or auth.certificates; or auth.allow_anonymous=true to let "
            "everybody in"
        )
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _token_rules(auth: AuthSettings, issuer: str) -> TokenRules:
    if auth.token_key_set is None:
        raise SettingsError("auth.token_issuer needs auth.token_key_set")
    return TokenRules(
        issuer=issuer,
        audience=auth.token_audience,
        key_set=auth.token_key_set,
        tenant_claim=auth.token_tenant_claim,
        scope_claim=auth.token_scope_claim,
        refresh_interval=timedelta(seconds=auth.token_refresh_interval_s),
        ca_file=auth.token_ca_file,
    )
