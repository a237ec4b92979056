"""The benchmark of students that see images, on a CPU with a transformer of two layers."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from posedreamer_assets.students.vit import ViTStudent
from posedreamer_assets_tests.students.test_train_images import SPEC


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    place = Path(__file__).parents[2] / "benchmarks" / "gpu_students.py"
    spec = importlib.util.spec_from_file_location("gpu_students", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("train_backbone", [True, False])
def test_steps_are_timed(benchmark: ModuleType, train_backbone: bool) -> None:
    found = benchmark.measure(replace(SPEC, train_backbone=train_backbone), 1)
    assert found["step_s"] > 0 and found["step_alone_s"] > 0 and found["peak_gb"] == 0.0
    assert found["images_s"] == pytest.approx(SPEC.batch_size / found["step_s"])


def test_the_plan_adds_up(benchmark: ModuleType) -> None:
    found, frozen = (benchmark.plan(replace(SPEC, train_backbone=on)) for on in (True, False))
    student = ViTStudent("vit-tiny", SPEC.image_size)
    backbone, decoder = (sum(p.numel() for p in part.parameters()) for part in (student.backbone, student.decoder))
    assert found["weights"] * 1e9 == pytest.approx(20 * (backbone + decoder))
    assert frozen["weights"] * 1e9 == pytest.approx(8 * backbone + 20 * decoder)
    assert found["sum"] == pytest.approx(found["weights"] + found["activations"])
    assert frozen["activations"] < 0.5 * found["activations"], "nothing of a frozen backbone is kept"
    twice = benchmark.plan(replace(SPEC, batch_size=2 * SPEC.batch_size))
    assert 1.5 < twice["activations"] / found["activations"] < 2 + 1e-9
