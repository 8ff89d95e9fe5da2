"""How the service is watched: structured logs and Prometheus metrics.

What is measured and logged is decided where it happens; here is only what becomes of it.
"""
