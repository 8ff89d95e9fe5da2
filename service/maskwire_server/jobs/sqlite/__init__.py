"""Jobs in a SQLite file: the embedded default, for all processes of one machine."""

from .backend import SqliteJobBackend

__all__ = ["SqliteJobBackend"]
