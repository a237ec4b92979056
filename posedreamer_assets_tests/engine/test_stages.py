"""Stages that paint do so through the engine that the environment names, and give the same rows whichever it is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.diffusion.generator import FlowModel, Generator
from posedreamer_assets.engine.current import close_engine, current_engine
from posedreamer_assets.engine.generator import EngineGenerator
from posedreamer_assets.engine.inline import Inline
from posedreamer_assets.engine.processes import Processes
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.errors import BackendError, ConfigError
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.diffusion.conftest import IMAGE as TINY_IMAGE
from posedreamer_assets_tests.diffusion.conftest import draw_discs, save_tiny_parts, tiny_config
from posedreamer_assets_tests.engine.fakes import LOG, loads, log, painted, register
from posedreamer_assets_tests.engine.stages import KEYS, ROWS, paint, prepare
from posedreamer_assets_tests.engine.test_processes import alive, wait_until, workers
from posedreamer_assets_tests.runtime.small import small_profile

pytestmark = pytest.mark.slow

PROCESSES = {"POSEDREAMER_ENGINE": "processes", "POSEDREAMER_WORKERS": "2", "POSEDREAMER_CHUNK": "2"}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register(monkeypatch)
    yield
    close_engine()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything that images are made from."""
    place = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        prepare(place)
    return place


@pytest.fixture
def place(prepared: Path) -> Path:
    """The same, nothing logged and nothing painted."""
    (prepared / "generator" / LOG).unlink(missing_ok=True)
    for name in ("here", "there"):
        shutil.rmtree(prepared / name, ignore_errors=True)
        shutil.copytree(prepared / "storage", prepared / name)
    return prepared


def use(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_worker_processes_give_the_rows_that_this_process_gives(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = paint(place, "here")
    before = loads(place / "generator")
    assert isinstance(current_engine(), Inline) and before <= 1
    use(monkeypatch, PROCESSES)
    assert paint(place, "there") == here
    assert isinstance(current_engine(), Processes) and loads(place / "generator") == before + 2  # for both partitions
    assert str(os.getpid()) not in {line[0] for line in log(place / "generator", "row")[2 * ROWS :]}


def test_an_error_of_a_worker_names_what_was_made(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, PROCESSES)
    refuses = place / "generator" / "refuses.md"
    refuses.touch()
    try:
        with pytest.raises(BackendError, match=r"^base/raw_generations\[procedural-0000\]: this caption is refused$"):
            paint(place, "there")
    finally:
        refuses.unlink()


def test_a_killed_run_leaves_what_is_done_and_no_process_and_the_next_finishes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = paint(place, "here")
    (place / "generator" / LOG).unlink()
    shutil.rmtree(place / "storage")
    shutil.copytree(place / "there", place / "storage")
    slow = place / "generator" / "slow.md"
    slow.touch()
    command = [sys.executable, "-m", "posedreamer_assets_tests.engine.stages", str(place)]
    run = subprocess.Popen(command, env={**os.environ, **PROCESSES}, cwd=Path(__file__).parents[2])
    wait_until(lambda: len(log(place / "generator", "row")) > ROWS or run.poll() is not None)
    run.kill()
    run.wait()
    pids = {int(line[0]) for line in log(place / "generator", "load")}
    assert len(pids) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids))
    slow.unlink()
    done = LanceStore(str(place / "storage")).partitions("raw_generations")
    assert {key: done[key].content_digest for key in done} == {KEYS[0]: here[KEYS[0]]}
    before = painted(place / "generator")
    use(monkeypatch, PROCESSES)
    assert paint(place) == here
    again = painted(place / "generator") - before
    assert len(again) == ROWS  # those of the second partition, and none of the first


def test_the_pocket_generator_paints_the_same_bits_in_two_loads(tmp_path: Path) -> None:
    save_tiny_parts(tmp_path)
    cfg, engine = tiny_config(tmp_path), Processes(EngineSettings("processes", workers="2"))
    _, controls, captions = draw_discs(9)
    inline, crew = (EngineGenerator(one, cfg, TINY_IMAGE) for one in (Inline(), engine))
    try:
        pids = set[int | None]()
        for first in range(0, 40, 10):  # four partitions
            seeds = list(range(first, first + 9))
            assert np.array_equal(crew.generate(controls, captions, seeds), inline.generate(controls, captions, seeds))
            pids |= {worker.pid for worker in workers(engine)}
        assert (crew.name, crew.digest) == (inline.name, inline.digest)
        assert len(pids - {None}) <= 2
    finally:
        engine.close()


def test_what_is_trained_is_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_parts(tmp_path)
    profile = small_profile(**{"generator.model_path": str(tmp_path), "image.width": 32, "image.height": 32})
    assert tiny_config(tmp_path).backend == profile.generator.backend and profile.image == TINY_IMAGE
    for engine in ("inline", "processes"):
        monkeypatch.setenv("POSEDREAMER_ENGINE", engine)
        models = Models(profile)
        assert isinstance(models.local_generator, FlowModel)
        assert isinstance(models.generator, Generator) and not isinstance(models.generator, FlowModel)
    assert current_engine() is current_engine()
    monkeypatch.setenv("POSEDREAMER_ENGINE", "threads")
    with pytest.raises(ConfigError, match="POSEDREAMER_ENGINE=threads: expected one of inline, processes, ray"):
        current_engine()


def test_an_engine_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEDREAMER_ENGINE", "ray")
    monkeypatch.setitem(sys.modules, "posedreamer_assets.engine.on_ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'posedreamer-assets\[ray\]'"):
        current_engine()
