"""The command `maskwire`: one module per command; what they share is in modules named for it.

Nothing here is imported by the library. The server's packages are imported only inside commands
that run it in process, so that a client-only install has every other command.
"""

from .application import main

__all__ = ["main"]
