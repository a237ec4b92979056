"""The FLUX backend on a small random checkpoint in FLUX.1-dev's layout, with a control LoRA and a DPO adapter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig
from posedreamer_assets.diffusion import backend
from posedreamer_assets.diffusion.dpo import train_dpo
from posedreamer_assets.diffusion.flux import CONTROL_ADAPTER, FluxGenerator
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.errors import BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_control_lora, save_tiny_flux


@pytest.fixture(scope="module")
def flux_config(tmp_path_factory: pytest.TempPathFactory) -> GeneratorConfig:
    """A tiny FLUX.1-dev and its control LoRA on disk."""
    folder = tmp_path_factory.mktemp("flux")
    save_tiny_flux(folder / "base")
    lora = save_tiny_control_lora(folder / "base", folder / "control")
    return GeneratorConfig(
        backend="flux",
        model_path=str(folder / "base"),
        control_lora_path=str(lora),
        steps=2,
        guidance=3.5,
        device="cpu",
        dtype="float32",
    )


@pytest.fixture(scope="module")
def flux(flux_config: GeneratorConfig) -> FluxGenerator:
    generator = load_generator(flux_config, IMAGE)
    assert isinstance(generator, FluxGenerator)
    return generator


def test_the_control_lora_widens_the_input_and_has_an_effect(flux: FluxGenerator) -> None:
    assert flux.transformer.x_embedder.in_features == 32
    _, controls, captions = draw_discs(2)
    same = flux.generate(controls[:1], captions[:1], [1])
    assert not np.array_equal(same, flux.generate(controls[1:], captions[:1], [1]))
    assert not np.array_equal(same, flux.generate(controls[:1], captions[1:], [1]))


def test_an_image_is_the_same_in_any_order_and_company(flux: FluxGenerator) -> None:
    _, controls, captions = draw_discs(3)
    together = flux.generate(controls, captions, [7, 8, 9])
    backwards = flux.generate(controls[::-1].copy(), captions[::-1], [9, 8, 7])
    assert np.array_equal(together, backwards[::-1])


def test_dpo_trains_a_second_adapter_beside_the_control_lora(flux: FluxGenerator, tmp_path: Path) -> None:
    images, controls, captions = draw_discs(4)
    base = flux.generate(controls[:1], captions[:1], [1])
    control_before = {k: v.clone() for k, v in flux.transformer.state_dict().items() if f".{CONTROL_ADAPTER}." in k}
    pairs = PairData.of_images(controls, images, 255 - images, captions, np.arange(4) < 1)
    cfg = AlignmentConfig(batch_size=3, steps=12, eval_every=1, lora_rank=2, learning_rate=1e-2)
    result = train_dpo(pairs, flux, cfg, 0, tmp_path)
    assert result.best_step > 0
    control_after = {k: v for k, v in flux.transformer.state_dict().items() if f".{CONTROL_ADAPTER}." in k}
    assert control_before and all(torch.equal(v, control_after[k]) for k, v in control_before.items())
    assert np.array_equal(flux.generate(controls[:1], captions[:1], [1]), base)
    adapted = flux.generate(controls[:1], captions[:1], [1], adapter_path=tmp_path)
    assert not np.array_equal(adapted, base)
    assert np.array_equal(flux.generate(controls[:1], captions[:1], [1]), base)


def test_the_digest_covers_the_control_lora(flux: FluxGenerator, flux_config: GeneratorConfig, tmp_path: Path) -> None:
    assert flux_config.model_path
    save_tiny_control_lora(Path(flux_config.model_path), tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    assert load_generator(replace(flux_config, control_lora_path=str(tmp_path)), IMAGE).name == flux.name
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert load_generator(replace(flux_config, control_lora_path=str(file)), IMAGE).digest != flux.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_path": None}, "needs a model"),
        ({"control_lora_path": None}, "give generator.control_lora_path"),
        ({"model_path": "/nowhere/flux"}, "/nowhere/flux could not be loaded"),
        ({"control_lora_path": "/nowhere/lora"}, "/nowhere/lora could not be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_named(flux_config: GeneratorConfig, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        load_generator(replace(flux_config, **changes), IMAGE)  # type: ignore[arg-type]


def test_with_the_text_encoders_aside_images_are_the_same_and_captions_come_a_chunk_at_a_time(
    flux_config: GeneratorConfig, flux: FluxGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    parking = load_generator(replace(flux_config, memory="park_text"), IMAGE)
    assert isinstance(parking, FluxGenerator)
    monkeypatch.setattr(backend, "CAPTIONS_TOGETHER", 2)
    happened: list[str] = []
    encode, place = parking.encode_captions, parking._place

    def placing(aside: tuple[str, ...], at_work: tuple[str, ...]) -> None:
        happened.append(f"{'+'.join(at_work)} at work, {'+'.join(aside)} aside")
        place(aside, at_work)

    monkeypatch.setattr(parking, "encode_captions", lambda texts: (happened.append(*texts), encode(texts))[1])
    monkeypatch.setattr(parking, "_place", placing)
    _, controls, captions = draw_discs(3)
    painted = parking.generate(controls, captions, [1, 2, 3])
    assert np.array_equal(painted, flux.generate(controls, captions, [1, 2, 3]))
    text = "text_encoder+text_encoder_2 at work, transformer aside"
    paints = "transformer at work, text_encoder+text_encoder_2 aside"
    assert happened == [text, captions[0], captions[1], paints, text, captions[2], paints]
    assert not parking._embedded


def test_rows_of_a_block_are_embedded_together_as_without_parking(
    flux_config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU rows share a block, and sums of a batch may round otherwise than those of a row."""
    monkeypatch.setattr(FluxGenerator, "block_size", 2)
    _, controls, captions = draw_discs(3)
    asked: dict[str, list[list[str]]] = {}
    painted = []
    for memory in ("resident", "park_text"):
        generator = load_generator(replace(flux_config, memory=memory), IMAGE)  # type: ignore[arg-type]
        assert isinstance(generator, FluxGenerator)
        seen, encode = asked.setdefault(memory, []), generator.encode_captions
        monkeypatch.setattr(
            generator, "encode_captions", lambda texts, s=seen, e=encode: (s.append(list(texts)), e(texts))[1]
        )
        painted.append(generator.generate(controls, captions, [1, 2, 3]))
    assert np.array_equal(*painted)
    assert asked["resident"] == asked["park_text"] == [captions[:2], [captions[2]] * 2]
