"""Dagster's SQLite event log without a wait for the disk, a new connection and a compiled statement at every event.

A run of one partition writes about two hundred events, most of them of its data checks. For each, Dagster makes an engine
of SQLAlchemy, which compiles the statement anew, and opens a connection; with SQLite's defaults every commit is
synchronised to the disk, and so is the checkpoint that the closing of a file's last connection brings. Neither is needed
in WAL mode, which new files have here from the start, for the log to stay consistent: what a power failure can take is the
end of the log, and the rows, which lie elsewhere, say themselves what they were made from.
"""

import importlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool

# Each makes an engine for every connection, by this name.
_STORAGES = (
    "dagster._core.storage.event_log.sqlite.sqlite_event_log",
    "dagster._core.storage.runs.sqlite.sqlite_run_storage",
)


@contextmanager
def unhurried_sqlite() -> Iterator[None]:
    """Within the block, this process keeps one engine for each SQLite file of Dagster, with its connection, and commits to
    files in WAL mode do not wait for the disk.
    """
    engines: dict[str, Engine] = {}

    def kept(url: str, **given: Any) -> Engine:
        if url not in engines:
            engines[url] = create_engine(url, **{**given, "poolclass": QueuePool})
            engines[url].dispose = _stay  # the storage disposes of it after every event
        return engines[url]

    modules = [module for module in map(_module, _STORAGES) if module is not None and hasattr(module, "create_engine")]
    storages = {module: module.create_engine for module in modules}
    event.listen(Engine, "connect", _do_not_wait)
    try:
        for module in storages:
            setattr(module, "create_engine", kept)  # noqa: B010, a module's type has no such attribute
        yield
    finally:
        for module, original in storages.items():
            setattr(module, "create_engine", original)  # noqa: B010
        event.remove(Engine, "connect", _do_not_wait)
        for engine in engines.values():
            Engine.dispose(engine)


def _module(name: str) -> ModuleType | None:
    """None where another release of Dagster has no such module, which costs time alone."""
    with suppress(ImportError):
        return importlib.import_module(name)
    return None


def _stay(close: bool = True) -> None:
    """In place of `Engine.dispose`."""


def _do_not_wait(connection: Any, record: object) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        # A run has a file of its own. Dagster makes its tables one by one, each synchronised twice, before it sets WAL mode.
        with suppress(sqlite3.OperationalError):  # locked: another process is making it just now
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
