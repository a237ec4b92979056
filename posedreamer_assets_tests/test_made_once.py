"""What is made once is made by one of the processes that ask for it, and again where making it failed."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from posedreamer_assets_tests.made_once import made_once


class Folders:
    """Of a worker of pytest-xdist: `base` lies beside those of the other workers."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.mkdir()

    def getbasetemp(self) -> Path:
        return self.base


def test_workers_share_what_the_first_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    made = []

    def make(place: Path) -> tuple[str, int]:
        made.append(place)
        (place / "rows").write_text("rows")
        return str(place), os.getpid()

    workers = [Folders(tmp_path / f"gw{i}") for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: made_once(one, "study", make), workers))  # type: ignore[arg-type]
    assert made == [tmp_path / "made-study"] and set(found) == {(str(made[0]), os.getpid())}
    assert made_once(workers[0], "other", make) != found[0]  # type: ignore[arg-type]
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert made_once(workers[0], "study", make)[0] == str(tmp_path / "gw0" / "made-study")  # type: ignore[arg-type]


def test_what_failed_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    folders, tries = Folders(tmp_path / "base"), []

    def make(place: Path) -> int:
        assert not [*place.iterdir()]
        (place / "half").touch()
        tries.append(place)
        if len(tries) == 1:
            raise KeyboardInterrupt
        return len(tries)

    with pytest.raises(KeyboardInterrupt):
        made_once(folders, "study", make)  # type: ignore[arg-type]
    assert made_once(folders, "study", make) == made_once(folders, "study", make) == 2  # type: ignore[arg-type]
