"""The Maskwire server: domain, engines, jobs, storage, transport and observability, built by app.py."""
