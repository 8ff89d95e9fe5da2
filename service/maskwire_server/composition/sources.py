"""Builds what fetches files from where callers say."""

from __future__ import annotations

from contextlib import AsyncExitStack

from ..domain.observer import Observer
from ..domain.remote_sources import (
    BUCKET_SCHEMES,
    HTTPS_SCHEME,
    FetchLimits,
    RemoteSource,
    RemoteSources,
)
from ..settings import BucketSettings, Settings, SettingsError
from ..sources import BucketPlace, BucketSource, HostPatterns, HttpsRules, HttpsSource


def build_sources(
    settings: Settings, observer: Observer, resources: AsyncExitStack
) -> RemoteSources:
    """Build what the settings allow; what must be closed goes on `resources`.

    Raises:
        SettingsError: A host, a bucket or the certificates are not valid.
    """
    chosen = settings.sources
    sources: dict[str, RemoteSource] = {}
    if chosen.https.enabled:
        https = _https_source(settings)
        resources.push_async_callback(https.close)
        sources[HTTPS_SCHEME] = https
    if chosen.buckets:
        buckets = BucketSource([_place(bucket) for bucket in chosen.buckets])
        named = {bucket.url.partition(":")[0] for bucket in chosen.buckets}
        sources |= dict.fromkeys(BUCKET_SCHEMES & named, buckets)
    limits = FetchLimits(
        max_fetches=chosen.max_fetches,
        max_fetches_per_tenant=chosen.max_fetches_per_tenant,
        timeout_s=chosen.timeout_s,
    )
    return RemoteSources(sources, limits, observer)


def _https_source(settings: Settings) -> HttpsSource:
    chosen = settings.sources.https
    try:
        rules = HttpsRules(
            allowed_hosts=HostPatterns.read(chosen.allowed_hosts),
            denied_hosts=HostPatterns.read(chosen.denied_hosts),
            allowed_ports=frozenset(chosen.allowed_ports),
            allowed_networks=chosen.allowed_networks,
            ca_file=chosen.ca_file,
            connect_timeout_s=chosen.connect_timeout_s,
            max_redirects=chosen.max_redirects,
        )
        return HttpsSource(
            rules, settings.sources.max_fetches, settings.sources.max_fetches_per_tenant
        )
    except ValueError as error:
        raise SettingsError(f"sources.https: {error}") from error
    except OSError as error:
        raise SettingsError(f"sources.https.ca_file: {error}") from error


def _place(bucket: BucketSettings) -> BucketPlace:
    secret = bucket.secret_access_key
    options = {
        "endpoint": bucket.endpoint,
        "region": bucket.region,
        "access_key_id": bucket.access_key_id,
        "secret_access_key": None if secret is None else secret.get_secret_value(),
    }
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return BucketPlace.read(bucket.url, given, allow_http=bucket.allow_http)
    except ValueError as error:
        raise SettingsError(f"sources.buckets: {bucket.url} {error}") from error
