"""Automation conditions, evaluated as the daemon does: what a new batch, a changed one and a new model set off."""

from collections.abc import Iterator

import dagster as dg
import pytest

from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import graph
from posedreamer_assets.tables.keys import group_of

# Dagster's own tester calls what Dagster calls beta.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

OLD, NEW = "mocap-0000", "mocap-0001"
GRAPH = graph(2)
DEFS = build(Deployment(), GRAPH)


class Daemon:
    """Evaluates conditions tick by tick; what they ask for is reported as made."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor = None

    def report(self, stage: str, key: str | None = None) -> None:
        materialization = dg.AssetMaterialization(dg.AssetKey(stage.split("/")), partition=key)
        self.instance.report_runless_asset_event(materialization)

    def tick(self, *, obey: bool = True) -> set[tuple[str, str | None]]:
        result = dg.evaluate_automation_conditions(DEFS, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        asked: set[tuple[str, str | None]] = set()
        for stage in GRAPH:
            asset = dg.AssetKey(stage.key.split("/"))
            if stage.partitioned:
                asked |= {(stage.key, key) for key in result.get_requested_partitions(asset)}
            elif result.get_num_requested(asset):
                asked.add((stage.key, None))
        for stage, key in sorted(asked, key=lambda pair: GRAPH.stages.index(GRAPH[pair[0]])) if obey else []:
            self.report(stage, key)
        return asked

    def until_quiet(self, most: int = 12) -> set[tuple[str, str | None]]:
        everything: set[tuple[str, str | None]] = set()
        quiet = 0
        for _ in range(most):
            asked = self.tick()
            everything |= asked
            quiet = 0 if asked else quiet + 1
            if quiet == 2:
                return everything
        raise AssertionError("the conditions never come to rest")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Everything has been made for one old batch before automation is switched on."""
    with dg.DagsterInstance.ephemeral() as instance:
        register(instance, GRAPH, [OLD])
        made = Daemon(instance)
        for stage in GRAPH:
            if not stage.partitioned:
                made.report(stage.key)
            elif group_of(OLD) in stage.groups:
                made.report(stage.key, OLD)
        yield made


BELOW_POSES = {
    "base/control_maps",
    "rendered_scenes",
    "base/raw_generations",
    "base/sample_scores",
    "base/filtered_dataset",
    "base/dataset",
}


def test_nothing_starts_when_everything_is_there(daemon: Daemon) -> None:
    assert daemon.until_quiet() == set()


def test_a_new_batch_flows_to_the_dataset_and_no_further(daemon: Daemon) -> None:
    daemon.until_quiet()
    register(daemon.instance, GRAPH, [NEW])
    assert daemon.until_quiet() == set()  # its poses are the sensor's to ask for
    daemon.report("pose_library", NEW)
    assert daemon.until_quiet() == {*((stage, NEW) for stage in BELOW_POSES), ("dataset_release", None)}


def test_a_batch_from_before_the_switch_is_finished(daemon: Daemon) -> None:
    register(daemon.instance, GRAPH, [NEW])
    daemon.report("pose_library", NEW)
    daemon.report("base/control_maps", NEW)
    asked = daemon.until_quiet()
    assert asked == {*((stage, NEW) for stage in BELOW_POSES - {"base/control_maps"}), ("dataset_release", None)}


def test_changed_poses_make_their_own_batch_again(daemon: Daemon) -> None:
    daemon.until_quiet()
    daemon.report("pose_library", OLD)
    assert daemon.until_quiet() == {*((stage, OLD) for stage in BELOW_POSES), ("dataset_release", None)}


@pytest.mark.parametrize("model", ["body_model", "control_checkpoint", "dpo_checkpoint", "hard/difficulty_model"])
def test_a_new_model_starts_nothing(daemon: Daemon, model: str) -> None:
    daemon.until_quiet()
    daemon.report(model)
    assert daemon.until_quiet() == set()


def test_poses_of_a_further_round_flow_through_that_round_alone(daemon: Daemon) -> None:
    daemon.until_quiet()
    name, key = "hard", "hard-0007"
    register(daemon.instance, GRAPH, [key])
    stages = ("control_maps", "raw_generations", "sample_scores", "filtered_dataset", "dataset")
    assert daemon.until_quiet() == {
        (f"{name}/hard_samples", key),
        *((f"{name}/{stage}", key) for stage in stages),
        ("dataset_release", None),
    }


def test_images_wait_for_the_checkpoint() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = Daemon(instance)
        register(instance, GRAPH, [NEW])
        daemon.report("pose_library", NEW)
        asked = daemon.until_quiet()
        assert asked == {
            ("body_model", None),
            ("control_checkpoint", None),
            ("base/control_maps", NEW),
            ("rendered_scenes", NEW),
        }
        daemon.report("dpo_checkpoint")
        asked = daemon.until_quiet()
        assert {stage for stage, _ in asked} == {
            "base/raw_generations",
            "base/sample_scores",
            "base/filtered_dataset",
            "base/dataset",
            "dataset_release",
        }
