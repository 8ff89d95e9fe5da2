"""Generated protobuf code of the Maskwire contract."""
