"""Training of a decoder for a trained generator, on discs: what stays, what is learnt, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from posedreamer_assets.diffusion.networks import build_vae, decode, pack_latents
from posedreamer_assets.diffusion.pixels import to_signed
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import BackendError
from posedreamer_assets.pocket.latents import LatentCache
from posedreamer_assets.pocket.shards import PaintedRows, read_painted, shard_paths
from posedreamer_assets.pocket.train_decoder import Decodable, DecoderTraining, deepen, guess, train_decoder
from posedreamer_assets.pocket.train_flow import FluxTraining, load_vae, train_flux
from posedreamer_assets.pocket.train_vae import VaeTraining, psnr, train_vae
from posedreamer_assets.training.log import JsonLog, read_log
from posedreamer_assets_tests.diffusion.conftest import IMAGE, SIZES, tiny_config

TRAINING = DecoderTraining(
    max_steps=60, batch_size=8, blocks=(3, 2, 1), guessed_rows=16, crop=3, dtype="float32", learning_rate=3e-3, ema=0.9
)


@pytest.fixture(scope="module")
def generator(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    train_vae(tiny_shards, folder, VaeTraining(max_steps=60, batch_size=4, crop=32, dtype="float32", sizes=SIZES))
    flux = FluxTraining(max_steps=4, batch_size=4, warmup_steps=5, dtype="float32", grid_steps=2, sizes=SIZES)
    train_flux(tiny_shards, folder, flux)
    return folder


def test_a_deeper_decoder_begins_as_the_old_one() -> None:
    torch.manual_seed(4)
    vae = build_vae(SIZES).eval().requires_grad_(False)
    vae.register_to_config(shift_factor=0.25, scaling_factor=2.0)
    deeper = deepen(vae, (4, 2, 1)).eval().requires_grad_(False)
    latents = torch.randn(2, vae.config["latent_channels"], 8, 8)
    old, new = decode(vae, latents), decode(deeper, latents)
    assert len(deeper.decoder.layers) == len(vae.decoder.layers) + 3
    assert 0 < (new - old).square().mean() < 0.1 * old.var()
    kept = {weight.numpy().tobytes() for weight in vae.decoder.parameters()}
    for name, weight in deeper.decoder.named_parameters():
        if name.endswith("conv.4.weight") and weight.numpy().tobytes() not in kept:
            weight.zero_()  # what is left of a new block then is the identity
    assert torch.equal(decode(deeper, latents), old)
    assert deeper.config["shift_factor"] == 0.25 and deeper.config["scaling_factor"] == 2.0


def test_as_many_blocks_give_the_same_decoder() -> None:
    vae = build_vae(SIZES).eval().requires_grad_(False)
    latents = torch.randn(1, vae.config["latent_channels"], 8, 8)
    with torch.no_grad():
        assert torch.equal(decode(deepen(vae, (2, 1, 1)).eval(), latents), decode(vae, latents))


@pytest.mark.parametrize("blocks", [(1, 1, 1), (2, 1), (2, 1, 1, 1)])
def test_blocks_that_there_are_stay(blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot become"):
        deepen(build_vae(SIZES), blocks)


def test_training_makes_a_better_decoder_and_leaves_the_encoder(generator: Path, tiny_shards: Path) -> None:
    before = load_file(generator / "vae" / "diffusion_pytorch_model.safetensors")
    first = load_vae(generator)
    held = PaintedRows.concat([read_painted(path) for path in shard_paths(tiny_shards)])
    images = to_signed(held.take(held.held_out).images)
    result = train_decoder(tiny_shards, generator, TRAINING)
    after = load_file(generator / "vae" / "diffusion_pytorch_model.safetensors")
    assert result["psnr_renders_db"] > result["psnr_renders_db_before"] + 0.2
    assert result["psnr_guesses_db"] > result["psnr_guesses_db_before"]
    for name, weight in before.items():
        if name.startswith("encoder."):
            assert torch.equal(after[name], weight)
    assert json.loads((generator / "vae" / "config.json").read_text())["num_decoder_blocks"] == [3, 2, 1]
    assert read_log(generator / "training" / "decoder.jsonl")[-1]["event"] == "end"
    assert (generator / "training" / "decoder.png").exists()
    shard = read_painted(shard_paths(tiny_shards)[0])
    painter = PocketGenerator.load(tiny_config(generator), IMAGE)
    assert painter.generate(shard.controls[:1], list(shard.captions[:1]), [1]).shape == (1, 32, 32, 3)
    # what is said of it is true: the figures of renders, taken another way
    for vae, said in ((first, "psnr_renders_db_before"), (load_vae(generator), "psnr_renders_db")):
        with torch.no_grad():
            rebuilt = vae(images).sample
        assert psnr(rebuilt, images).mean().item() == pytest.approx(result[said], abs=0.05)


@torch.no_grad()
def test_a_guess_is_the_image_where_no_noise_hides_it(generator: Path, tiny_shards: Path, tmp_path: Path) -> None:
    painter = PocketGenerator.load(tiny_config(generator), IMAGE)
    cache = LatentCache(tiny_shards, tmp_path / "latents", painter.vae, "float32", JsonLog(tmp_path / "log.jsonl"))
    cache.refresh()
    part, pixels = cache.parts["gen-0"], read_painted(tiny_shards / "gen-0.npz").images
    rows, noise = np.array([4, 0, 17]), torch.Generator()
    clear, hidden = (guess(painter, part, rows, pixels, sigma, noise.manual_seed(1)) for sigma in (0.0, 0.7))
    true = part.images[rows].astype(float)
    assert np.abs(clear.latents - true).max() < 1e-2 and np.array_equal(clear.images, pixels[rows])
    assert np.abs(hidden.latents - true).max() > 0.1
    # the guess from the noisy latents that the seed gives, by the definition, row by row
    drawn = torch.randn(3, *true.shape[1:], generator=noise.manual_seed(1)).double()
    for place, row in enumerate(rows):
        noisy = (0.3 * torch.from_numpy(true[place]) + 0.7 * drawn[place]).float()[None]
        control = torch.tensor(part.controls[row][None]).float()
        velocity = painter.velocity(noisy, control, painter.encode_captions([part.captions[row]]), torch.tensor([0.7]))
        assert np.abs((noisy - 0.7 * velocity)[0].numpy() - hidden.latents[place]).max() < 1e-2


def test_crops_of_latents_and_pixels_show_the_same_place() -> None:
    grid = np.arange(4 * 5).reshape(4, 5)
    images = np.repeat(grid.repeat(8, 0).repeat(8, 1)[None, ..., None], 3, -1).astype(np.uint8)
    latents = pack_latents(torch.from_numpy(images[:, ::4, ::4]).permute(0, 3, 1, 2).float())
    rows = Decodable(latents.half().numpy(), images)
    for seed in range(5):
        found, pixels = rows.crops(np.random.default_rng(seed), 2, 3)
        assert found.shape == (2, 3, 6, 6) and pixels.shape == (2, 3, 24, 24)
        torch.testing.assert_close(found.repeat_interleave(4, 2).repeat_interleave(4, 3), 127.5 * (pixels + 1))


def test_a_decoder_needs_a_generator(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        train_decoder(tiny_shards, tmp_path, TRAINING)
