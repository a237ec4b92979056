"""Training of a control LoRA, on small checkpoints in FLUX.1-dev's layout and of the pocket generator without its control."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.diffusion.control_training import (
    ControlData,
    ControlGenerator,
    ControlLoss,
    ControlTrainer,
    ControlTraining,
    Pixels,
    Rows,
    train_control,
)
from posedreamer_assets.diffusion.flux import CONTROL_ADAPTER, FluxGenerator
from posedreamer_assets.diffusion.generator import load_base, load_generator
from posedreamer_assets.diffusion.gradients import MOST_NORM, sum_gradients
from posedreamer_assets.errors import BackendError, ControlTrainingError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs, tiny_config
from posedreamer_assets_tests.diffusion.production import save_tiny_flux, without_control

CFG = ControlTraining(steps=6, batch_size=4, rank=4, learning_rate=1e-2, warmup_steps=2, save_every=2)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, GeneratorConfig]:
    folder = tmp_path_factory.mktemp("bases")
    save_tiny_flux(folder / "flux")
    shutil.copytree(tiny_folder, folder / "pocket")
    without_control(folder / "pocket")
    flux = GeneratorConfig(
        backend="flux", model_path=str(folder / "flux"), steps=2, guidance=3.5, device="cpu", dtype="float32"
    )
    return {"flux": flux, "pocket": tiny_config(folder / "pocket")}


def discs(count: int, stop_after: int | None = None) -> ControlData:
    """Every fourth is held out; reading fails after so many batches."""
    images, controls, captions = draw_discs(count)
    reads = 0

    def read(numbers: np.ndarray) -> Pixels:
        nonlocal reads
        reads += 1
        if stop_after is not None and reads > stop_after:
            raise KeyboardInterrupt
        return Pixels(images[numbers], controls[numbers])

    return ControlData(captions, np.arange(count) % 4 == 3, read)


def velocity(generator: ControlGenerator, control: np.ndarray) -> torch.Tensor:
    image, _, captions = draw_discs(1)
    noisy = generator.encode_image(image[0])[None].float()
    with torch.no_grad():
        told: Any = generator.encode_captions(captions)
        return generator.velocity(noisy, generator.encode_controls(control), told, torch.tensor([0.7]))


@pytest.mark.parametrize("kind", ["flux", "pocket"])
def test_a_fresh_lora_changes_nothing_and_sees_no_control(kind: str, bases: dict[str, GeneratorConfig]) -> None:
    generator = load_base(bases[kind], IMAGE)
    _, controls, _ = draw_discs(2)
    before = velocity(generator, controls[:1])
    ControlTrainer(discs(8), generator, CFG)
    for control in (controls[:1], controls[1:], np.zeros_like(controls[:1])):
        torch.testing.assert_close(velocity(generator, control), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["flux", "pocket"])
def test_what_is_trained_is_what_a_generator_then_loads(
    kind: str, bases: dict[str, GeneratorConfig], tmp_path: Path
) -> None:
    generator = load_base(bases[kind], IMAGE)
    result = train_control(discs(8), generator, CFG, tmp_path)
    assert result.file.is_file() and result.loss_after != result.loss_before
    loaded = load_generator(replace(bases[kind], control_lora_path=str(tmp_path)), IMAGE)
    assert isinstance(loaded, FluxGenerator) and loaded.digest != generator.digest
    _, controls, captions = draw_discs(2)
    seen = [velocity(loaded, controls[i : i + 1]) for i in range(2)]
    assert not torch.allclose(seen[0], seen[1], atol=1e-4), "the control has an effect"
    torch.testing.assert_close(seen[0], velocity(generator, controls[:1]), rtol=0, atol=1e-6)
    painted = loaded.generate(controls, captions, [1, 2])
    assert np.array_equal(painted, generator.generate(controls, captions, [1, 2]))


@pytest.mark.slow
def test_control_arrives(bases: dict[str, GeneratorConfig], tmp_path: Path) -> None:
    """Held-out images are told better with their own control image than with another one's, after training alone."""
    data = discs(256)
    generator = load_base(bases["pocket"], IMAGE)
    cfg = ControlTraining(steps=250, batch_size=16, rank=16, learning_rate=2e-2, warmup_steps=10, black_share=0.0)
    result = train_control(data, generator, cfg, tmp_path)
    assert result.loss_after < 0.5 * result.loss_before
    images, controls, captions = draw_discs(256)
    shuffled = ControlData(captions, data.held_out, lambda n: Pixels(images[n], controls[(n + 4) % 256]))
    same = load_generator(replace(bases["pocket"], control_lora_path=str(tmp_path)), IMAGE)
    assert isinstance(same, FluxGenerator)
    own = ControlLoss(data, same, cfg).held_out()
    assert own == pytest.approx(result.loss_after, rel=1e-4)
    assert own < 0.95 * ControlLoss(shuffled, same, cfg).held_out()


def test_a_step_goes_down_the_gradient_of_the_whole_batch(bases: dict[str, GeneratorConfig]) -> None:
    """Parts on several cores add up to the mean over the batch, as a plain loop has it."""
    generator = load_base(bases["pocket"], IMAGE)
    cfg = replace(CFG, batch_size=11)
    trainer = ControlTrainer(discs(16), generator, cfg)
    loss, black = trainer.loss, np.zeros(11, bool)
    with torch.no_grad():
        for parameter in trainer.parameters:
            parameter.add_(0.05)
    rows = loss.rows(np.arange(11), torch.linspace(0.1, 0.9, 11), torch.Generator().manual_seed(3), black)
    total = torch.zeros(())
    for i in range(11):
        one = rows.part(slice(i, i + 1))
        noisy = one.images + one.sigma[:, None, None] * (one.noise - one.images)
        error = generator.velocity(noisy, one.controls, one.captions, one.sigma) - (one.noise - one.images)
        weight = 1 + cfg.body_weight * one.body
        total = total + (weight * error.square().mean(2)).sum() / weight.sum() / 11
    expected = torch.autograd.grad(total, trainer.parameters)
    clipped = max(1.0, float(torch.cat([one.flatten() for one in expected]).norm()) / MOST_NORM)

    def differentiate(part: Rows) -> tuple[float, tuple[torch.Tensor, ...]]:
        mean = loss.errors(part).sum() / 11
        return mean.item(), torch.autograd.grad(mean, trainer.parameters)

    found = sum_gradients(differentiate, loss.parts(rows), trainer.parameters, cores=2)
    assert sum(found) == pytest.approx(total.item(), rel=1e-5) and len(found) == 2
    for parameter, one in zip(trainer.parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, one / clipped, rtol=1e-3, atol=1e-7)


def test_a_stopped_training_goes_on_to_the_same_lora(bases: dict[str, GeneratorConfig], tmp_path: Path) -> None:
    whole = train_control(discs(12), load_base(bases["pocket"], IMAGE), CFG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_control(discs(12, stop_after=6), load_base(bases["pocket"], IMAGE), CFG, tmp_path / "stopped")
    again = train_control(discs(12), load_base(bases["pocket"], IMAGE), CFG, tmp_path / "stopped")
    assert again.file.read_bytes() == whole.file.read_bytes()
    assert (again.loss_before, again.loss_after) == (whole.loss_before, whole.loss_after)
    with pytest.raises(ControlTrainingError, match="another training"):
        train_control(discs(12), load_base(bases["pocket"], IMAGE), replace(CFG, rank=2), tmp_path / "stopped")


def test_gradient_checkpointing_changes_nothing(bases: dict[str, GeneratorConfig], tmp_path: Path) -> None:
    plain = train_control(discs(8), load_base(bases["flux"], IMAGE), CFG, tmp_path / "plain")
    cfg = replace(CFG, gradient_checkpointing=True)
    saving = train_control(discs(8), load_base(bases["flux"], IMAGE), cfg, tmp_path / "saving")
    assert saving.loss_after == pytest.approx(plain.loss_after, rel=1e-4)


def test_what_cannot_be_trained_is_named(bases: dict[str, GeneratorConfig], tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="sees no control image yet"):
        load_base(tiny_config(tiny_folder), IMAGE)
    with pytest.raises(BackendError, match=r"give generator\.control_lora_path"):
        load_generator(bases["pocket"], IMAGE)
    with pytest.raises(BackendError, match="trained for flux, pocket and zimage alone"):
        load_base(GeneratorConfig(backend="sdxl", model_path="x"), IMAGE)
    nothing = ControlData(["a"], np.array([False]), lambda n: Pixels(*np.zeros((2, 1, 32, 32, 3), np.uint8)))
    with pytest.raises(ControlTrainingError, match="no images held out"):
        train_control(nothing, load_base(bases["pocket"], IMAGE), CFG, tmp_path)


def test_the_lora_is_the_only_thing_trained(bases: dict[str, GeneratorConfig], tmp_path: Path) -> None:
    generator = load_base(bases["flux"], IMAGE)
    before = {name: value.clone() for name, value in generator.network.state_dict().items()}
    train_control(discs(8), generator, CFG, tmp_path)
    after = {name.replace(".base_layer", ""): value for name, value in generator.network.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(f".{CONTROL_ADAPTER}." in name for name in after)
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())
