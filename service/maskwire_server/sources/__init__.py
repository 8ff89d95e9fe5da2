"""Adapters of `domain/remote_sources.py`: where files that callers name are fetched from."""

from .buckets import BucketPlace, BucketSource
from .host_patterns import HostPatterns
from .https import HttpsRules, HttpsSource

__all__ = ["BucketPlace", "BucketSource", "HostPatterns", "HttpsRules", "HttpsSource"]
