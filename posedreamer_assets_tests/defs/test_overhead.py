"""The plain loop that the graph's overhead is measured against does the work of every stage."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from posedreamer_assets.pipeline.graph import ORDER, planned_keys

from posedreamer_assets.config import load_profile
from posedreamer_assets.tables.fields import DATASET
from posedreamer_assets_tests.diffusion.conftest import save_tiny_parts
from posedreamer_assets_tests.runtime.test_unchanged import SMALL

pytestmark = pytest.mark.slow


def benchmark() -> ModuleType:
    place = Path(__file__).parents[1] / "benchmarks" / "orchestration_overhead.py"
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
    assert {*loop.seconds, "body_model"} == {stage.key for stage in ORDER}
    assert {stage: sorted(rows) for stage, rows in loop.rows.items()} == {
        stage.key: sorted(planned_keys(profile, stage.group)) for stage in ORDER if stage.group
    }
    kept = loop.dataset()
    assert kept.schema.names == DATASET.names and kept.num_rows == 2 * 9 + 2
