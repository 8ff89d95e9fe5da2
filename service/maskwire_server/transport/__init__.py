"""The gRPC side of the service: nothing else imports grpc or the generated messages.

Converters turn messages into domain types and back, interceptors do what every call needs,
servicers call the domain, and `server.py` puts them together. No segmentation happens here.
"""
