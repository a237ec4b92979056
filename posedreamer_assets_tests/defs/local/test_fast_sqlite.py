"""The event log without waits: as durable against a killed process as before, and gone with its block."""

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from posedreamer_assets.defs.local.fast_sqlite import unhurried_sqlite


@pytest.fixture(autouse=True, scope="module")
def _no_wait_for_the_disk() -> None:
    """Which other tests have of the conftest: here the settings are Dagster's own."""


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
    assert settings(path) == (2, "wal")


def test_a_new_file_is_in_wal_mode_before_it_has_a_table(tmp_path: Path) -> None:
    """So that its tables are made without a wait for each; a file of another mode keeps it."""
    with unhurried_sqlite():
        assert settings(tmp_path / "new.db") == (1, "wal")
    sqlite3.connect(tmp_path / "old.db").execute("CREATE TABLE events (n INTEGER)").connection.close()
    with unhurried_sqlite():
        assert settings(tmp_path / "old.db") == (1, "delete")


def test_dagster_keeps_its_connections_in_the_block_and_none_after_it(tmp_path: Path) -> None:
    opened: Counter[str] = Counter()

    def count(connection: Any, record: object) -> None:
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        opened[Path(path).name] += 1

    def report(instance: dg.DagsterInstance) -> None:
        for n in range(10):
            instance.report_runless_asset_event(dg.AssetMaterialization("poses", metadata={"n": n}))

    event.listen(Engine, "connect", count)
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            opened.clear()
            with unhurried_sqlite():
                report(instance)
            assert max(opened.values()) <= 2  # a new file needs two at once
            assert list(tmp_path.rglob("*.db-wal")) == []
            report(instance)
            assert opened["index.db"] > 10
            records = instance.fetch_materializations(dg.AssetKey("poses"), limit=100).records
    finally:
        event.remove(Engine, "connect", count)
    assert len(records) == 20


def test_a_killed_process_loses_no_event(tmp_path: Path) -> None:
    path = new_log(tmp_path / "log.db")
    script = f"""
import os, signal, sqlalchemy
from sqlalchemy.pool import NullPool
from posedreamer_assets.defs.local.fast_sqlite import unhurried_sqlite
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
