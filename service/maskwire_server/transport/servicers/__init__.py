"""The services of `maskwire.v1` over gRPC: each method parses, calls the domain once, serialises.

Services whose domain part does not exist yet are registered with the generated base servicers and
answer UNIMPLEMENTED.
"""
