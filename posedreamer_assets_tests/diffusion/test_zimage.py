"""The Z-Image backend on a small random checkpoint in Z-Image-Turbo's layout with a union ControlNet."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ZImageControlNetModel
from safetensors.torch import load_file, save_file

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.diffusion.sources import KNOWN
from posedreamer_assets.diffusion.zimage import ZImageGenerator, controlnet_config, load_controlnet
from posedreamer_assets.errors import BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production_zimage import save_tiny_controlnet, save_tiny_zimage


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GeneratorConfig:
    """A tiny Z-Image and its ControlNet, as one file, on disk."""
    folder = tmp_path_factory.mktemp("zimage")
    save_tiny_zimage(folder / "base")
    return GeneratorConfig(
        backend="zimage",
        model_path=str(folder / "base"),
        control_lora_path=str(save_tiny_controlnet(folder / "control")),
        steps=2,
        guidance=0.0,
        device="cpu",
        dtype="float32",
    )


@pytest.fixture(scope="module")
def zimage(config: GeneratorConfig) -> ZImageGenerator:
    generator = load_generator(config, IMAGE)
    assert isinstance(generator, ZImageGenerator)
    return generator


def test_seed_caption_and_control_each_change_the_image_and_company_does_not(zimage: ZImageGenerator) -> None:
    _, controls, captions = draw_discs(2)
    both = zimage.generate(controls, captions, [1, 2])
    assert np.array_equal(zimage.generate(controls[1:], captions[1:], [2]), both[1:])
    assert not np.array_equal(zimage.generate(controls[1:], captions[1:], [3]), both[1:])
    assert not np.array_equal(zimage.generate(controls[:1], captions[1:], [2]), both[1:])
    assert not np.array_equal(zimage.generate(controls[1:], captions[:1], [2]), both[1:])
    assert captions == draw_discs(2)[2]


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_a_row_of_a_block_is_that_row_alone(config: GeneratorConfig, guidance: float) -> None:
    """On a GPU rows share a block; captions there have a length each."""
    _, controls, captions = draw_discs(3)
    captions[1] += " with a long tail of words behind it that no other caption has"
    generator = load_generator(replace(config, guidance=guidance), IMAGE)
    assert isinstance(generator, ZImageGenerator)

    def paint(rows: list[int]) -> np.ndarray:
        noise = [torch.Generator().manual_seed(r) for r in rows]
        with torch.no_grad():
            return generator.run_block(generator.pipeline, controls[rows], [captions[r] for r in rows], noise, 1.0)

    block = paint([0, 1, 2]).astype(int)
    for row in range(3):
        assert np.abs(block[row] - paint([row])[0]).max() <= 1  # sums in another order, then rounded to a level
    assert np.abs(block[0] - block[1]).max() > 10


def test_the_profiles_strength_multiplies_that_of_a_candidate(config: GeneratorConfig, zimage: ZImageGenerator) -> None:
    _, controls, captions = draw_discs(2)
    half = load_generator(replace(config, control_strength=0.5), IMAGE)
    rows = controls[:1], captions[:1], [1]
    assert np.array_equal(half.generate(*rows), zimage.generate(*rows, control_strength=0.5))
    assert not np.array_equal(half.generate(*rows), zimage.generate(*rows))
    other = controls[1:], captions[:1], [1]
    assert np.array_equal(zimage.generate(*rows, control_strength=0.0), zimage.generate(*other, control_strength=0.0))


def test_a_published_file_and_diffusers_folder_are_the_same_network(config: GeneratorConfig) -> None:
    assert config.control_lora_path
    file = Path(config.control_lora_path)
    one, other = (load_controlnet(str(path), torch.float32) for path in (file, file.with_suffix("")))
    assert one.config["control_layers_places"] == other.config["control_layers_places"]
    assert one.config["control_refiner_layers_places"] == other.config["control_refiner_layers_places"]
    assert one.config["add_control_noise_refiner"] == other.config["add_control_noise_refiner"]
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_the_sizes_of_the_published_file_are_read_off_it() -> None:
    wanted = {
        "control_layers_places": list(range(0, 30, 2)),
        "control_refiner_layers_places": [0, 1],
        "control_in_dim": 33,
        "add_control_noise_refiner": "control_noise_refiner",
        "dim": 3840,
        "n_heads": 30,
        "n_kv_heads": 30,
        "n_refiner_layers": 2,
    }
    with torch.device("meta"):
        state = ZImageControlNetModel(**wanted).state_dict()
    state["control_noise_refiner.0.before_proj.weight"] = torch.ones(1)
    assert controlnet_config(state, "") == wanted
    (known,) = (source for name, source in KNOWN.items() if "Controlnet-Union" in name)
    count = sum(value.numel() for value in state.values()) + 3840**2 - 1
    assert known.parameters["ControlNet"] == pytest.approx(count / 1e9, abs=0.01)


def test_what_is_no_release_2_1_is_refused(config: GeneratorConfig, tmp_path: Path) -> None:
    assert config.control_lora_path
    state, file = load_file(config.control_lora_path), tmp_path / "net.safetensors"

    def refused(changed: dict[str, torch.Tensor], message: str) -> None:
        save_file(changed, file)
        with pytest.raises(BackendError, match=message):
            load_controlnet(str(file), torch.float32)

    zeros = torch.zeros_like(state["control_noise_refiner.0.before_proj.weight"])
    refused(state | {"control_noise_refiner.0.before_proj.weight": zeros}, r"release 2\.0: take 2\.1")
    refused({k: v for k, v in state.items() if not k.startswith("control_layers.14.")}, "14 control layers")
    refused({k: v for k, v in state.items() if k != "control_layers.3.after_proj.bias"}, "Missing key|RuntimeError")
    refused({"weight": zeros}, "no ControlNet of Z-Image")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control_lora_path": None}, "a ControlNet"),
        ({"control_lora_path": "/nowhere/net"}, "/nowhere/net could not be loaded"),
        ({"model_path": "/nowhere/zimage"}, "/nowhere/zimage could not be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_named(config: GeneratorConfig, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        load_generator(replace(config, **changes), IMAGE)  # type: ignore[arg-type]


def test_with_the_text_encoder_aside_images_are_the_same_and_captions_come_first(
    config: GeneratorConfig, zimage: ZImageGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    parking = load_generator(replace(config, memory="park_text"), IMAGE)
    assert isinstance(parking, ZImageGenerator)
    happened: list[str] = []
    embed, place = parking._embed, parking._place

    def placing(aside: tuple[str, ...], at_work: tuple[str, ...]) -> None:
        happened.append(f"{'+'.join(at_work)} at work, {'+'.join(aside)} aside")
        place(aside, at_work)

    monkeypatch.setattr(parking, "_embed", lambda caption: (happened.append(caption), embed(caption))[1])
    monkeypatch.setattr(parking, "_place", placing)
    _, controls, captions = draw_discs(3)
    captions[2] = captions[0]
    painted = parking.generate(controls, captions, [1, 2, 3])
    assert np.array_equal(painted, zimage.generate(controls, captions, [1, 2, 3]))
    assert happened == [
        "text_encoder at work, transformer+controlnet aside",
        captions[0],
        captions[1],
        "transformer+controlnet at work, text_encoder aside",
    ]


def test_a_size_that_cannot_be_cut_into_tokens_is_refused(config: GeneratorConfig) -> None:
    with pytest.raises(BackendError, match="multiples of 4"):
        load_generator(config, ImageConfig(width=34, height=32))
