"""A generator small enough for tests: the pocket generator's parts with a few thousand weights and 32 x 32 images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.networks import PocketSizes, build_scheduler, build_transformer, build_vae
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.diffusion.text import CaptionEncoder, build_text_encoder, build_tokenizer

SIDE = 32
IMAGE = ImageConfig(width=SIDE, height=SIDE)
SIZES = PocketSizes(
    vae_channels=(8, 8, 8),
    latent_channels=4,
    heads=2,
    head_dim=16,
    double_layers=1,
    single_layers=1,
    text_dim=32,
    text_layers=1,
    max_tokens=12,
)
CAPTIONS = ["a red disc on a wall", "a blue disc on a wall", "a green disc in a gym", "a red disc in a gym"]


def draw_discs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images, control images uint8 (n, 32, 32, 3) and captions of coloured discs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = np.full((n, SIDE, SIDE, 3), 120, np.uint8)
    controls = np.zeros_like(images)
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 220, 30)}
    captions = [CAPTIONS[i % len(CAPTIONS)] for i in range(n)]
    for i, caption in enumerate(captions):
        centre = rng.uniform(8, SIDE - 8, 2)
        disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < rng.uniform(4, 8) ** 2
        images[i][disc] = colours[caption.split()[1]]
        controls[i][disc] = np.stack([x, y, 31 - x], -1)[disc] * 7 + 20
    return images, controls, captions


def save_tiny_parts(folder: Path, seed: int = 0) -> None:
    """Random weights of every part, none of them zero, so that everything has an effect."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer, vae = build_transformer(SIZES), build_vae(SIZES)
        with torch.no_grad():
            for parameter in transformer.parameters():
                if not parameter.any():
                    parameter.normal_(0.0, 0.2)
        tokenizer = build_tokenizer(CAPTIONS, SIZES.max_tokens)
        captions = CaptionEncoder(tokenizer, build_text_encoder(len(tokenizer), SIZES))
    transformer.save_pretrained(str(folder / "transformer"))
    vae.save_pretrained(str(folder / "vae"))
    build_scheduler().save_pretrained(str(folder / "scheduler"))
    captions.save(folder)


def tiny_config(folder: Path, **changes: object) -> GeneratorConfig:
    """Two steps of the generator in `folder`, on the CPU."""
    return GeneratorConfig(**{"model_path": str(folder), "steps": 2, "device": "cpu", "dtype": "float32", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the parts of a tiny generator."""
    folder = tmp_path_factory.mktemp("tiny-generator")
    save_tiny_parts(folder)
    return folder


@pytest.fixture
def tiny_generator(tiny_folder: Path) -> PocketGenerator:
    """A freshly loaded tiny generator."""
    return PocketGenerator.load(tiny_config(tiny_folder), IMAGE)


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two training shards of 40 discs."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(2):
        images, controls, captions = draw_discs(40, seed=i)
        silhouettes = controls.max(-1)
        np.savez(
            folder / f"gen-{i}.npz",
            images=images,
            controls=controls,
            silhouettes=silhouettes,
            captions=np.array(captions),
        )
    return folder
