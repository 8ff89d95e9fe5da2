"""What Maskwire does, free of any transport, model library or storage.

Types (frozen dataclasses over numpy arrays), the interfaces that engines, job backends and stores
implement, and the services that tie them together. Nothing here imports grpc, protobuf or torch.
"""
