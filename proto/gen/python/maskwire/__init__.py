"""Generated protobuf code of the Maskwire contract; see proto/maskwire."""
