"""Adapters that count how often tenants call: on one server, or for all servers of a cluster."""
