"""Jobs in NATS JetStream, for a cluster: a stream of records with their events, and queues."""

from .backend import NatsJobBackend

__all__ = ["NatsJobBackend"]
