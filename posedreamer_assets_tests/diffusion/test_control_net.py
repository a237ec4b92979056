"""Training of a ControlNet, on a small checkpoint in Z-Image's layout."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ZImageControlNetModel
from safetensors.torch import load_file

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.diffusion.control_net import FOLDER, OWN
from posedreamer_assets.diffusion.control_training import ControlLoss, ControlTrainer, ControlTraining, train_control
from posedreamer_assets.diffusion.generator import load_base, load_generator
from posedreamer_assets.diffusion.networks import pack_latents, unpack_latents
from posedreamer_assets.diffusion.zimage import ZImageGenerator
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import BackendError, ControlTrainingError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import WIDTH
from posedreamer_assets_tests.diffusion.production_zimage import fill, save_tiny_zimage
from posedreamer_assets_tests.diffusion.test_control_training import discs

CFG = ControlTraining(steps=6, batch_size=4, learning_rate=1e-2, warmup_steps=2, save_every=2)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GeneratorConfig:
    folder = tmp_path_factory.mktemp("zimage")
    save_tiny_zimage(folder)
    return GeneratorConfig(
        backend="zimage", model_path=str(folder), steps=2, guidance=0.0, device="cpu", dtype="float32"
    )


def base_of(cfg: GeneratorConfig) -> ZImageGenerator:
    generator = load_base(cfg, IMAGE)
    assert isinstance(generator, ZImageGenerator)
    return generator


def digest_of(network: Any) -> str:
    return digest({name: value.float().numpy() for name, value in network.state_dict().items()})


def stir(generator: ZImageGenerator) -> None:
    """An effect for the control image."""
    torch.manual_seed(2)
    fill(generator.controlnet)


@torch.no_grad()
def velocity(generator: ZImageGenerator, control: np.ndarray) -> torch.Tensor:
    image, _, captions = draw_discs(1)
    noisy, shown = generator.encode_image(image[0])[None].float(), generator.encode_controls(control).float()
    return generator.velocity(noisy, shown, generator.encode_captions(captions), torch.tensor([0.7]))


@torch.no_grad()
def test_a_fresh_controlnet_changes_nothing_and_sees_no_control(config: GeneratorConfig) -> None:
    """The oracle is the transformer without any."""
    generator = base_of(config)
    image, controls, captions = draw_discs(2)
    rows, columns = generator.token_grid
    latents = unpack_latents(generator.encode_image(image[0])[None], 2 * rows, 2 * columns)[:, :, None]
    alone = generator.pipeline.transformer([latents[0]], torch.tensor([0.3]), *generator.encode_captions(captions[:1]))
    for control in (controls[:1], controls[1:], np.zeros_like(controls[:1])):
        found = unpack_latents(velocity(generator, control), 2 * rows, 2 * columns)
        torch.testing.assert_close(found, -alone.sample[0][:, 0][None], rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_velocities_are_those_that_the_pipeline_paints_along(config: GeneratorConfig, strength: float) -> None:
    """Steps by hand down its noise levels end at the picture of diffusers' own loop."""
    generator = base_of(replace(config, control_strength=strength))
    stir(generator)
    _, controls, captions = draw_discs(2)
    painted = generator.generate(controls, captions, [4, 5])
    rows, columns = generator.token_grid
    for i in range(2):
        noise = torch.randn((1, 4, 2 * rows, 2 * columns), generator=torch.Generator().manual_seed(4 + i))
        tokens, shown = pack_latents(noise), generator.encode_controls(controls[i : i + 1])
        for now, later in pairwise(_sigmas(generator)):
            moving = generator.velocity(tokens, shown, generator.encode_captions(captions[i : i + 1]), now[None])
            tokens = tokens + (later - now) * moving
        latents = unpack_latents(tokens, 2 * rows, 2 * columns)
        scale, shift = generator.vae.config["scaling_factor"], generator.vae.config["shift_factor"]
        picture: Any = generator.vae.decode(latents / scale + shift, return_dict=False)[0]
        pixels = ((picture[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(pixels - painted[i].astype(float)).max() <= 1


def _sigmas(generator: ZImageGenerator) -> torch.Tensor:
    """The scheduler's levels for two steps, shifted as its file says, and no noise at the end."""
    shift = generator.pipeline.scheduler.config["shift"]
    even = torch.tensor([1.0, 0.5])
    return torch.cat([shift * even / (1 + (shift - 1) * even), torch.zeros(1)])


def test_the_loss_is_flow_matching_written_out(config: GeneratorConfig) -> None:
    """With the transformer and the ControlNet asked as diffusers' pipeline does, one image at a time."""
    generator = base_of(config)
    stir(generator)
    loss = ControlLoss(discs(8), generator, CFG)
    black = np.array([False, True, False])
    rows = loss.rows(np.arange(3), torch.tensor([0.2, 0.5, 0.9]), torch.Generator().manual_seed(3), black)
    images, controls, captions = draw_discs(8)
    height, width = (2 * side for side in generator.token_grid)
    with torch.no_grad():
        found = loss.errors(rows)
        for i, sigma in enumerate((0.2, 0.5, 0.9)):
            shown = controls[i] * 0 if black[i] else controls[i]
            x0, control = (_encoded(generator, one) for one in (images[i], shown))
            noise = unpack_latents(rows.noise[i : i + 1], height, width)[0]
            noisy, time = (1 - sigma) * x0 + sigma * noise, torch.tensor([1 - sigma])
            told = list(generator.pipeline.encode_prompt([captions[i]], "cpu", do_classifier_free_guidance=False)[0])
            hints = generator.controlnet([noisy[:, None]], time, told, [control[:, None]])
            predicted: Any = generator.pipeline.transformer(
                [noisy[:, None]], time, told, controlnet_block_samples=hints
            )
            squares = (predicted.sample[0][:, 0] - (x0 - noise)).square().mean(0)  # Z-Image points from noise to image
            squares = squares.view(height // 2, 2, width // 2, 2).mean((1, 3))
            body = torch.from_numpy(controls[i].any(-1)).float().view(height // 2, 4, width // 2, 4).mean((1, 3))
            weight = 1 + CFG.body_weight * body
            assert found[i].item() == pytest.approx(((weight * squares).sum() / weight.sum()).item(), rel=1e-4)


def _encoded(generator: ZImageGenerator, image: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    mode: Any = generator.vae.encode(pixels)
    vae = generator.vae.config
    return (mode.latent_dist.mode()[0] - vae["shift_factor"]) * vae["scaling_factor"]


def test_four_pairs_are_learnt_by_heart_and_nothing_but_the_controlnet_is_trained(
    config: GeneratorConfig, tmp_path: Path
) -> None:
    generator = base_of(config)
    base, data = digest_of(generator.network), discs(5)
    generator.embed_ahead(data.captions)  # most of a step's time is the text encoder's here
    cfg = replace(CFG, steps=60, learning_rate=2e-2, black_share=0.0, noise_mean=0.0, noise_std=1.0)
    result = train_control(data, generator, cfg, tmp_path)
    assert digest_of(generator.network) == base
    assert not any(one.requires_grad for one in (*generator.network.parameters(), *generator.controlnet.parameters()))
    fresh = ControlLoss(data, base_of(config), cfg)
    own, before = (_mean_loss(one) for one in (ControlLoss(data, generator, cfg), fresh))
    assert own < 0.7 * before
    _, controls, captions = draw_discs(5)
    same = generator.generate(controls[:1], captions[:1], [1]).astype(int)
    other = generator.generate(controls[1:2], captions[:1], [1]).astype(int)
    assert np.abs(same - other).max() > 10, "the control image has an effect"
    written = load_file(result.file / WEIGHTS)
    assert written and all(name.startswith(OWN) for name in written), "what it shares is written with the base"


@torch.no_grad()
def _mean_loss(loss: ControlLoss) -> float:
    levels = (torch.arange(12) + 0.5) / 12
    found = [
        loss.errors(loss.rows(np.arange(3), level.repeat(3), torch.Generator().manual_seed(9), np.zeros(3, bool)))
        for level in levels
    ]
    return float(torch.stack(found).mean())


def test_what_is_trained_is_what_the_backend_then_loads(config: GeneratorConfig, tmp_path: Path) -> None:
    generator = base_of(config)
    result = train_control(discs(8), generator, CFG, tmp_path)
    assert result.file == tmp_path / FOLDER and result.loss_after != result.loss_before
    loaded = load_generator(replace(config, control_lora_path=str(result.file)), IMAGE)
    assert isinstance(loaded, ZImageGenerator) and loaded.digest != generator.digest
    _, controls, captions = draw_discs(2)
    assert not torch.equal(velocity(loaded, controls[:1]), velocity(loaded, controls[1:]))
    painted = loaded.generate(controls, captions, [1, 2])
    assert np.array_equal(painted, generator.generate(controls, captions, [1, 2]))
    assert not np.array_equal(painted, base_of(config).generate(controls, captions, [1, 2]))


def test_a_controlnet_that_is_there_learns_on(config: GeneratorConfig, tmp_path: Path) -> None:
    """Of more channels than the control image has, as those that are published."""
    torch.manual_seed(1)
    there = ZImageControlNetModel(
        control_layers_places=[0, 2], control_refiner_layers_places=[0, 1], control_in_dim=6,
        add_control_noise_refiner="control_noise_refiner", dim=WIDTH, n_heads=2, n_kv_heads=2,
    )  # fmt: skip
    fill(there)
    there.save_pretrained(str(tmp_path / "there"))
    cfg = replace(config, control_lora_path=str(tmp_path / "there"))
    _, controls, captions = draw_discs(2)
    start, painting = base_of(cfg), load_generator(cfg, IMAGE)
    assert isinstance(painting, ZImageGenerator)
    assert torch.equal(velocity(start, controls[:1]), velocity(painting, controls[:1]))
    result = train_control(discs(8), start, CFG, tmp_path / "on")
    again = load_generator(replace(config, control_lora_path=str(result.file)), IMAGE)
    assert isinstance(again, ZImageGenerator) and again.controlnet.config["control_layers_places"] == [0, 2]
    assert np.array_equal(again.generate(controls, captions, [1, 2]), start.generate(controls, captions, [1, 2]))
    assert not torch.equal(velocity(again, controls[:1]), velocity(painting, controls[:1]))


def test_a_stopped_training_goes_on_to_the_same_bytes(config: GeneratorConfig, tmp_path: Path) -> None:
    whole = train_control(discs(12), base_of(config), CFG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_control(discs(12, stop_after=6), base_of(config), CFG, tmp_path / "stopped")
    again = train_control(discs(12), base_of(config), CFG, tmp_path / "stopped")
    for name in (WEIGHTS, "config.json"):
        assert (again.file / name).read_bytes() == (whole.file / name).read_bytes()
    assert (again.loss_before, again.loss_after) == (whole.loss_before, whole.loss_after)
    with pytest.raises(ControlTrainingError, match="another training"):
        train_control(discs(12), base_of(config), replace(CFG, batch_size=2), tmp_path / "stopped")


def test_gradient_checkpointing_changes_nothing(config: GeneratorConfig) -> None:
    cfg, kept = replace(CFG, steps=2), []
    for again in (False, True):
        trainer = ControlTrainer(discs(8), base_of(config), replace(cfg, gradient_checkpointing=again))
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        network: Any = trainer.scheme.networks[0]
        network.control_layers[0].register_forward_pre_hook(count)
        kept.append(([trainer.step(0), trainer.step(1)], calls))
    (plain, once), (saving, twice) = kept
    assert saving == pytest.approx(plain, rel=1e-4) and twice == 2 * once


def test_weights_in_float32_are_trained_beside_a_base_in_16_bits(config: GeneratorConfig, tmp_path: Path) -> None:
    short = replace(config, dtype="bfloat16")
    generator = base_of(short)
    base = digest_of(generator.network)
    trainer = ControlTrainer(discs(8), generator, CFG)
    assert {one.dtype for one in trainer.parameters} == {torch.float32}
    assert {one.dtype for one in generator.network.parameters()} == {torch.bfloat16}
    exact = ControlTrainer(discs(8), base_of(config), CFG)
    assert trainer.step(0) == pytest.approx(exact.step(0), rel=0.1)
    generator = base_of(short)
    result = train_control(discs(8), generator, CFG, tmp_path)
    assert digest_of(generator.network) == base
    assert {value.dtype for value in load_file(result.file / WEIGHTS).values()} == {torch.bfloat16}
    loaded = load_generator(replace(short, control_lora_path=str(result.file)), IMAGE)
    _, controls, captions = draw_discs(2)
    painted = loaded.generate(controls, captions, [1, 2])
    assert np.array_equal(painted, generator.generate(controls, captions, [1, 2]))


def test_what_cannot_be_trained_is_named(config: GeneratorConfig) -> None:
    with pytest.raises(BackendError, match="trained with weights in bf16"):
        load_base(replace(config, precision="int8"), IMAGE)
    with pytest.raises(BackendError, match=r"generator\.model_path"):
        load_base(replace(config, model_path=None), IMAGE)
    with pytest.raises(BackendError, match="/nowhere could not be loaded"):
        load_base(replace(config, model_path="/nowhere"), IMAGE)
