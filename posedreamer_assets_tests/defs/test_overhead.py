"""The plain loop that the graph's overhead is measured against does the work of every stage."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets_tests.diffusion.conftest import save_tiny_parts
from posedreamer_assets_tests.runtime.small import SMALL

pytestmark = pytest.mark.slow


def benchmark() -> ModuleType:
    place = Path(__file__).parents[2] / "benchmarks" / "orchestration_overhead.py"
    spec = importlib.util.spec_from_file_location("orchestration_overhead", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loop_makes_every_stage_and_every_partition_of_it(tmp_path: Path) -> None:
    save_tiny_parts(tmp_path / "generator")
    profile = load_profile("pocket", {**SMALL, "generator.model_path": str(tmp_path / "generator")})
    loop = benchmark().Loop(profile, tmp_path / "plain")
    loop.run()
    graph = graph_of(profile)
    assert list(loop.seconds) == [stage.key for stage in graph]
    planned: dict[str, set[str]] = {}
    for stage in graph:
        if stage.table is not None:
            planned.setdefault(stage.table, set()).update(planned_keys(profile, stage.groups))
    assert {table: {*rows} for table, rows in loop.tables.items()} == planned
    kept = loop.rows("dataset", sorted(loop.tables["dataset"]), SCHEMAS["dataset"].names)
    assert kept.num_rows == 2 * 9 + 2 + 2  # two base batches, and two of every later round
