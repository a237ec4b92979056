"""The benchmark of painting on a GPU, on a CPU with transformers of two blocks."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from posedreamer_assets.config import ImageConfig, load_profile


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    place = Path(__file__).parents[2] / "benchmarks" / "gpu_generate.py"
    spec = importlib.util.spec_from_file_location("gpu_generate", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("backend", ["flux", "zimage"])
def test_tiny_networks_paint_in_full_precision_and_in_fp8(benchmark: ModuleType, backend: str) -> None:
    cfg = replace(load_profile(backend).generator, device="cpu", dtype="float32", steps=1, bake=True)
    rows = [
        benchmark.report(replace(cfg, precision=p), ImageConfig(64, 64), [1, 2], True, False) for p in ("bf16", "fp8")
    ]
    for row in rows:
        assert [block["block"] for block in row["blocks"]] == [1, 2]
        assert all(block["image_s"] > 0 and block["peak_gb"] == 0.0 for block in row["blocks"])
    assert rows[1]["weights_gb"] < 0.8 * rows[0]["weights_gb"]
    assert "error" not in rows[0]


def test_the_plan_counts_the_networks_that_are_measured(benchmark: ModuleType) -> None:
    meta = torch.device("meta")
    for backend in ("flux", "zimage"):
        cfg = replace(load_profile(backend).generator, bake=True)
        planned = benchmark.planned(cfg, ImageConfig(512, 512), 4)
        pipeline = benchmark.pipeline_of(backend, False, torch.bfloat16, meta)
        parts = [pipeline.transformer, *([pipeline.controlnet] if backend == "zimage" else [])]
        count = sum(p.numel() for p in {id(p): p for part in parts for p in part.parameters()}.values())
        assert planned["weights_gb"] == pytest.approx(2 * count / 1e9, abs=0.03)
        assert planned["peak_gb"] > planned["weights_gb"] + 0.16
