"""The benchmark of control training on a GPU, on a CPU with transformers of few blocks; its plan against what these keep."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from posedreamer_assets.diffusion.control_training import ControlTraining, scheme_of
from posedreamer_assets_tests.diffusion.test_memory import Alive

CONFIG = ControlTraining(rank=4, batch_size=2, learning_rate=1e-4, micro_rows=2)
SCHEMES = ("flux", "zimage", "zimage-published")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    place = Path(__file__).parents[2] / "benchmarks" / "gpu_control.py"
    spec = importlib.util.spec_from_file_location("gpu_control", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tiny_networks_take_a_step(benchmark: ModuleType, scheme: str) -> None:
    cfg = replace(CONFIG, gradient_checkpointing=True)
    found = benchmark.measure(scheme, True, 64, cfg, CPU, 1)
    assert found["image_s"] > 0 and found["peak_gb"] == 0.0


def test_the_program_prints_a_row_for_each_setting(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_control", "--tiny", "--plan", "--device", "cpu"])
    benchmark.main()
    first, *rows, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["device"] == "cpu" and last == {"left_out": []}
    assert [(row["scheme"], row["micro_rows"]) for row in rows] == [(s, n) for s in SCHEMES for n in (1, 2)]
    assert all(row["plan_gb"]["sum"] > 0 and "image_s" not in row for row in rows)
    monkeypatch.setattr(sys, "argv", ["gpu_control", "--tiny", "--plan", "--minutes", "-1", "--schemes", "flux"])
    benchmark.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"left_out": ["flux 64 1", "flux 64 2"]}


def test_what_does_not_fit_is_told(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(benchmark.RandomZImage, "velocity", full)
    with pytest.raises(torch.OutOfMemoryError):
        benchmark.measure("zimage", True, 64, CONFIG, CPU, 1)


def prepared(benchmark: ModuleType, scheme: str) -> tuple[Any, Any, tuple[Any, ...]]:
    """A generator with weights in bfloat16, what of it learns, and what two images are seen as."""
    torch.manual_seed(0)
    generator = benchmark.generator_of(scheme, True, 64, CPU, torch.bfloat16)
    learns = scheme_of(generator, CONFIG)
    tokens = torch.randn(2, 16, 64)
    return generator, learns, (tokens, tokens, generator.encode_captions(["a", "b"]), torch.rand(2))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_plan_is_what_a_real_training_holds(benchmark: ModuleType, scheme: str) -> None:
    plan = benchmark.planned(scheme, True, 64, CONFIG)
    generator, learns, seen = prepared(benchmark, scheme)
    every = {p.data_ptr(): p for network in learns.networks for p in network.parameters()}.values()
    assert plan["frozen"] * 1e9 == pytest.approx(sum(2 * p.numel() for p in every if not p.requires_grad))
    trained = sum(p.numel() for p in learns.parameters)
    assert plan["trained"] * 1e9 == pytest.approx(20 * trained)
    assert plan["copies"] * 1e9 == pytest.approx(0 if scheme == "flux" else 2 * trained)
    assert plan["sum"] == pytest.approx(sum(plan[name] for name in ("frozen", "trained", "copies", "activations")))
    weights, kept = {p.untyped_storage().data_ptr() for p in every}, dict[int, Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        generator.velocity(*seen)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    # Of the first products of a ControlNet, whose inputs learn nothing, no copy of the weights is kept.
    assert real == pytest.approx((plan["activations"] + plan["copies"]) * 1e9, rel=0.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_checkpointing_keeps_less_and_a_real_step_no_less_than_that(benchmark: ModuleType, scheme: str) -> None:
    plain, again = (
        benchmark.planned(scheme, True, 64, replace(CONFIG, gradient_checkpointing=on))["activations"]
        for on in (False, True)
    )
    assert again < plain
    generator, learns, seen = prepared(benchmark, scheme)
    for network in learns.networks:
        network.enable_gradient_checkpointing()
    alive = Alive()
    alive.known |= {p.untyped_storage()._cdata for network in learns.networks for p in network.parameters()}
    with alive:
        torch.autograd.grad(generator.velocity(*seen).square().mean(), learns.parameters)
    assert alive.peak > again * 1e9
