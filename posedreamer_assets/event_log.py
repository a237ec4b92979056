"""Dagster's SQLite event log without a wait for the disk at every event.

A run of one partition writes about two hundred events, most of them of its data checks. Dagster opens a connection for
each; with SQLite's defaults every commit is synchronised to the disk, and so is the checkpoint that the closing of a file's
last connection brings. Neither is needed in WAL mode for the log to stay consistent: what a power failure can take is the
end of the log, and the rows, which lie elsewhere, say themselves what they were made from.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


@contextmanager
def unhurried_sqlite() -> Iterator[None]:
    """Within the block, commits of this process to SQLite files in WAL mode do not wait for the disk."""
    held: dict[str, sqlite3.Connection] = {}

    def on_connect(connection: Any, record: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("PRAGMA synchronous=NORMAL")
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        if path and path not in held and journal == "wal":  # a new file becomes one after its first connection
            # While this connection is open, no other one is the last to close.
            held[path] = sqlite3.connect(path, check_same_thread=False)
            held[path].execute("SELECT count(*) FROM sqlite_master").fetchone()

    event.listen(Engine, "connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "connect", on_connect)
        for connection in held.values():
            with closing(connection):
                pass
