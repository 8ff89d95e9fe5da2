"""The Maskwire server: domain, engines, transport and observability, built by `app.py`."""
