"""Generated messages and service stubs of the package maskwire.v1."""
