"""Partitions made by processes beside this one: the same rows, errors with their class, nothing lost with a process."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import psutil
import pytest

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.local import side_by_side
from posedreamer_assets.defs.local.side_by_side import SideBySide, processes_for
from posedreamer_assets.errors import PoseDreamerError, RecipeError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.progress import watching
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.made_once import made_once
from posedreamer_assets_tests.students.small import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    return made_once(tmp_path_factory, "study", make_study)


@pytest.fixture
def home(study: tuple[LanceStore, Profile], tmp_path: Path) -> Iterator[Home]:
    store, profile = study
    home = Home(tmp_path / "home")
    home.prepare(profile)
    shutil.copytree(store.root, home.storage, dirs_exist_ok=True)
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
        yield home


class Counted:
    """What was told of the progress."""

    def __init__(self) -> None:
        self.units = 0

    def advance(self, n: int, note: str = "") -> None:
        self.units += n


def test_students_are_the_same_side_by_side(study: tuple[LanceStore, Profile], home: Home) -> None:
    """Two processes train four students: bits, outcomes of checks and progress as of one after the other."""
    store, profile = study
    stage = graph_of(profile)["hmr_student"]
    keys = planned_keys(profile, stage.groups)[:4]
    told = Counted()
    with SideBySide(home) as beside, watching(told):
        made = list(beside.execute(stage, keys, [True] * len(keys), 2))
    assert sorted(made) == sorted(keys)
    assert told.units == len(keys) * stage.units(profile)
    before, after = (one.read("hmr_student", keys).column("weights").to_pylist() for one in (store, home.store()))
    assert before == after
    snapshot = Snapshot(profile, home.store())
    assert all(snapshot.is_current(stage, key) for key in keys)


def test_an_error_keeps_its_class_and_ends_the_rest(study: tuple[LanceStore, Profile], home: Home) -> None:
    """As a recipe that asks for more images than there are."""
    _, profile = study
    text = Path(profile.students.study).read_text().replace("size: budget}", "size: 4000}")
    (home.path / "much.yaml").write_text(text)
    profile = replace(profile, students=replace(profile.students, study=str(home.path / "much.yaml")))
    home.prepare(profile)
    stage = graph_of(profile)["training_manifests"]
    keys = [key for key in planned_keys(profile, stage.groups) if "generated" in key]
    with SideBySide(home) as beside, pytest.raises(RecipeError, match="asks for 4000 samples"):
        list(beside.execute(stage, keys, [True] * len(keys), 2))


def test_a_killed_process_is_told_and_another_takes_its_place(study: tuple[LanceStore, Profile], home: Home) -> None:
    _, profile = study
    stage = graph_of(profile)["student_scores"]
    key = planned_keys(profile, stage.groups)[0]
    with SideBySide(home) as beside:
        assert list(beside.execute(stage, [key], [True], 1)) == [key]
        (process,) = [one for one in psutil.Process().children() if side_by_side.__name__ in one.cmdline()]
        killer = threading.Thread(target=_kill_at_work, args=(process,))
        killer.start()
        with pytest.raises(
            PoseDreamerError, match=r"student_scores\[.*\]: the process that made it was killed by signal 9"
        ):
            for _ in range(50):
                list(beside.execute(stage, [key], [True], 1))
        killer.join()
        assert list(beside.execute(stage, [key], [True], 1)) == [key]
    assert not [one for one in psutil.Process().children() if side_by_side.__name__ in one.cmdline()]


def _kill_at_work(process: psutil.Process) -> None:
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)


def test_a_process_leaves_with_the_one_that_started_it(home: Home) -> None:
    helper = side_by_side._Helper(home)
    helper._start()
    process = psutil.Process(helper._process.pid)  # type: ignore[union-attr]
    helper._connection.close()  # as the end of this process would
    assert process.wait(60) == 0
    helper.close()


def test_an_error_of_who_watches_is_its_own_and_ends_the_processes(
    study: tuple[LanceStore, Profile], home: Home
) -> None:
    """As when what shows the progress writes to a pipe that nobody reads."""
    _, profile = study
    stage = graph_of(profile)["hmr_student"]
    keys = planned_keys(profile, stage.groups)[:3]

    class Broken:
        def advance(self, n: int, note: str = "") -> None:
            raise BrokenPipeError("nobody reads")

    with SideBySide(home) as beside, watching(Broken()), pytest.raises(BrokenPipeError, match="nobody reads"):
        list(beside.execute(stage, keys, [True] * 3, 1))
    assert not [one for one in psutil.Process().children() if side_by_side.__name__ in one.cmdline()]


def test_a_closed_process_is_not_started_again(home: Home) -> None:
    """As by a thread that has a partition still to ask for when the others are ended."""
    helper = side_by_side._Helper(home)
    helper.close()
    with pytest.raises(PoseDreamerError, match=r"hmr_student\[k\]: the process that made it was ended"):
        helper.execute(side_by_side._Asked("hmr_student", "k", False))
    assert not [one for one in psutil.Process().children() if side_by_side.__name__ in one.cmdline()]


def test_few_partitions_and_busy_stages_stay_here(study: tuple[LanceStore, Profile]) -> None:
    graph = graph_of(study[1])
    cores = mock.patch.object(side_by_side, "usable_cores", return_value=16)
    memory = mock.patch("psutil.virtual_memory", return_value=mock.Mock(available=7 << 30))
    with cores:
        assert processes_for(graph["hmr_student"], 7, study[1]) == 1
        assert processes_for(graph["hmr_student"], 8, study[1]) == 2
        assert processes_for(graph["base/raw_generations"], 800, study[1]) == 1
        with memory:
            assert processes_for(graph["hmr_student"], 800, study[1]) == 3
            large = replace(graph["hmr_student"], memory_gb=lambda profile: 3.5)
            assert processes_for(large, 800, study[1]) == 2
            with mock.patch("posedreamer_assets.diffusion.memory.gpu_gb", return_value=4.0):
                assert processes_for(large, 800, study[1]) == 1
