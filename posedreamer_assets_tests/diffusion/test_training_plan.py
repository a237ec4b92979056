"""Plans of Flow-DPO's memory, against what real networks of few weights hold on a CPU; what does not fit is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig, ImageConfig, load_profile
from posedreamer_assets.diffusion import training_plan as module
from posedreamer_assets.diffusion.counting import BLOCKS, DEFAULTS, Counted, _count, count_flow_dpo
from posedreamer_assets.diffusion.dpo import DpoTrainer
from posedreamer_assets.diffusion.flux import FluxGenerator, widen
from posedreamer_assets.diffusion.frugal import set_checkpointing
from posedreamer_assets.diffusion.memory import RUNTIME_GB, plan
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.training_plan import (
    bytes_of_a_weight,
    fitting_training,
    require_training_room,
    training_on_cards,
    training_plan,
)
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_flux
from posedreamer_assets_tests.diffusion.test_memory import GIB, Alive

FLUX = load_profile("flux")
SECTIONS = (FLUX.generator, FLUX.image, FLUX.alignment)
CFG = AlignmentConfig(lora_rank=4, batch_size=2, max_epochs=99.0, half_images=False, micro_pairs=2)


@pytest.fixture(autouse=True)
def no_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))


@pytest.fixture
def flux(tmp_path: Path) -> FluxGenerator:
    """FLUX.1-dev's architecture, widened, with weights; a latent of it shows two pixels a side and not eight."""
    save_tiny_flux(tmp_path / "base")
    cfg = GeneratorConfig("flux", str(tmp_path / "base"), guidance=3.5, device="cpu", dtype="float32")
    pipeline = FluxGenerator.read(cfg, IMAGE)
    widen(pipeline.transformer)
    return cast(FluxGenerator, FluxGenerator.ready(pipeline, cfg, IMAGE))


def counted(flux: FluxGenerator, cfg: AlignmentConfig) -> Counted:
    rows, columns = flux.token_grid
    image = ImageConfig(16 * columns, 16 * rows)
    config = dict(flux.transformer.config) | {"out_channels": flux.transformer.proj_out.out_features}
    return count_flow_dpo(config, image, cfg, cfg.micro_pairs, torch.float32)


def trainer_of(flux: FluxGenerator, cfg: AlignmentConfig, folder: Path) -> DpoTrainer:
    images, controls, captions = draw_discs(4)
    data = PairData.of_images(controls, images, 255 - images, captions, np.arange(4) < 1)
    return DpoTrainer(data, flux, cfg, 0, folder)


def storages(tensors: list[Tensor]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("half", [False, True])
def test_activations_are_what_autograd_keeps_of_a_real_step(half: bool, flux: FluxGenerator, tmp_path: Path) -> None:
    cfg = replace(CFG, half_images=half)
    trainer, kept = trainer_of(flux, cfg, tmp_path), list[Tensor]()
    weights = {p.untyped_storage().data_ptr() for p in flux.network.parameters()}
    rows = trainer.encoder.rows(np.array([1, 2]))
    tokens = torch.cat([rows.winners, rows.losers]).float()
    captions = tuple(torch.cat([part, part]) for part in rows.captions)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = flux.velocity(tokens, tokens, captions, torch.rand(4), trainer.encoder.windows[0])
    real = storages([tensor for tensor in kept if tensor.untyped_storage().data_ptr() not in weights])
    assert out.shape == tokens.shape
    # Fused kernels of the CPU keep a logarithm for each token and head beside inputs and output.
    tokens_seen = tokens.shape[1] + rows.captions[0].shape[1]
    logarithms = sum(flux.transformer.config[kind] for kind in BLOCKS) * 4 * 2 * tokens_seen * 4
    found = counted(flux, cfg).kept
    assert found <= real <= found + logarithms + 0.01 * found
    assert found == pytest.approx(real, rel=0.05)


def test_weights_gradients_and_moments_are_those_of_a_real_optimizer(flux: FluxGenerator, tmp_path: Path) -> None:
    trainer = trainer_of(flux, CFG, tmp_path)
    trainer.step(1)
    adapter = trainer.parameters
    found = counted(flux, CFG)
    assert found.adapter == sum(p.numel() for p in adapter)
    assert found.network == sum(p.numel() for n, p in flux.network.named_parameters() if ".lora_" not in n)
    moments = [v for state in trainer.optimizer.state.values() for v in state.values() if v.numel() > 1]
    gradients = [p.grad for p in adapter if p.grad is not None]
    held = storages([p.detach() for p in adapter]) + storages(gradients) + storages(moments)
    assert found.adapter * bytes_of_a_weight(CFG) == held + storages(gradients), "of a part, too"
    assert bytes_of_a_weight(replace(CFG, optimizer="adamw8bit")) == bytes_of_a_weight(CFG) - 6
    assert bytes_of_a_weight(replace(CFG, reference_every=5)) == bytes_of_a_weight(CFG) + 4


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_real_step_has_no_less_alive_than_is_planned_and_less_than_a_block_more(
    checkpointing: bool, flux: FluxGenerator, tmp_path: Path
) -> None:
    cfg = replace(CFG, gradient_checkpointing=checkpointing)
    trainer = trainer_of(flux, replace(cfg, gradient_checkpointing=True), tmp_path)  # attention as on a GPU
    set_checkpointing(flux.network, checkpointing)
    rows = trainer.encoder.rows(np.array([1, 2]))
    tokens = torch.cat([rows.winners, rows.losers]).float()
    captions = tuple(torch.cat([part, part]) for part in rows.captions)
    sigma = torch.rand(4)
    alive = Alive()
    alive.known |= {p.untyped_storage()._cdata for p in flux.network.parameters()}  # of which views are made
    with alive:
        out = flux.velocity(tokens, tokens, captions, sigma)
        gradients = torch.autograd.grad(out.square().mean(), trainer.parameters)
    set_checkpointing(flux.network, False)
    assert len(gradients) == len(trainer.parameters)
    found = counted(flux, cfg).kept
    working = counted(flux, replace(CFG, gradient_checkpointing=False)).kept  # of two blocks, of which one is at work
    assert found <= alive.peak < found + 0.6 * working


def test_many_blocks_keep_what_is_counted_of_few() -> None:
    tiny: dict[str, Any] = DEFAULTS | {
        "in_channels": 128,
        "out_channels": 64,
        "num_attention_heads": 1,
        "guidance_embeds": True,
    }
    image = ImageConfig(64, 64)
    for double, single in ((3, 5), (1, 4), (5, 0), (0, 5)):
        config = tiny | {"num_layers": double, "num_single_layers": single}
        whole = _count(config, image, CFG, 2, torch.bfloat16)
        assert count_flow_dpo(config, image, CFG, 2, torch.bfloat16) == whole


def test_a_plan_of_flux_adds_up() -> None:
    found, painting = training_plan(*SECTIONS), plan(FLUX.generator, FLUX.image)
    assert found and painting
    assert found.parts["network"] == pytest.approx(painting.parts["transformer"])
    weights = (19 * 4 + 38 * 3) * 2 * 3072 * 128  # to_q, to_k, to_v of every block, to_out of those with two streams
    assert found.parts["adapter"] == pytest.approx(weights * 20 / 1e9)
    assert found.peak_gb == pytest.approx(sum(found.parts.values()) + RUNTIME_GB)
    assert "encoders" not in found.parts
    whole = training_plan(*SECTIONS[:2], replace(FLUX.alignment, gradient_checkpointing=False))
    assert whole and whole.parts["activations"] > 10 * found.parts["activations"]
    beside = training_plan(*SECTIONS[:2], replace(FLUX.alignment, latent_cache=False))
    assert beside and beside.parts["encoders"] == pytest.approx(2 * (4.76 + 0.12 + 0.08))
    nf4 = training_plan(replace(FLUX.generator, precision="nf4"), *SECTIONS[1:])
    assert nf4 and nf4.parts["network"] == pytest.approx(6.66 + 2 * 0.067)


def test_the_architecture_of_a_folder_is_read_from_it(flux: FluxGenerator) -> None:
    cfg = replace(flux.cfg, control_lora_path=None)
    found = training_plan(cfg, ImageConfig(128, 128), CFG)
    assert found and found.parts["activations"] == pytest.approx(counted(flux, CFG).kept / 1e9)
    assert training_plan(replace(cfg, model_path="owner/model"), FLUX.image, CFG) is None
    assert training_plan(replace(FLUX.generator, precision="fp8"), *SECTIONS[1:]) is None
    zimage = load_profile("zimage")
    assert training_plan(zimage.generator, zimage.image, CFG) is None


def test_what_does_not_fit_is_refused_in_one_line_with_the_least_that_would() -> None:
    generator, image, cfg = SECTIONS
    with pytest.raises(
        AlignmentError, match=r"has 25\.8 GB: --set generator\.precision=int8 needs .* other images"
    ) as found:
        require_training_room(*SECTIONS, 24 * GIB)
    assert "\n" not in str(found.value)
    require_training_room(*SECTIONS, 48 * GIB)
    require_training_room(*SECTIONS, None)
    require_training_room(generator, image, replace(cfg, method="none"), 1.0)
    require_training_room(replace(generator, device="cpu"), image, cfg, 1.0)
    crowded = replace(cfg, gradient_checkpointing=False, micro_pairs=4)
    with pytest.raises(AlignmentError, match=r"51\.5 GB: --set alignment\.gradient_checkpointing=true needs"):
        require_training_room(generator, image, crowded, 48 * GIB)
    with pytest.raises(AlignmentError, match="no setting fits"):
        require_training_room(*SECTIONS, 8.0)
    fits = fitting_training(generator, image, crowded, 48 * GIB)
    assert fits and fits[0].peak_gb <= 48 * GIB and fits[0].pairs == 4


def test_a_number_of_pairs_that_is_not_configured_is_found_and_not_refused() -> None:
    generator = replace(FLUX.generator, batch_size=64)
    many = replace(FLUX.alignment, micro_pairs=0, gradient_checkpointing=False)
    begun, least = (training_plan(generator, FLUX.image, replace(many, micro_pairs=pairs)) for pairs in (0, 1))
    assert begun and least and begun.pairs == 32 and begun.peak_gb > 48 * GIB > least.peak_gb
    require_training_room(generator, FLUX.image, many, 48 * GIB)
    with pytest.raises(AlignmentError, match="micro_pairs=32"):
        require_training_room(generator, FLUX.image, replace(many, micro_pairs=32), 48 * GIB)


def test_cards_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = training_on_cards(*SECTIONS)
    assert [part.split(":")[0] for part in said.split("; ")] == ["24 GiB", "48 GiB", "80 GiB"]
    monkeypatch.setattr(module, "_counted", lambda *_: (10**12, 0))
    assert training_on_cards(*SECTIONS).count("does not fit") == 3
