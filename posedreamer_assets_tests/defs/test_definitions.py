"""The asset graph as Dagster sees it, and what importing it costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.definitions import defs
from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.local.runner import run_config
from posedreamer_assets.defs.partitions import all_groups, partition_set, set_name
from posedreamer_assets.pipeline import Stage, graph
from posedreamer_assets.runtime.home import Home

STAGES = graph(3).stages
DEFS = build(Deployment(), graph(3))
GRAPH = DEFS.resolve_asset_graph()
named = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.key)


def _after(statement: str) -> dict[str, object]:
    """Modules and CPU time of a new process after a statement."""
    script = (
        f"{statement}\nimport json, resource, sys\nused = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps({'modules': sorted(sys.modules), 'seconds': used.ru_utime + used.ru_stime}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSEDREAMER_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _modules_after(statement: str) -> set[str]:
    return {*_after(statement)["modules"]}  # type: ignore[misc]


def _round(name: str) -> list[str]:
    made = ["control_maps", "dataset", "filtered_dataset", "raw_generations", "sample_scores"]
    return [f"{name}/{asset}" for asset in (made if name == "base" else [*made, "difficulty_model", "hard_samples"])]


def test_the_graph_has_exactly_these_assets() -> None:
    assert sorted(key.to_user_string() for key in GRAPH.get_all_asset_keys()) == sorted(
        [
            *_round("base"),
            *_round("hard"),
            *_round("hard2"),
            "body_model",
            "control_checkpoint",
            "dataset_release",
            "dpo_checkpoint",
            "pocket/detectors",
            "pocket/generator",
            "pocket/pose2d",
            "pocket/scenes",
            "pose_library",
            "preference_pairs",
            "quality_report",
            "rendered_scenes",
        ]
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_graph_has_as_many_rounds_as_the_profile(count: int) -> None:
    found = build(Deployment(), graph(count)).resolve_asset_graph()
    keys = {key.to_user_string() for key in found.get_all_asset_keys()}
    assert keys - {"pocket/detectors", "pocket/generator", "pocket/pose2d", "pocket/scenes"} == {
        stage.key for stage in graph(count)
    }
    groups = {found.get(key).group_name for key in found.get_all_asset_keys()}
    rounds = ["base", "hard", "hard2", "hard3", "hard4"][:count]
    assert groups == {"alignment", "dataset", "pocket_models", "poses", *(f"{name}_round" for name in rounds)}


@named
def test_an_asset_depends_on_what_its_stage_reads(stage: Stage) -> None:
    node = GRAPH.get(dg.AssetKey(stage.key.split("/")))
    read = {
        writer.key
        for reads in stage.reads
        for group in reads.groups or stage.groups
        for writer in STAGES
        if writer.table == reads.table and group in writer.groups
    }
    assert {key.to_user_string() for key in node.parent_keys} == read | {*stage.checkpoints}
    assert node.code_version == stage.version
    assert node.partitions_def == (partition_set(stage.groups) if stage.partitioned else None)


@named
def test_an_asset_states_its_grain_group_and_kinds(stage: Stage) -> None:
    node = GRAPH.get(dg.AssetKey(stage.key.split("/")))
    assert (node.description or "").startswith("One ")
    assert node.group_name != "default"
    assert node.kinds


def test_every_partition_set_has_its_own_name() -> None:
    names = [set_name(groups) for groups in all_groups(graph(4))]
    assert names == ["pose_batches", "align_batches", "base_batches", "hard_batches", "hard2_batches", "hard3_batches"]


def test_the_definitions_are_those_of_the_home_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile("pocket", {"curriculum.rounds": [{"size": 3}, {"size": 3}, {"size": 3}]})
    Home(tmp_path).prepare(profile)
    monkeypatch.setenv("POSEDREAMER_HOME", str(tmp_path))
    monkeypatch.setenv("POSEDREAMER_AUTOMATION", "on")
    found = defs()
    assert dg.AssetKey(["hard3", "dataset"]) in found.resolve_asset_graph().get_all_asset_keys()
    sensors = {sensor.name: sensor.default_status for sensor in found.sensors or ()}
    assert sensors["flow"] == dg.DefaultSensorStatus.RUNNING
    monkeypatch.delenv("POSEDREAMER_AUTOMATION")
    sensors = {sensor.name: sensor.default_status for sensor in defs().sensors or ()}
    assert sensors["flow"] == dg.DefaultSensorStatus.STOPPED


def test_a_run_of_the_command_line_can_be_launched_again_from_the_ui(tmp_path: Path) -> None:
    job = DEFS.resolve_implicit_global_asset_job_def()
    assert dg.validate_run_config(job, run_config(Home(tmp_path)))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_stages_come_after_everything_that_they_read(count: int) -> None:
    seen: set[str] = set()
    for stage in graph(count):
        assert {upstream.key for upstream, _ in graph(count).upstream(stage)} <= seen
        seen.add(stage.key)


HEAVY = {
    "torch", "diffusers", "transformers", "pyrender", "lightgbm", "matplotlib", "great_expectations", "pandas", "lance",
    "onnxruntime", "scipy", "sklearn",
}  # fmt: skip
DEFINITIONS = "import posedreamer_assets.definitions"
BUILT = f"{DEFINITIONS} as d; d.defs().resolve_implicit_global_asset_job_def()"


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    assert not HEAVY & _modules_after(DEFINITIONS)


def test_building_them_imports_nothing_heavy() -> None:
    assert not HEAVY & _modules_after(BUILT)


def test_importing_the_definitions_reads_no_environment_and_no_home() -> None:
    broken = "import os; os.environ['POSEDREAMER_EXECUTOR'] = 'slurm'; os.environ['POSEDREAMER_HOME'] = '/proc/nowhere'"
    _after(f"{broken}\n{DEFINITIONS}")


def test_the_command_line_answers_without_dagster_or_torch() -> None:
    heavy = {"torch", "dagster", "lance", "numpy"}
    assert not heavy & _modules_after("import posedreamer_assets.cli.commands")
