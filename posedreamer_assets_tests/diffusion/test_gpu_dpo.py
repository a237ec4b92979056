"""The benchmark of Flow-DPO on a GPU, on a CPU with a transformer of two blocks."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from posedreamer_assets.config import AlignmentConfig

CONFIG = AlignmentConfig(
    lora_rank=4, batch_size=2, half_images=False, max_epochs=1e9, micro_pairs=1, gradient_checkpointing=True
)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    place = Path(__file__).parents[2] / "benchmarks" / "gpu_dpo.py"
    spec = importlib.util.spec_from_file_location("gpu_dpo", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tiny_transformer_takes_a_step(benchmark: ModuleType) -> None:
    found = benchmark.measure(benchmark.TINY, 64, CONFIG, torch.device("cpu"), 1)
    assert found["step_s"] > 0 and found["peak_gb"] == 0.0


def test_what_does_not_fit_is_told(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(benchmark.RandomFlux, "velocity", full)
    with pytest.raises(torch.OutOfMemoryError):
        benchmark.measure(benchmark.TINY, 64, replace(CONFIG, micro_pairs=2), torch.device("cpu"), 1)


def test_the_plan_adds_up(benchmark: ModuleType) -> None:
    found = benchmark.planned(benchmark.TINY, 64, CONFIG)
    model = benchmark.RandomFlux(benchmark.TINY, 64, torch.device("meta"), torch.bfloat16)
    assert found["network"] * 1e9 == pytest.approx(2 * sum(p.numel() for p in model.network.parameters()))
    # to_q, to_k, to_v of both blocks and to_out of the first, each 256 x 4 and 4 x 256, 20 bytes a weight
    assert found["adapter"] * 1e9 == pytest.approx(7 * 2 * 256 * 4 * 20)
    assert found["sum"] == pytest.approx(found["network"] + found["adapter"] + found["activations"])
    light = benchmark.planned(benchmark.TINY, 64, replace(CONFIG, optimizer="adamw8bit"))
    assert light["adapter"] * 1e9 == pytest.approx(7 * 2 * 256 * 4 * 14)


def test_what_autograd_keeps_grows_with_pairs_and_blocks_and_checkpointing_keeps_less(benchmark: ModuleType) -> None:
    whole = replace(CONFIG, gradient_checkpointing=False)
    one, two = (
        benchmark.planned(benchmark.TINY, 64, replace(whole, micro_pairs=pairs))["activations"] for pairs in (1, 2)
    )
    assert 1.8 < two / one <= 2.0, "all but the rotary embedding is of each image"
    deep = {**benchmark.TINY, "num_layers": 4, "num_single_layers": 4}
    assert benchmark.planned(deep, 64, whole)["activations"] > 3 * one
    kept, again = (benchmark.planned(deep, 64, replace(CONFIG, gradient_checkpointing=on)) for on in (False, True))
    assert again["activations"] < 0.5 * kept["activations"]
