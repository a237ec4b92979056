"""The SDXL backend on a small random checkpoint in SDXL's layout with a ControlNet."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig
from posedreamer_assets.diffusion.dpo import train_dpo
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.sdxl import SdxlGenerator
from posedreamer_assets.errors import AlignmentError, BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_sdxl

# diffusers hands tensors to NumPy in a way that NumPy 2 will stop accepting.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def sdxl_config(tmp_path_factory: pytest.TempPathFactory) -> GeneratorConfig:
    """A tiny SDXL and its ControlNet on disk."""
    folder = tmp_path_factory.mktemp("sdxl")
    save_tiny_sdxl(folder / "base", folder / "control")
    return GeneratorConfig(
        backend="sdxl",
        model_path=str(folder / "base"),
        control_lora_path=str(folder / "control"),
        steps=2,
        guidance=5.0,
        device="cpu",
        dtype="float32",
    )


@pytest.fixture(scope="module")
def sdxl(sdxl_config: GeneratorConfig) -> SdxlGenerator:
    generator = load_generator(sdxl_config, IMAGE)
    assert isinstance(generator, SdxlGenerator)
    return generator


def test_seed_and_control_each_change_the_image_and_company_does_not(sdxl: SdxlGenerator) -> None:
    _, controls, captions = draw_discs(2)
    both = sdxl.generate(controls, captions, [1, 2])
    assert np.array_equal(sdxl.generate(controls[1:], captions[1:], [2]), both[1:])
    assert not np.array_equal(sdxl.generate(controls[1:], captions[1:], [3]), both[1:])
    assert not np.array_equal(sdxl.generate(controls[:1], captions[1:], [2]), both[1:])


def test_flow_dpo_does_not_apply(sdxl: SdxlGenerator, tmp_path: Path) -> None:
    images, controls, captions = draw_discs(2)
    pairs = PairData.of_images(controls, images, images, captions, np.array([True, False]))
    with pytest.raises(AlignmentError, match="predicts velocities"):
        train_dpo(pairs, sdxl, AlignmentConfig(), 0, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control_lora_path": None}, "a ControlNet"),
        ({"control_lora_path": "/nowhere/net"}, "/nowhere/net could not be loaded"),
        ({"model_path": "/nowhere/sdxl"}, "/nowhere/sdxl could not be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_named(sdxl_config: GeneratorConfig, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        load_generator(replace(sdxl_config, **changes), IMAGE)  # type: ignore[arg-type]
