"""Actors of a Ray cluster of this computer, where a resource stands in for GPUs. Takes a minute: POSEDREAMER_TEST_RAY=1."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedreamer_assets.engine.generator import EngineGenerator
from posedreamer_assets.engine.inline import Inline
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.errors import BackendError, EngineError
from posedreamer_assets_tests.engine.fakes import (
    IMAGE,
    CountingGenerator,
    adapter,
    config,
    loads,
    painted,
    register,
    rows,
)

ray: Any = pytest.importorskip("ray", reason="pip install 'posedreamer-assets[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POSEDREAMER_TEST_RAY"), reason="set POSEDREAMER_TEST_RAY=1"),
    # Ray warns of its own future.
    pytest.mark.filterwarnings("ignore"),
]
SETTINGS = EngineSettings("ray", workers="2", chunk=4, ray_resource="stand_in")
PATIENCE_S = 120
NAMESPACE, PLACES = "posedreamer", 3


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=4, resources={"stand_in": PLACES}, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The generator is known, and no actor is left when the test ends, however it ends: the next one needs their places."""
    register(monkeypatch)
    yield
    for name in alive():
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    wait_until(lambda: ray.available_resources().get("stand_in") == PLACES)


def engine(settings: EngineSettings = SETTINGS) -> Any:
    from posedreamer_assets.engine.on_ray import OnRay

    return OnRay(settings)


def generator(one: Any, folder: Path, label: str = "") -> EngineGenerator:
    return EngineGenerator(one, config(folder), IMAGE, label)


def actors(one: Any) -> list[str]:
    return [worker.name for worker in one._crew._workers]


def alive() -> set[str]:
    return {entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)}


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_eight_partitions_are_painted_by_two_loads_and_the_next_run_finds_them_warm(tmp_path: Path) -> None:
    partitions = [rows(7, "slow" if i < 2 else "a person", 10 * i) for i in range(8)]
    found = []
    for half in (partitions[:4], partitions[4:]):  # a run each
        one = engine()
        found += [generator(one, tmp_path).generate(*given) for given in half]
        one.close()
    assert generator(one, tmp_path).digest == CountingGenerator.digest
    assert loads(tmp_path) == 2
    assert set(painted(tmp_path).values()) == {1}
    inline = EngineGenerator(Inline(), config(tmp_path), IMAGE)
    for given, images in zip(partitions, found, strict=True):
        assert np.array_equal(images, inline.generate(*given))
    one.close()


def test_a_killed_actor_costs_its_chunk_and_an_adapter_goes_along(tmp_path: Path) -> None:
    one, given = engine(), rows(16, "slow")  # so that both actors take some
    given[1][6] = "killed once"
    images = generator(one, tmp_path).generate(*given, adapter_path=adapter(tmp_path))
    assert {seed for seed, times in painted(tmp_path).items() if times > 1} == {4, 5}
    assert set(painted(tmp_path)) == set(range(16))
    assert loads(tmp_path) == 3
    with pytest.raises(BackendError, match="no LoRA adapter"):
        generator(one, tmp_path).generate(*rows(1), adapter_path=tmp_path / "nowhere")
    here = CountingGenerator(config(tmp_path))
    assert np.array_equal(images, here.generate(*given, adapter_path=adapter(tmp_path)))
    before = loads(tmp_path)
    images = generator(one, tmp_path).generate(*rows(4, "CUDA"))
    assert np.array_equal(images, here.generate(*rows(4, "CUDA")))
    assert loads(tmp_path) > before  # in the place of the one that was broken
    one.close()


def test_an_actor_that_is_killed_from_outside_is_started_again(tmp_path: Path) -> None:
    one = engine()
    generator(one, tmp_path).generate(*rows(8, "slow"))
    pids = [ray.get(ray.get_actor(name, namespace=NAMESPACE).pid.remote()) for name in actors(one)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    images = generator(one, tmp_path).generate(*rows(8, "slow"))
    assert np.array_equal(images, CountingGenerator(config(tmp_path)).generate(*rows(8, "slow")))
    one.close()


def test_errors_arrive_with_their_message_and_the_name_of_what_was_made(tmp_path: Path) -> None:
    one = engine()
    named = generator(one, tmp_path, "base/raw_generations[x-0003]")
    with pytest.raises(BackendError) as refused:
        named.generate(*rows(3, "refuses"))
    assert str(refused.value) == "base/raw_generations[x-0003]: this caption is refused"
    with pytest.raises(EngineError, match=r"ValueError: a number that is none$") as bug:
        named.generate(*rows(3, "bug"))
    assert "in _misbehave" in bug.value.__notes__[0]
    with pytest.raises(EngineError, match=r"base/raw_generations\[x-0003\]: 3 workers have ended at the same chunk"):
        named.generate(*rows(1, "killed always"))
    assert len(named.generate(*rows(2))) == 2
    one.close()


def test_idle_actors_leave_their_place_to_others(tmp_path: Path) -> None:
    one = engine(replace(SETTINGS, idle_s=1.0))
    generator(one, tmp_path).generate(*rows(8, "slow"))
    names = set(actors(one))
    assert names & alive()
    wait_until(lambda: not names & alive())
    assert len(generator(one, tmp_path).generate(*rows(2))) == 2
    wait_until(lambda: not names & alive())
    wait_until(lambda: ray.available_resources().get("stand_in") == PLACES)


def test_as_many_actors_as_there_is_place_for(tmp_path: Path) -> None:
    from posedreamer_assets.engine.on_ray import actor_names
    from posedreamer_assets.engine.painter import Model

    model = Model.of(config(tmp_path), IMAGE)
    for workers, expected in (("auto", 2), ("1", 1), ("9", 3)):  # auto leaves one place to steps
        assert len(actor_names(model, replace(SETTINGS, workers=workers))) == expected
    assert len(actor_names(model, replace(SETTINGS, gpus=0))) == 2
    before = actor_names(model, SETTINGS)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert not set(before) & set(actor_names(model, SETTINGS))
