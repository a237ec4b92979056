"""Rows that nobody has looked at, after a kill between their write and their checks, pass nowhere."""

import os
from pathlib import Path

import pytest

from posedreamer_assets.runtime import make as making
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.runtime.small import POSES, captions_lost, make_one
from posedreamer_assets_tests.storage_faults import unchecked

KILLS = int(os.environ.get("POSEDREAMER_KILLS", "10"))
KEY = unchecked.KEYS[0]


def test_kills_between_a_write_and_its_checks_let_no_bad_row_pass(tmp_path: Path) -> None:
    report = unchecked.inject(str(tmp_path / "store"), None, tmp_path, max(unchecked.RUN_EVERY, KILLS), seed=3)
    assert report.bad_passed == 0 and report.tally.clean, report.tally.notes
    assert report.runs and report.kills["rows unchecked"]


def test_the_count_of_bad_rows_that_passed_sees_a_release_that_lets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = unchecked.Oracle.of(tmp_path / "oracle")
    store = LanceStore(str(tmp_path / "store"))
    make_one(store, unchecked.PROFILE, "body_model")
    with captions_lost(KEY):
        make_one(store, unchecked.PROFILE, POSES, KEY, checked=False)

    def passed() -> list[str]:
        report = unchecked.Report()
        unchecked.look(store, oracle, report, 1)
        return [note for note in report.tally.notes if "bad rows passed" in note]

    with monkeypatch.context() as careless:
        careless.setattr(Snapshot, "blocked_by", lambda *_: ())  # as before outcomes were kept with the rows
        assert len(passed()) == 3, "held to be up to date, read by the next stage, and maps of them are stored"
    assert [note.split(": ", 2)[2] for note in passed()] == [f"stored maps of bad poses of {KEY}"]
    store.delete_partition("control_maps", KEY)
    assert passed() == []
    with monkeypatch.context() as careless:
        careless.setattr(making, "refuse_bad_rows", lambda *_: None)
        assert len(passed()) == 2, "the outcome is known by now, and not heeded"
