"""Worker processes: the same bits as here, few loads, and nothing lost or doubled when something dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.engine import processes
from posedreamer_assets.engine.generator import EngineGenerator
from posedreamer_assets.engine.inline import Inline
from posedreamer_assets.engine.processes import Processes, ProcessWorker, environments, gpus_of
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.errors import BackendError, EngineError
from posedreamer_assets.progress import watching
from posedreamer_assets_tests.engine import fakes
from posedreamer_assets_tests.engine.fakes import (
    IMAGE,
    CountingGenerator,
    adapter,
    config,
    forget,
    loads,
    log,
    painted,
    register,
    rows,
)

pytestmark = pytest.mark.slow
SETTINGS = EngineSettings("processes", workers="2", chunk=4)
PATIENCE_S = 600


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


@pytest.fixture(scope="module")
def engine() -> Iterator[Processes]:
    """One for all tests: a worker takes seconds to start."""
    opened = Processes(SETTINGS)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the generator of all tests logs."""
    return tmp_path_factory.mktemp("generator")


@pytest.fixture
def place(engine: Processes, folder: Path) -> Path:
    """The same with two warm workers and nothing logged."""
    if sum(bool(worker.pid) for worker in workers(engine)) < 2:
        generator(engine, folder).generate(*rows(8, "slow"))
    forget(folder)
    return folder


def generator(engine: Processes, folder: Path, label: str = "") -> EngineGenerator:
    return EngineGenerator(engine, config(folder), IMAGE, label)


def workers(engine: Processes) -> list[ProcessWorker]:
    return [] if engine._crew is None else list(engine._crew._workers)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether a process runs, and has not merely not been waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_eight_partitions_are_painted_by_two_loads_and_with_the_same_bits(engine: Processes, folder: Path) -> None:
    partitions = [rows(7, "slow" if i < 2 else "a person", 10 * i) for i in range(8)]
    found = [generator(engine, folder).generate(*given) for given in partitions]
    assert generator(engine, folder).digest == CountingGenerator.digest
    assert loads(folder) == 2
    assert len({line[0] for line in log(folder, "row")}) == 2
    assert set(painted(folder).values()) == {1}
    inline = EngineGenerator(Inline(), config(folder), IMAGE)
    for given, images in zip(partitions, found, strict=True):
        assert np.array_equal(images, inline.generate(*given))


def test_every_argument_reaches_the_worker(engine: Processes, place: Path) -> None:
    given, here = rows(5), CountingGenerator(config(place))
    for changed in ({"adapter_path": adapter(place)}, {"control_strength": 0.5}):
        images = generator(engine, place).generate(*given, **changed)  # type: ignore[arg-type]
        assert np.array_equal(images, here.generate(*given, **changed))  # type: ignore[arg-type]
    assert generator(engine, place).generate(*rows(0)).shape == (0, 8, 8, 3)


def test_a_killed_worker_costs_its_chunk_and_nothing_else(engine: Processes, place: Path) -> None:
    given = rows(16)
    given[1][6] = "killed once"
    counted = Counted()
    with watching(counted):
        images = generator(engine, place).generate(*given)
    twice = {seed for seed, times in painted(place).items() if times > 1}
    assert twice == {4, 5}  # those of its chunk that were painted before
    assert set(painted(place)) == set(range(16))
    assert loads(place) == 1
    assert np.array_equal(images, CountingGenerator(config(place)).generate(*given))
    assert counted.calls == [1] * 16  # progress goes on row by row and counts none twice


class Counted:
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def advance(self, n: int, note: str = "") -> None:
        self.calls.append(n)


def test_a_worker_killed_from_outside_is_started_again(engine: Processes, place: Path) -> None:
    given = rows(8, "slow")
    with watching(KillsWorker(engine)):
        images = generator(engine, place).generate(*given)
    assert loads(place) == 1
    assert np.array_equal(images, CountingGenerator(config(place)).generate(*given))


class KillsWorker:
    """Kills the first worker when the first row is done."""

    def __init__(self, engine: Processes) -> None:
        self.engine = engine
        self.rows = 0

    def advance(self, n: int, note: str = "") -> None:
        if self.rows == 0:
            os.kill(workers(self.engine)[0].pid or -1, signal.SIGKILL)
        self.rows += n


def test_a_broken_gpu_context_is_left_behind_with_its_process(engine: Processes, place: Path) -> None:
    images = generator(engine, place).generate(*rows(4, "CUDA"))
    assert loads(place) == 1
    assert np.array_equal(images, CountingGenerator(config(place)).generate(*rows(4, "CUDA")))


def test_a_chunk_that_kills_every_worker_ends_with_a_named_error(engine: Processes, place: Path) -> None:
    with pytest.raises(EngineError, match=r"^base/raw\[x-0003\]: 3 workers have ended at the same chunk.*signal 9"):
        generator(engine, place, "base/raw[x-0003]").generate(*rows(1, "killed always"))
    assert loads(place) == 2
    good = generator(engine, place).generate(*rows(1))  # the engine itself goes on
    assert np.array_equal(good, CountingGenerator(config(place)).generate(*rows(1)))


def test_errors_arrive_with_their_message_and_the_name_of_what_was_made(engine: Processes, place: Path) -> None:
    named = generator(engine, place, "base/raw_generations[x-0003]")
    with pytest.raises(BackendError) as refused:
        named.generate(*rows(3, "refuses"))
    assert str(refused.value) == "base/raw_generations[x-0003]: this caption is refused"
    assert not isinstance(refused.value, EngineError)
    with pytest.raises(EngineError) as bug:
        named.generate(*rows(3, "bug"))
    assert str(bug.value) == "base/raw_generations[x-0003]: ValueError: a number that is none"
    assert "in _misbehave" in bug.value.__notes__[0]
    with pytest.raises(BackendError, match="3 control images, 3 captions and 2 seeds"):
        named.generate(*rows(3)[:2], [0, 1])


def test_an_interrupt_ends_the_workers_at_once(engine: Processes, place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), watching(Interrupts()):
        generator(engine, place).generate(*rows(400, "slow"))
    assert len(painted(place)) < 40  # all of it would take each worker 40 s of sleep
    assert not any(worker.pid for worker in workers(engine))


class Interrupts:
    """As a Ctrl-C after the first chunk."""

    def advance(self, n: int, note: str = "") -> None:
        raise KeyboardInterrupt


def test_idle_workers_leave_and_are_started_again(tmp_path: Path) -> None:
    engine = Processes(replace(SETTINGS, idle_s=1.0, workers="1"))
    try:
        generator(engine, tmp_path).generate(*rows(1))
        (worker,) = workers(engine)
        pid = worker.pid or -1
        wait_until(lambda: not alive(pid))
        again = generator(engine, tmp_path).generate(*rows(2))
        assert loads(tmp_path) == 2
        assert np.array_equal(again, CountingGenerator(config(tmp_path)).generate(*rows(2)))
    finally:
        engine.close()


def test_what_is_trained_here_and_the_workers_are_not_loaded_at_once(engine: Processes, place: Path) -> None:
    pids = [worker.pid for worker in workers(engine)]
    assert all(pid and alive(pid) for pid in pids)
    local = engine.local(config(place), IMAGE)
    assert isinstance(local, CountingGenerator) and engine.local(config(place), IMAGE) is local
    assert not any(pid and alive(pid) for pid in pids)
    generator(engine, place).generate(*rows(2))
    assert engine._here._painter is None


def test_another_generator_takes_the_place_of_the_first(engine: Processes, tmp_path: Path) -> None:
    generator(engine, tmp_path).generate(*rows(1))
    (pid,) = [worker.pid for worker in workers(engine) if worker.pid]
    with pytest.raises(BackendError, match="no such weights"):
        generator(engine, tmp_path / "nowhere").generate(*rows(1))
    assert loads(tmp_path) == 1 and not alive(pid)


@pytest.mark.parametrize("here", [True, False])
def test_a_batch_that_does_not_fit_is_halved(engine: Processes, tmp_path: Path, here: bool) -> None:
    one = EngineGenerator(Inline() if here else engine, config(tmp_path, batch_size=8), IMAGE)
    assert np.array_equal(one.generate(*rows(1, "large")), one.generate(*rows(1, "large")))
    assert loads(tmp_path) == 3  # at 8, 4 and 2 rows, and then no more


def test_a_single_image_that_does_not_fit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "LARGEST_BATCH", 0)
    with pytest.raises(BackendError, match=r"too small for a single image: CUDA out of memory\.$"):
        EngineGenerator(Inline(), config(tmp_path, batch_size=4), IMAGE).generate(*rows(1, "large"))


def test_workers_leave_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from posedreamer_assets_tests.engine import test_processes as t\n"
        "from pathlib import Path; import pytest\n"
        "t.register(pytest.MonkeyPatch())\n"
        f"t.generator(t.Processes(t.SETTINGS), Path({str(tmp_path)!r})).generate(*t.rows(400, 'slow'))\n"
    )
    coordinator = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    wait_until(lambda: len({line[0] for line in log(tmp_path, "row")}) == 2)
    pids = {int(line[0]) for line in log(tmp_path, "load")}
    assert all(alive(pid) for pid in pids)
    coordinator.kill()
    coordinator.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids))
    assert len(painted(tmp_path)) < 400


def test_each_worker_sees_a_gpu_of_its_own_and_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    assert gpus_of("auto", {}) == ["0", "1", "2"]
    assert gpus_of("cuda:1", {}) == ["1"]
    assert gpus_of("cpu", {}) == []
    assert gpus_of("auto", {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,5"}) == ["GPU-a", "GPU-b", "5"]
    every = environments("auto", EngineSettings("processes"), {"HOME": "/root"})
    assert [place["CUDA_VISIBLE_DEVICES"] for place in every] == ["0", "1", "2"]
    assert {(place["OMP_NUM_THREADS"], place["HOME"]) for place in every} == {("4", "/root")}
    four = environments("auto", EngineSettings("processes", workers="4"), {})
    assert [place["CUDA_VISIBLE_DEVICES"] for place in four] == ["0", "1", "2", "0"]
    assert len(environments("cpu", EngineSettings("processes"), {})) == 1


def test_a_worker_sees_its_environment_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def placed(*args: object) -> list[dict[str, str]]:
        return [{**os.environ, "CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "3", "PYTHONPATH": ":".join(sys.path)}]

    monkeypatch.setattr(processes, "environments", placed)
    engine = Processes(SETTINGS)
    try:
        generator(engine, tmp_path).generate(*rows(1))
    finally:
        engine.close()
    assert [line[2:] for line in log(tmp_path, "load")] == [["3", "7"]]
