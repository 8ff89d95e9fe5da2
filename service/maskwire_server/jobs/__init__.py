"""Adapters of the job interfaces: backends that keep jobs, and the workers that run them."""
