"""The Maskwire client library and command line."""
