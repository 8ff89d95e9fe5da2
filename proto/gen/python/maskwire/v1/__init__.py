"""Generated messages and service stubs of maskwire.v1."""
