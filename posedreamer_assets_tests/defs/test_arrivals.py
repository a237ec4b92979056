"""The sensor on pose files: each file is cut once and each content asked for once, whatever happens in between."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.arrivals import Cursor, arrivals_sensor
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline.pose_batches import recorded_batches
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore


class Sensor:
    """Ticks of the sensor on one home, with the cursor and the run keys that Dagster would keep."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path / "home")
        self.mocap = path / "mocap"
        self.mocap.mkdir()
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None
        self.launched: set[str] = set()
        self.deployment = Deployment()
        sizes = {
            "poses.files_per_batch": 2,
            "poses.align_batches": 0,
            "curriculum.rounds": [],
        }
        self.home.prepare(load_profile("pocket", {"poses.source": str(self.mocap), **sizes}))

    def write(self, *names: str, text: str = "clip") -> None:
        for name in names:
            (self.mocap / name).write_text(f"{text} {name}")

    def tick(self, *, killed: bool = False) -> list[str]:
        """Keys whose runs are launched; a killed tick did its work, but Dagster has not heard of it."""
        resources = {
            "profile": ProfileResource(home=str(self.home.path)),
            "store": LanceStoreResource(root=str(self.home.storage), cache=str(self.home.cache)),
        }
        with dg.build_sensor_context(self.instance, cursor=self.cursor, resources=resources) as context:
            result: Any = arrivals_sensor(self.deployment)(context)
        if killed or isinstance(result, dg.SkipReason):
            return []
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        self.cursor = result.cursor
        new = [request for request in result.run_requests if request.run_key not in self.launched]
        self.launched |= {request.run_key for request in new}
        return [request.partition_key for request in new]

    def files(self) -> dict[str, set[str]]:
        return {k: set(b.paths) for k, b in recorded_batches(LanceStore(str(self.home.storage))).items()}

    def partitions(self, name: str = "pose_batches") -> list[str]:
        return sorted(self.instance.get_dynamic_partitions(name))


@pytest.fixture
def sensor(tmp_path: Path) -> Iterator[Sensor]:
    made = Sensor(tmp_path)
    with made.instance:
        yield made


def test_new_files_become_partitions_and_runs_once(sensor: Sensor) -> None:
    sensor.write("a.bvh", "b.bvh", "c.bvh")
    assert sensor.tick() == []  # not known to be whole yet
    assert sensor.tick() == ["mocap-0000", "mocap-0001"]
    assert sensor.tick() == []
    assert sensor.partitions() == sensor.partitions("base_batches") == ["mocap-0000", "mocap-0001"]
    assert sorted(map(len, sensor.files().values())) == [1, 2]
    assert set.union(*sensor.files().values()) == {"a.bvh", "b.bvh", "c.bvh"}


def test_a_half_written_file_waits_and_does_not_hold_up_whole_batches(sensor: Sensor) -> None:
    sensor.write("a.bvh", "b.bvh", "c.bvh", "slow.bvh")
    (sensor.mocap / "empty.bvh").touch()
    sensor.tick()
    sensor.write("slow.bvh", text="longer clip")
    assert sensor.tick() == ["mocap-0000"]
    assert "slow.bvh" not in set.union(*sensor.files().values())
    sensor.write("late.bvh")
    assert sensor.tick() == ["mocap-0001"]  # with slow.bvh, which is whole now
    assert sensor.tick() == []  # empty.bvh is still to come: late.bvh waits for it
    sensor.write("empty.bvh")
    sensor.tick()
    assert sensor.tick() == ["mocap-0002"]
    assert set.union(*sensor.files().values()) == {"a.bvh", "b.bvh", "c.bvh", "slow.bvh", "late.bvh", "empty.bvh"}


def test_a_tick_that_is_killed_after_its_work_is_made_up_for(sensor: Sensor) -> None:
    sensor.write("a.bvh", "b.bvh")
    sensor.tick()
    assert sensor.tick(killed=True) == []
    assert sensor.files() == {"mocap-0000": {"a.bvh", "b.bvh"}}
    assert sensor.tick() == ["mocap-0000"]
    assert sensor.partitions() == ["mocap-0000"]


@pytest.mark.parametrize("cursor", [None, "", "not json", "[]", '{"other": 1}'])
def test_a_lost_cursor_repeats_nothing(sensor: Sensor, cursor: str | None) -> None:
    sensor.write("a.bvh", "b.bvh")
    sensor.tick()
    sensor.tick()
    before = sensor.files()
    sensor.cursor = cursor
    assert [sensor.tick(), sensor.tick()] == [[], []]
    assert sensor.files() == before


def test_a_file_uploaded_again_asks_for_nothing_and_a_changed_one_for_its_batch(sensor: Sensor) -> None:
    sensor.write("a.bvh", "b.bvh", "c.bvh", "d.bvh")
    sensor.tick()
    sensor.tick()
    os.utime(sensor.mocap / "a.bvh", ns=(5, 5))
    assert [sensor.tick(), sensor.tick()] == [[], []]
    sensor.write("b.bvh", text="edited")
    assert sensor.tick() == []
    (key,) = (key for key, paths in sensor.files().items() if "b.bvh" in paths)
    assert sensor.tick() == [key]
    assert [sensor.tick(), sensor.tick()] == [[], []]


def test_a_folder_that_is_away_for_a_while_changes_nothing(sensor: Sensor) -> None:
    sensor.write("a.bvh", "b.bvh")
    sensor.tick()
    sensor.tick()
    sensor.mocap.rename(sensor.mocap.with_name("away"))
    assert sensor.tick() == []
    sensor.mocap.with_name("away").rename(sensor.mocap)
    assert [sensor.tick(), sensor.tick()] == [[], []]


def test_two_folders_of_one_name_are_refused(sensor: Sensor, tmp_path: Path) -> None:
    (tmp_path / "b" / "mocap").mkdir(parents=True)
    sensor.deployment = Deployment(watch=(str(sensor.mocap), str(tmp_path / "b" / "mocap")))
    with pytest.raises(ConfigError, match=r"would both name their batches mocap-\.\.\."):
        sensor.tick()


def test_files_of_every_further_round_are_cut_with_the_first_batches(sensor: Sensor) -> None:
    sizes = {"poses.files_per_batch": 2, "poses.align_batches": 1, "curriculum.rounds": [{"size": 2}, {"size": 2}]}
    sensor.home.prepare(load_profile("pocket", {"poses.source": str(sensor.mocap), **sizes}))
    sensor.write("a.bvh", "b.bvh")
    sensor.tick()
    assert sorted(sensor.tick()) == ["align-mocap-0000", "mocap-0000"]
    assert set(sensor.files()) == {"mocap-0000", "align-mocap-0000", "hard-0000", "hard2-0000"}
    assert sensor.partitions("hard_batches") == ["hard-0000"] and sensor.partitions("hard2_batches") == ["hard2-0000"]


def test_the_cursor_reads_back_what_it_wrote() -> None:
    cursor = Cursor({"/m/a.bvh": [3, 4]}, {"mocap-0000": "abc"})
    assert Cursor.parse(cursor.text()) == cursor
    assert json.loads(cursor.text())["asked"] == {"mocap-0000": "abc"}
