"""Durable jobs: what a job is, how it changes, and the ledger that keeps its promises.

A job is accepted once its record is written; it runs at least once and commits exactly one result.
Backends (`jobs/sqlite`, `jobs/nats`) keep records and queues; workers (`jobs/worker`) run calls.
"""
