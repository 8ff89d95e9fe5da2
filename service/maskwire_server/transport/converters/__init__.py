"""Pure functions between messages of `maskwire.v1` and domain types, one module for each family.

`x_from_proto` reads a message that the contract's rules have already accepted, and refuses what
this version does not serve; `x_to_proto` writes one. Neither blocks, decodes pictures or asks for
anything else.
"""
