"""The backends of FLUX.2 [klein] and Qwen-Image on small random checkpoints in their layouts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    Flux2Transformer2DModel,
    QwenImageControlNetModel,
    QwenImageTransformer2DModel,
)

from posedreamer_assets.config import GeneratorConfig, ImageConfig, load_profile
from posedreamer_assets.diffusion.embedded import EmbedsEachCaption
from posedreamer_assets.diffusion.generator import FlowModel, load_generator
from posedreamer_assets.diffusion.memory import TRANSFORMER_WIDTHS, plan
from posedreamer_assets.diffusion.shares import PRECISIONS, lowered_bytes
from posedreamer_assets.diffusion.sources import KNOWN, needs
from posedreamer_assets.errors import BackendError, ConfigError
from posedreamer_assets.export.licences import image_licence
from posedreamer_assets_tests.diffusion.conftest import draw_discs as draw_small
from posedreamer_assets_tests.diffusion.production import save_tiny_flux
from posedreamer_assets_tests.diffusion.production_more import save_tiny_klein, save_tiny_qwenimage

IMAGE = ImageConfig(width=64, height=64)
BACKENDS = ["klein", "qwenimage"]
Configs = Callable[[str], GeneratorConfig]


def draw_discs(n: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Discs of twice the size: klein's references have 64 pixels at least."""
    images, controls, captions = draw_small(n)
    return images.repeat(2, 1).repeat(2, 2), controls.repeat(2, 1).repeat(2, 2), captions


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Configs:
    folder = tmp_path_factory.mktemp("more")
    save_tiny_klein(folder / "klein")
    save_tiny_qwenimage(folder / "qwenimage", folder / "control")

    def config(backend: str) -> GeneratorConfig:
        control = str(folder / "control") if backend == "qwenimage" else None
        return GeneratorConfig(
            backend, str(folder / backend), control, steps=2, guidance=1.0, device="cpu", dtype="float32"
        )

    return config


def load(cfg: GeneratorConfig) -> EmbedsEachCaption:
    generator = load_generator(cfg, IMAGE)
    assert isinstance(generator, EmbedsEachCaption)
    return generator


@pytest.mark.parametrize("backend", BACKENDS)
def test_seed_caption_and_control_each_change_the_image_and_company_does_not(configs: Configs, backend: str) -> None:
    generator = load(configs(backend))
    _, controls, captions = draw_discs(2)
    both = generator.generate(controls, captions, [1, 2])
    assert np.array_equal(generator.generate(controls[1:], captions[1:], [2]), both[1:])
    assert not np.array_equal(generator.generate(controls[1:], captions[1:], [3]), both[1:])
    assert not np.array_equal(generator.generate(controls[:1], captions[1:], [2]), both[1:])
    assert not np.array_equal(generator.generate(controls[1:], captions[:1], [2]), both[1:])
    none = generator.generate(controls[1:], captions[1:], [2], control_strength=0.0)
    assert np.array_equal(none, generator.generate(controls[:1], captions[1:], [2], control_strength=0.0))
    half = load(replace(configs(backend), control_strength=0.5))
    rows = controls[1:], captions[1:], [2]
    assert np.array_equal(half.generate(*rows), generator.generate(*rows, control_strength=0.5))
    assert not isinstance(generator, FlowModel)


@pytest.mark.parametrize(("backend", "guidance"), [("klein", 1.0), ("qwenimage", 1.0), ("qwenimage", 3.0)])
def test_a_row_of_a_block_is_that_row_alone(configs: Configs, backend: str, guidance: float) -> None:
    """On a GPU rows share a block; each has a control image of its own."""
    _, controls, captions = draw_discs(3)
    captions[1] += " with a long tail of words behind it that no other caption has"
    generator = load(replace(configs(backend), guidance=guidance))

    def paint(rows: list[int]) -> np.ndarray:
        noise = [torch.Generator().manual_seed(r) for r in rows]
        with torch.no_grad():
            return generator.run_block(generator.pipeline, controls[rows], [captions[r] for r in rows], noise, 1.0)

    block = paint([0, 1, 2]).astype(int)
    for row in range(3):
        assert np.abs(block[row] - paint([row])[0]).max() <= 1  # sums in another order, then rounded to a level
    assert np.abs(block[0] - block[1]).max() > 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_the_text_encoder_aside_images_are_the_same(configs: Configs, backend: str) -> None:
    _, controls, captions = draw_discs(2)
    resident, parking = (load(replace(configs(backend), memory=memory)) for memory in ("resident", "park_text"))  # type: ignore[arg-type]
    assert parking.parks and not resident.parks
    rows = controls, captions, [1, 2]
    assert np.array_equal(parking.generate(*rows), resident.generate(*rows))
    assert parking._embedded == {}


def test_guidance_is_for_the_base_model_and_of_no_use_to_the_distilled_one(configs: Configs, tmp_path: Path) -> None:
    _, controls, captions = draw_discs(1)
    rows = controls, captions, [1]
    distilled = configs("klein")
    assert np.array_equal(load(distilled).generate(*rows), load(replace(distilled, guidance=4.0)).generate(*rows))
    save_tiny_klein(tmp_path / "base", distilled=False)
    base = replace(distilled, model_path=str(tmp_path / "base"))
    plain, guided = load(base), load(replace(base, guidance=4.0, memory="park_text"))
    assert np.array_equal(plain.generate(*rows), load(distilled).generate(*rows))
    assert not np.array_equal(plain.generate(*rows), guided.generate(*rows))


@pytest.mark.parametrize(
    ("backend", "changes", "message"),
    [
        ("klein", {"model_path": None}, "the klein backend needs a model"),
        ("klein", {"control_lora_path": "x"}, "go to generator.loras"),
        ("klein", {"model_path": "/nowhere/klein"}, "/nowhere/klein could not be loaded"),
        ("qwenimage", {"control_lora_path": None}, "a ControlNet"),
        ("qwenimage", {"control_lora_path": "/nowhere/net"}, "/nowhere/net could not be loaded"),
        ("qwenimage", {"model_path": "/nowhere/qwen"}, "/nowhere/qwen could not be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_named(
    configs: Configs, backend: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        load(replace(configs(backend), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_folders_of_other_models_and_odd_sizes_are_refused(configs: Configs, backend: str, tmp_path: Path) -> None:
    save_tiny_flux(tmp_path / "flux")
    for folder in (
        tmp_path / "flux",
        Path(str(configs("klein" if backend == "qwenimage" else "qwenimage").model_path)),
    ):
        with pytest.raises(BackendError, match=str(folder)):
            load(replace(configs(backend), model_path=str(folder)))
    with pytest.raises(BackendError, match="multiples of 4"):
        load_generator(configs(backend), ImageConfig(width=66, height=64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_profile_is_known_by_size_and_licence_and_is_not_aligned(backend: str) -> None:
    profile = load_profile(backend)
    assert all(need.gigabytes and "Apache-2.0" in need.licence for need in needs(profile.generator))
    assert "Apache-2.0" in image_licence(f"{backend}:x:0")
    with pytest.raises(ConfigError, match=f"backend {backend} .* alignment.method"):
        load_profile(backend, {"alignment.method": "flow_dpo"})
    planned = plan(profile.generator, profile.image)
    assert planned
    side = profile.image.width // 16
    tokens = (2 if backend == "klein" else 1) * side * side + 512
    block = profile.generator.block * tokens * 3072 * 2 * TRANSFORMER_WIDTHS / 1e9
    assert planned.activations_gb == pytest.approx(max(block, 2200 * profile.image.width**2 / 1e9))


def test_sizes_are_those_of_the_architectures() -> None:
    with torch.device("meta"):
        klein = Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        )
        parts = {
            "black-forest-labs/FLUX.2-klein-4B": {"transformer": klein, "VAE": AutoencoderKLFlux2()},
            "Qwen/Qwen-Image": {"transformer": QwenImageTransformer2DModel(), "VAE": AutoencoderKLQwenImage()},
            "InstantX/Qwen-Image-ControlNet-Union": {"ControlNet": QwenImageControlNetModel(num_layers=5)},
        }
    for model, networks in parts.items():
        for part, network in networks.items():
            counted = sum(p.numel() for p in network.parameters()) / 1e9
            assert KNOWN[model].parameters[part] == pytest.approx(counted, abs=0.01)
            shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
            for precision, known in KNOWN[model].lowered.get(part, {}).items():
                assert precision in PRECISIONS
                assert known == pytest.approx([n / 1e9 for n in lowered_bytes(shapes, precision)], abs=0.01)
