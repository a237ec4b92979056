"""The asset graph as Dagster sees it, and what importing it costs."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from posedreamer_assets.definitions import defs
from posedreamer_assets.defs.local.runner import run_config
from posedreamer_assets.defs.partitions import BY_GROUP
from posedreamer_assets.pipeline.graph import ORDER, STAGES, in_group
from posedreamer_assets.runtime.home import Home

GRAPH = defs.resolve_asset_graph()
DOMAIN = ("body", "cameras", "render", "diffusion", "scoring", "curriculum", "metrics", "export")


def _modules_after(statement: str) -> set[str]:
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_graph_has_exactly_these_assets() -> None:
    assert sorted(key.to_user_string() for key in GRAPH.get_all_asset_keys()) == [
        "base/control_maps",
        "base/filtered_dataset",
        "base/raw_generations",
        "base/sample_scores",
        "body_model",
        "control_checkpoint",
        "dataset",
        "difficulty_model",
        "dpo_checkpoint",
        "hard/control_maps",
        "hard/filtered_dataset",
        "hard/raw_generations",
        "hard/sample_scores",
        "hard_samples",
        "pocket/detectors",
        "pocket/generator",
        "pocket/scenes",
        "pose_library",
        "preference_pairs",
        "quality_report",
        "rendered_scenes",
    ]


@pytest.mark.parametrize("stage", ORDER, ids=lambda stage: stage.key)
def test_an_asset_depends_on_what_its_stage_reads(stage) -> None:
    node = GRAPH.get(dg.AssetKey(stage.key.split("/")))
    read = {*stage.reads, *(name for name, _ in stage.reads_all), *stage.checkpoints}
    assert {key.to_user_string() for key in node.parent_keys} == read
    assert node.code_version == stage.code_version
    assert node.partitions_def == (BY_GROUP[stage.group] if stage.group else None)


@pytest.mark.parametrize("stage", ORDER, ids=lambda stage: stage.key)
def test_an_asset_states_its_grain_group_and_kinds(stage) -> None:
    node = GRAPH.get(dg.AssetKey(stage.key.split("/")))
    assert (node.description or "").startswith("One ")
    assert node.group_name != "default"
    assert node.kinds


def test_a_run_of_the_command_line_can_be_launched_again_from_the_ui(tmp_path: Path) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    assert dg.validate_run_config(job, run_config(Home(tmp_path)))


def test_stages_come_after_everything_that_they_read() -> None:
    seen: set[str] = set()
    for stage in ORDER:
        assert {*stage.reads, *(name for name, _ in stage.reads_all), *stage.checkpoints} <= seen
        seen.add(stage.key)
    assert set(STAGES) == seen


@pytest.mark.parametrize(
    ("key", "groups"),
    [
        ("procedural-0003", {"pose", "base"}),
        ("align-procedural-0000", {"pose", "align"}),
        ("hard-0001", {"hard"}),
        ("hardwood-0001", {"pose", "base"}),
    ],
)
def test_a_key_is_in_the_groups_of_its_prefix(key: str, groups: set[str]) -> None:
    assert {group for group in BY_GROUP if in_group(key, group)} == groups


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    heavy = {"torch", "diffusers", "transformers", "pyrender", "lightgbm", "matplotlib", "great_expectations"}
    assert not heavy & _modules_after("import posedreamer_assets.definitions")


def test_the_command_line_answers_without_dagster_or_torch() -> None:
    heavy = {"torch", "dagster", "lance", "numpy"}
    assert not heavy & _modules_after("import posedreamer_assets.cli.commands")


@pytest.mark.parametrize("package", DOMAIN)
def test_a_domain_package_imports_neither_dagster_nor_lance(package: str) -> None:
    # `export.torch` alone reads tables itself: random access is what it is for.
    walk = (
        f"import importlib, pkgutil, posedreamer_assets.{package} as p\n"
        "names = [m.name for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.')]\n"
        "for name in names: name.endswith('export.torch') or importlib.import_module(name)"
    )
    assert not {"dagster", "lance", "posedreamer_assets.defs", "posedreamer_assets.storage"} & _modules_after(walk)
