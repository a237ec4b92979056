"""Training of the pocket generator, on discs: what is learnt, kept out, resumed, and written."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posedreamer_assets.diffusion.networks import build_scheduler, build_vae, decode, encode_mode
from posedreamer_assets.diffusion.pixels import to_pixels, to_signed
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import BackendError
from posedreamer_assets.pocket.latents import LatentCache, TrainingRows, decode_latents, encode_images
from posedreamer_assets.pocket.shards import read_painted, shard_paths
from posedreamer_assets.pocket.train_flow import FluxTrainer, FluxTraining, flow_matching_loss, train_flux
from posedreamer_assets.pocket.train_vae import VaeTraining, reconstruction_loss, train_vae, unit_variance_penalty
from posedreamer_assets.training.log import JsonLog, read_log
from posedreamer_assets_tests.diffusion.conftest import IMAGE, SIZES, tiny_config

FLUX = FluxTraining(max_steps=6, batch_size=4, warmup_steps=5, dtype="float32", grid_steps=2, sizes=SIZES)


@pytest.fixture(scope="module")
def trained(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an autoencoder trained for 150 steps and a transformer trained for 6."""
    folder = tmp_path_factory.mktemp("trained")
    train_vae(tiny_shards, folder, VaeTraining(max_steps=150, batch_size=4, crop=32, dtype="float32", sizes=SIZES))
    train_flux(tiny_shards, folder, FLUX)
    return folder


def test_a_trained_folder_is_a_pocket_generator(trained: Path, tiny_shards: Path) -> None:
    shard = read_painted(shard_paths(tiny_shards)[0])
    generator = PocketGenerator.load(tiny_config(trained), IMAGE)
    assert generator.generate(shard.controls[:2], list(shard.captions[:2]), [1, 2]).shape == (2, 32, 32, 3)
    assert read_log(trained / "training" / "flux.jsonl")[-1]["event"] == "end"
    assert list((trained / "training").glob("grid-*.png")) and (trained / "training" / "vae.png").exists()


def test_the_autoencoder_learns(trained: Path) -> None:
    losses = [float(str(line["loss"])) for line in read_log(trained / "training" / "vae.jsonl") if "loss" in line]
    assert losses == sorted(losses, reverse=True) and len(losses) == 3


def test_latents_are_normalised_and_decoding_takes_that_back(trained: Path, tiny_shards: Path) -> None:
    vae = PocketGenerator.load(tiny_config(trained), IMAGE).vae
    images = read_painted(shard_paths(tiny_shards)[0]).images
    tokens = encode_images(vae, images)
    assert abs(tokens.mean().item()) < 0.5 and 0.6 < tokens.std().item() < 1.6
    with torch.no_grad():
        expected = to_pixels(decode(vae, encode_mode(vae, to_signed(images))))
    assert np.abs(decode_latents(vae, tokens, 32, 32).astype(int) - expected).max() <= 1


@torch.no_grad()
def test_sampling_while_training_is_what_the_pipeline_does(tiny_folder: Path, tiny_shards: Path) -> None:
    generator = PocketGenerator.load(tiny_config(tiny_folder), IMAGE)
    model = nn.ModuleDict({"transformer": generator.transformer, "captions": generator.captions})
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    trainer = FluxTrainer(model, replace(FLUX, grid_steps=3), side=8)
    shard = read_painted(shard_paths(tiny_shards)[0])
    controls = encode_images(generator.vae, shard.controls[:2])
    hidden, pooled = generator.encode_captions(list(shard.captions[:2]))
    latents = generator.pipeline(
        prompt_embeds=hidden,
        pooled_prompt_embeds=pooled,
        control_image=controls,
        latents=torch.randn(controls.shape, generator=torch.Generator().manual_seed(5)),
        height=32,
        width=32,
        num_inference_steps=3,
        output_type="latent",
    ).images
    torch.testing.assert_close(
        trainer.sample(controls, list(shard.captions[:2]), seed=5), latents, rtol=1e-4, atol=1e-4
    )


def test_the_true_velocity_leads_the_scheduler_from_noise_to_the_image() -> None:
    image, noise = torch.randn(2, 16, 16), torch.randn(2, 16, 16)
    scheduler = build_scheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.2, 5).tolist())
    sample = noise
    timesteps = scheduler.timesteps
    assert timesteps is not None
    for t in timesteps:
        sample = scheduler.step(noise - image, t, sample).prev_sample  # type: ignore[union-attr]
    torch.testing.assert_close(sample, image, rtol=1e-4, atol=1e-5)
    assert flow_matching_loss(noise - image, image, noise, torch.ones(2, 16)).item() == 0.0


def test_the_loss_weights_tokens() -> None:
    zeros, error = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    error[:, 0] = 1.0
    assert flow_matching_loss(error, zeros, zeros, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(0.5)
    assert flow_matching_loss(error, zeros, zeros, torch.tensor([[3.0, 1.0]])).item() == pytest.approx(0.75)


def test_reconstruction_is_judged_by_pixels_and_edges() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert reconstruction_loss(images, images).item() == 0.0
    shifted, checked = images + 0.1, images + 0.1 * (torch.arange(64).reshape(8, 8) % 2 * 2 - 1)
    assert reconstruction_loss(shifted, images).item() == pytest.approx(0.102, abs=1e-5)
    assert reconstruction_loss(checked, images) > reconstruction_loss(shifted, images)


def test_the_variance_penalty_is_zero_for_standard_channels() -> None:
    latents = torch.randn(64, 2, 16, 16)
    assert unit_variance_penalty(latents).item() < 1e-3
    assert unit_variance_penalty(3.0 * latents + 2.0).item() == pytest.approx(8.0, rel=0.05)


def test_a_resumed_run_goes_on_and_takes_up_new_shards(trained: Path, tiny_shards: Path, tmp_path: Path) -> None:
    folder, shards = tmp_path / "generator", tmp_path / "shards"
    shutil.copytree(trained, folder)
    shutil.copytree(tiny_shards, shards)
    steps = read_log(folder / "training" / "flux.jsonl")[-1]["steps"]
    shutil.copy(shards / "gen-0.npz", shards / "gen-9.npz")
    result = train_flux(shards, folder, replace(FLUX, max_steps=9), resume=True)
    start = [line for line in read_log(folder / "training" / "flux.jsonl") if line.get("event") == "start"][-1]
    assert start["step"] == steps and start["rows"] == 3 * 39  # the last row of each shard is held out
    assert steps == 6 and result["steps"] == 9 and math.isfinite(result["held_out_loss"])


def test_held_out_rows_are_never_drawn(tiny_folder: Path, tiny_shards: Path, tmp_path: Path) -> None:
    vae = build_vae(SIZES)
    cache = LatentCache(tiny_shards, tmp_path / "latents", vae, "float32", JsonLog(tmp_path / "log.jsonl"))
    assert cache.refresh() and not cache.refresh()
    rows = TrainingRows(cache)
    assert set(rows.index) == {(name, i) for name in ("gen-0", "gen-1") for i in range(39)}
    images, controls, captions, share = rows.held_out(64)
    assert len(images) == len(controls) == len(captions) == len(share) == 2
    last = [encode_images(vae, read_painted(path).images[39:]) for path in shard_paths(tiny_shards)]
    torch.testing.assert_close(images, torch.cat(last).half().float(), rtol=1e-2, atol=1e-2)


def test_half_images_are_cuts_of_rows_with_that_window(tiny_shards: Path, tmp_path: Path) -> None:
    cache = LatentCache(tiny_shards, tmp_path / "latents", build_vae(SIZES), "float32", JsonLog(tmp_path / "log.jsonl"))
    cache.refresh()
    rows = TrainingRows(cache)
    tokens, (images, controls, captions, share) = rows.draw_half(np.random.default_rng(3), 5)
    assert images.shape[1] == controls.shape[1] == share.shape[1] == len(tokens) == 8 and len(captions) == 5
    whole = {cache.parts[name].images[row][tokens].tobytes() for name, row in rows.index}
    held = {part.images[39][tokens].tobytes() for part in cache.parts.values()}
    drawn = {image.half().numpy().tobytes() for image in images}
    assert drawn <= whole and not drawn & (held - whole)


def test_a_shard_that_is_still_being_written_waits(tiny_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(tiny_shards, shards)
    (shards / "gen-2.npz").write_bytes((shards / "gen-0.npz").read_bytes()[:300])
    cache = LatentCache(shards, tmp_path / "latents", build_vae(SIZES), "float32", JsonLog(tmp_path / "log.jsonl"))
    cache.refresh()
    assert sorted(cache.parts) == ["gen-0", "gen-1"]
    shutil.copy(shards / "gen-0.npz", shards / "gen-2.npz")
    assert cache.refresh() and sorted(cache.parts) == ["gen-0", "gen-1", "gen-2"]


def test_a_transformer_needs_an_autoencoder(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="train the autoencoder first"):
        train_flux(tiny_shards, tmp_path, FLUX)
