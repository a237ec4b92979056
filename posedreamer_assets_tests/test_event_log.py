"""The event log without waits: as durable against a killed process as before, and gone with its block."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import sqlalchemy
from sqlalchemy.pool import NullPool

from posedreamer_assets.event_log import unhurried_sqlite


def settings(path: Path) -> tuple[int, str]:
    """What a new connection of SQLAlchemy finds: 1 is NORMAL, 2 is FULL."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        read = connection.exec_driver_sql
        return read("PRAGMA synchronous").scalar_one(), read("PRAGMA journal_mode").scalar_one()


def new_log(path: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE events (n INTEGER)")
    connection.commit()
    connection.close()
    return path


def test_only_the_block_has_other_settings(tmp_path: Path) -> None:
    path = new_log(tmp_path / "log.db")
    assert settings(path) == (2, "wal")
    with unhurried_sqlite():
        assert settings(path) == (1, "wal")
        assert (tmp_path / "log.db-wal").exists()  # no checkpoint when the connection closed
    assert settings(path) == (2, "wal")
    assert not (tmp_path / "log.db-wal").exists()


def test_a_killed_process_loses_no_event(tmp_path: Path) -> None:
    path = new_log(tmp_path / "log.db")
    script = f"""
import os, signal, sqlalchemy
from sqlalchemy.pool import NullPool
from posedreamer_assets.event_log import unhurried_sqlite
engine = sqlalchemy.create_engine("sqlite:///{path}", poolclass=NullPool)
with unhurried_sqlite():
    for n in range(50):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO events VALUES ({{n}})")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ})
    assert done.returncode == -9
    connection = sqlite3.connect(path)
    assert [n for (n,) in connection.execute("SELECT n FROM events ORDER BY n")] == list(range(50))
    connection.close()
