"""Training of large networks: less memory, the same adapter; and a training that is killed goes on."""

import importlib.util
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig
from posedreamer_assets.diffusion.adapters import read_adapter
from posedreamer_assets.diffusion.dpo import DpoTrainer, train_dpo
from posedreamer_assets.diffusion.flux import FluxGenerator
from posedreamer_assets.diffusion.frugal import fast_products, parked, set_checkpointing
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.training.resume import read_state
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs, tiny_config
from posedreamer_assets_tests.diffusion.production import save_tiny_control_lora, save_tiny_flux

CONFIG = AlignmentConfig(
    batch_size=5, steps=6, max_epochs=100.0, eval_every=3, lora_rank=2, learning_rate=5e-3, save_every=1
)


def disc_pairs(n: int = 8) -> PairData:
    images, controls, captions = draw_discs(n)
    return PairData.of_images(controls, images, 255 - images, captions, np.arange(n) < 2)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> FluxGenerator:
    folder = tmp_path_factory.mktemp("flux")
    save_tiny_flux(folder / "base")
    lora = save_tiny_control_lora(folder / "base", folder / "control")
    cfg = GeneratorConfig("flux", str(folder / "base"), str(lora), steps=2, guidance=3.5, device="cpu", dtype="float32")
    return cast(FluxGenerator, load_generator(cfg, IMAGE))


def gradients(flux: FluxGenerator, cfg: AlignmentConfig, folder: Path) -> list[torch.Tensor]:
    """Of a step of an adapter that changes something: half of a fresh one's gradients are zero."""
    trainer = DpoTrainer(disc_pairs(), flux, cfg, 0, folder)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    trainer.step(1)
    found = [p.grad.clone() for p in trainer.parameters if p.grad is not None]
    set_checkpointing(flux.network, False)
    flux.adapter.clear()
    return found


@pytest.mark.parametrize(
    "changes",
    [{"gradient_checkpointing": True}, {"micro_pairs": 1}, {"micro_pairs": 2, "gradient_checkpointing": True}],
)
def test_less_memory_gives_the_same_gradients(changes: dict[str, Any], flux: FluxGenerator, tmp_path: Path) -> None:
    whole = replace(CONFIG, half_images=False)
    plain = gradients(flux, whole, tmp_path)
    frugal = gradients(flux, replace(whole, **changes), tmp_path)
    assert max(g.abs().max() for g in plain) > 1e-4
    for a, b in zip(plain, frugal, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # sums of float32 in another order


def test_checkpointing_computes_again_and_is_off_afterwards(flux: FluxGenerator, tmp_path: Path) -> None:
    calls = []
    block = flux.transformer.transformer_blocks[0]
    hook = block.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    again = replace(CONFIG, gradient_checkpointing=True, batch_size=6, half_images=False)
    trainer = DpoTrainer(disc_pairs(), flux, again, 0, tmp_path)
    trainer.step(1)
    hook.remove()
    flux.adapter.clear()
    set_checkpointing(flux.network, False)
    assert len(calls) == 3, "the reference, the policy, and the policy again"
    train_dpo(disc_pairs(), flux, replace(CONFIG, steps=1, gradient_checkpointing=True), 0, tmp_path)
    assert not flux.transformer.is_gradient_checkpointing


def test_a_network_that_cannot_compute_again_is_named() -> None:
    with pytest.raises(AlignmentError, match="gradient_checkpointing: Linear cannot"):
        set_checkpointing(torch.nn.Linear(1, 1), True)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_missing_optimizer_is_named(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    with pytest.raises(AlignmentError, match="adamw8bit needs bitsandbytes"):
        train_dpo(disc_pairs(), tiny_generator, replace(CONFIG, optimizer="adamw8bit"), 0, tmp_path)
    assert "dpo" not in getattr(tiny_generator.network, "peft_config", {})


def test_an_8_bit_optimizer_is_given_the_same_rate(
    monkeypatch: pytest.MonkeyPatch, tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    made = []

    def adamw8bit(parameters: Any, **options: Any) -> torch.optim.Optimizer:
        made.append(options)
        return torch.optim.AdamW(parameters, **options)

    stand_in = SimpleNamespace(optim=SimpleNamespace(AdamW8bit=adamw8bit))
    monkeypatch.setitem(sys.modules, "bitsandbytes", cast(Any, stand_in))
    train_dpo(disc_pairs(), tiny_generator, replace(CONFIG, optimizer="adamw8bit", steps=1), 0, tmp_path)
    assert made == [{"lr": CONFIG.learning_rate, "weight_decay": 0.01}]


class Moved(torch.nn.Module):
    """Notes where it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def to(self, place: Any) -> "Moved":  # type: ignore[override]
        self.places.append(str(place))
        return self


def test_what_is_not_trained_steps_aside_on_a_gpu_alone() -> None:
    for device, places in (("xpu", ["cpu", "xpu"]), ("cpu", [])):
        parts = {"transformer": Moved(), "vae": Moved(), "text_encoder": Moved(), "scheduler": object()}
        pipeline, trained = SimpleNamespace(components=parts), cast(Moved, parts["transformer"])
        with parked(pipeline, trained, torch.device(device)):
            assert cast(Any, parts["vae"]).places == places[:1]
        assert cast(Any, parts["vae"]).places == cast(Any, parts["text_encoder"]).places == places
        assert cast(Any, parts["transformer"]).places == []


def test_a_network_that_was_aside_comes_for_its_training_and_leaves_before_the_others_return() -> None:
    parts = {"transformer": Moved(), "text_encoder": Moved()}
    trained, text = parts["transformer"], parts["text_encoder"]
    trained.weight = torch.nn.Parameter(torch.zeros(1))  # on the CPU
    with parked(SimpleNamespace(components=parts), trained, torch.device("xpu")):
        assert (trained.places, text.places) == (["xpu"], ["cpu"])
    assert (trained.places, text.places) == (["xpu", "cpu"], ["cpu", "xpu"])


def test_tf32_is_for_nvidia_gpus_and_for_the_training_alone() -> None:
    before = torch.get_float32_matmul_precision()
    with fast_products(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    with fast_products(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before == "highest"


KILLED = """
import sys
from pathlib import Path
from posedreamer_assets.diffusion.dpo import train_dpo
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets_tests.diffusion.conftest import IMAGE, tiny_config
from posedreamer_assets_tests.diffusion.test_frugal import CONFIG, disc_pairs
model, folder = Path(sys.argv[1]), Path(sys.argv[2])
generator = PocketGenerator.load(tiny_config(model), IMAGE)
import posedreamer_assets.diffusion.dpo as dpo
step = dpo.DpoTrainer.step
def slow(self, number):
    if number == 5:
        print("at step 5", flush=True)
        import time; time.sleep(600)
    return step(self, number)
dpo.DpoTrainer.step = slow
train_dpo(disc_pairs(), generator, CONFIG, 3, folder / "out", work=folder)
"""


def test_a_killed_training_goes_on_to_the_same_adapter(
    tiny_folder: Path, tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    whole = train_dpo(disc_pairs(), tiny_generator, CONFIG, 3, tmp_path / "whole")
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-c", KILLED, str(tiny_folder), str(work)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "at step 5\n"
        child.send_signal(signal.SIGKILL)
    assert read_state(work / "state.pt")["course"]["step"] == 4
    again = PocketGenerator.load(tiny_config(tiny_folder), IMAGE)
    done = []
    step = DpoTrainer.step

    def noted(self: DpoTrainer, number: int) -> dict[str, float]:
        done.append(number)
        return step(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DpoTrainer, "step", noted)
        resumed = train_dpo(disc_pairs(), again, CONFIG, 3, tmp_path / "resumed", work=work)
        assert done == [5, 6]
        assert resumed.steps == whole.steps and resumed.validations == whole.validations
        assert resumed.adapter_path.read_bytes() == whole.adapter_path.read_bytes()
        train_dpo(disc_pairs(), again, CONFIG, 4, tmp_path / "other", work=work)
        assert done == [5, 6, 1, 2, 3, 4, 5, 6], "a state of another seed is not taken up"


def test_a_training_that_starts_from_an_adapter_measures_against_it(
    tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    longer = replace(CONFIG, steps=16, eval_every=4)
    first = train_dpo(disc_pairs(), tiny_generator, longer, 0, tmp_path / "first")
    assert first.best_step > 0
    second = train_dpo(disc_pairs(), tiny_generator, CONFIG, 1, tmp_path / "second", start=first.adapter_path)
    assert second.validations[0]["margin"] == 0.0, "the reference is what training begins with"
    error = "policy_winner_error"
    assert second.validations[0][error] != first.validations[0][error]
    assert second.validations[0][error] == second.validations[-1]["reference_winner_error"]
    kept, _ = read_adapter(tmp_path / "first" / "pytorch_lora_weights.safetensors")
    nothing = train_dpo(
        disc_pairs(),
        tiny_generator,
        replace(CONFIG, learning_rate=0.0),
        1,
        tmp_path / "third",
        start=first.adapter_path,
    )
    same, _ = read_adapter(nothing.adapter_path)
    assert all(torch.equal(value, same[name]) for name, value in kept.items())
