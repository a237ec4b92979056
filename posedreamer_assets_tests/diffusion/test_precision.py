"""Painting networks in fewer bits, on tiny checkpoints: bytes as planned, images near, LoRA merged before or beside."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    FluxTransformer2DModel,
    UNet2DConditionModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.adapters import AdapterSlot
from posedreamer_assets.diffusion.backend import PipelineGenerator
from posedreamer_assets.diffusion.dpo import train_dpo
from posedreamer_assets.diffusion.flux import FluxGenerator
from posedreamer_assets.diffusion.generator import load_base, load_generator
from posedreamer_assets.diffusion.lowering import is_fp8, lower, move, resident_bytes
from posedreamer_assets.diffusion.memory import plan
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.shares import PRECISIONS, lowered_bytes
from posedreamer_assets.diffusion.sources import KNOWN
from posedreamer_assets.errors import AlignmentError, BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_control_lora, save_tiny_flux, save_tiny_sdxl
from posedreamer_assets_tests.diffusion.production_zimage import save_tiny_controlnet, save_tiny_zimage

# diffusers hands tensors to NumPy in a way that NumPy 2 will stop accepting.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GeneratorConfig]:
    """Tiny checkpoints of the three large backends."""
    folder = tmp_path_factory.mktemp("large")
    save_tiny_flux(folder / "flux")
    save_tiny_zimage(folder / "zimage")
    save_tiny_sdxl(folder / "sdxl", folder / "depth")
    control = {
        "flux": save_tiny_control_lora(folder / "flux", folder / "lora"),
        "zimage": save_tiny_controlnet(folder / "union"),
        "sdxl": folder / "depth",
    }
    return {
        name: GeneratorConfig(
            backend=name,
            model_path=str(folder / name),
            control_lora_path=str(path),
            steps=2,
            guidance=3.5 if name == "flux" else 0.0,
            device="cpu",
            dtype="float32",
        )
        for name, path in control.items()
    }


def load(cfg: GeneratorConfig, **changes: Any) -> PipelineGenerator:
    generator = load_generator(replace(cfg, **changes), IMAGE)
    assert isinstance(generator, PipelineGenerator)
    return generator


def paint(generator: PipelineGenerator, adapter: Path | None = None) -> np.ndarray:
    _, controls, captions = draw_discs(2)
    return generator.generate(controls, captions, [1, 2], adapter_path=adapter).astype(int)


def save_adapter(slot: AdapterSlot, folder: Path) -> Path:
    """A DPO adapter with an effect that is seen, as training writes it."""
    torch.manual_seed(3)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    network = FluxTransformer2DModel.from_config(slot.network.config)  # type: ignore[arg-type]
    network.add_adapter(config, adapter_name="dpo")  # type: ignore[attr-defined]
    state = get_peft_model_state_dict(network, adapter_name="dpo")
    return slot.write(folder, {key: 0.5 * torch.randn_like(value) for key, value in state.items()}, config)


@pytest.mark.parametrize("name", ["flux", "zimage", "sdxl"])
def test_fp8_takes_the_bytes_that_were_planned_and_paints_nearly_the_same(
    configs: dict[str, GeneratorConfig], name: str
) -> None:
    whole, small = load(configs[name]), load(configs[name], precision="fp8")
    images, nearly = paint(whole), paint(small)
    distance = np.abs(nearly - images)
    assert 0 < distance.mean() < 4 and images.std() > 20, "of 255 levels"
    assert np.array_equal(paint(small), nearly), "casting to and fro loses nothing more"
    shapes = {key: tuple(value.shape) for key, value in small.network.state_dict().items()}
    lowered, kept = lowered_bytes(shapes, "fp8")
    assert resident_bytes(small.network) == lowered + 4 * kept
    planned = plan(replace(configs[name], precision="fp8"), IMAGE)
    assert planned and planned.parts[whole.network_name] * 1e9 < 0.9 * resident_bytes(whole.network)
    if name != "flux":  # whose input layer is widened when the control LoRA is loaded
        assert planned.parts[whole.network_name] * 1e9 == pytest.approx(resident_bytes(small.network))
    assert small.name == f"{whole.name}@fp8" and small.digest != whole.digest


def test_fp8_leaves_embeddings_norms_and_their_modulation_as_they_were(configs: dict[str, GeneratorConfig]) -> None:
    network = load(configs["flux"], precision="fp8").network
    lowered = {name for name, layer in network.named_modules() if is_fp8(layer)}
    assert {"transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.proj_mlp"} <= lowered
    assert not any(word in name for name in lowered for word in ("embed", "norm")) and "proj_out" not in lowered
    weights = network.get_parameter("transformer_blocks.0.norm1.linear.weight")
    assert weights.dtype == torch.float32


def test_layers_that_two_networks_share_are_lowered_once(configs: dict[str, GeneratorConfig]) -> None:
    pipeline = load(configs["zimage"], precision="fp8").pipeline
    assert pipeline.controlnet.noise_refiner is pipeline.transformer.noise_refiner
    assert is_fp8(pipeline.controlnet.noise_refiner[0].attention.to_q)
    assert is_fp8(pipeline.controlnet.control_layers[0].attention.to_q)


def test_a_dpo_adapter_beside_fp8_does_what_it_does_beside_full_precision(
    configs: dict[str, GeneratorConfig], tmp_path: Path
) -> None:
    whole, small = load(configs["flux"], bake=True), load(configs["flux"], precision="fp8")
    adapter = save_adapter(whole.adapter, tmp_path)
    before = paint(small)
    wanted, found = paint(whole, adapter), paint(small, adapter)
    effect = np.abs(wanted - paint(whole)).mean()
    assert effect > 1 and np.abs(found - wanted).mean() < 0.3 * effect
    assert np.array_equal(paint(small), before)


def test_a_merged_control_lora_is_the_one_beside_the_layers(configs: dict[str, GeneratorConfig]) -> None:
    beside, merged = load(configs["flux"]), load(configs["flux"], bake=True)
    assert isinstance(beside, FluxGenerator) and isinstance(merged, FluxGenerator)
    assert not hasattr(merged.network, "peft_config")
    assert merged.digest == beside.digest and merged.name == beside.name
    _, controls, captions = draw_discs(2)
    rows, columns = beside.token_grid
    noisy = torch.randn(2, rows * columns, 16, generator=torch.Generator().manual_seed(0))
    of_model = [
        model.velocity(noisy, model.encode_controls(controls), model.encode_captions(captions), torch.full((2,), 0.5))
        for model in (beside, merged)
    ]
    torch.testing.assert_close(of_model[0], of_model[1], rtol=0, atol=1e-3)
    assert of_model[0].abs().max() > 0.1
    assert np.abs(paint(beside) - paint(merged)).max() <= 1


def test_a_merged_adapter_paints_the_same_and_leaves_the_base_bits(
    configs: dict[str, GeneratorConfig], tmp_path: Path
) -> None:
    beside, merged = load(configs["flux"]), load(configs["flux"], bake=True)
    adapter = save_adapter(merged.adapter, tmp_path / "one")
    other = save_adapter(merged.adapter, tmp_path / "two")
    other.write_bytes(other.read_bytes()[:-4] + b"\0\0\0\x3f")
    before = {key: value.clone() for key, value in merged.network.state_dict().items()}
    base = paint(merged)
    for file in (adapter, other):
        found = paint(merged, file)
        assert not any("lora" in key for key in merged.network.state_dict())
        assert np.abs(found - paint(beside, file)).max() <= 1
        assert np.abs(found - base).mean() > 1
    assert np.array_equal(paint(merged), base)
    after = merged.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[key]) for key, value in before.items())


def test_what_cannot_be_trained_over_fp8_is_refused(configs: dict[str, GeneratorConfig], tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="precision fp8: a control LoRA is trained with weights in bf16"):
        load_base(replace(configs["flux"], precision="fp8"), IMAGE)
    images, controls, captions = draw_discs(2)
    pairs = PairData.of_images(controls, images, images, captions, np.array([True, False]))
    with pytest.raises(AlignmentError, match="cannot train over weights in fp8"):
        train_dpo(pairs, load(configs["flux"], precision="fp8"), AlignmentConfig(), 0, tmp_path)


def test_a_missing_bitsandbytes_is_one_line_with_the_remedy(
    configs: dict[str, GeneratorConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        BackendError, match=r'nf4 needs bitsandbytes.*pip install "posedreamer-assets\[quantised\]"'
    ) as found:
        load(configs["sdxl"], precision="nf4")
    assert "\n" not in str(found.value)


def wide_flux() -> FluxTransformer2DModel:
    """A transformer whose layers hold whole blocks of nf4."""
    torch.manual_seed(0)
    network = FluxTransformer2DModel(
        patch_size=1, in_channels=32, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=32,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True,
        axes_dims_rope=(8, 8, 16),
    )  # fmt: skip
    return network.eval().requires_grad_(False)


def run_flux(network: FluxTransformer2DModel) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return network(
        hidden_states=torch.randn(1, 4, 32, generator=draw),
        timestep=torch.full((1,), 0.5),
        guidance=torch.full((1,), 3.5),
        pooled_projections=torch.randn(1, 32, generator=draw),
        encoder_hidden_states=torch.randn(1, 3, 32, generator=draw),
        txt_ids=torch.zeros(3, 3),
        img_ids=torch.zeros(4, 3),
    ).sample


@pytest.mark.parametrize(("precision", "error"), [("int8", 0.05), ("nf4", 0.3)])
def test_layers_of_bitsandbytes_take_the_planned_bytes_and_compute_nearly_the_same(
    precision: str, error: float
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra [quantised] is not installed")
    network, wanted = wide_flux(), run_flux(wide_flux())
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    whole = resident_bytes(network)
    lower([network], precision, torch.float32, CPU)
    lowered, kept = lowered_bytes(shapes, precision)
    assert resident_bytes(network) == lowered + 4 * kept < 0.5 * whole
    with torch.no_grad():
        found = run_flux(network)
    assert 0 < (found - wanted).norm() / wanted.norm() < error
    kind = type(network.get_submodule("transformer_blocks.0.norm1.linear")).__name__
    assert kind == {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[precision]
    assert type(network.x_embedder) is torch.nn.Linear


def test_int8_paints_with_a_control_lora_merged_and_an_adapter_beside(
    configs: dict[str, GeneratorConfig], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra [quantised] is not installed")
    whole, small = load(configs["flux"], bake=True), load(configs["flux"], precision="int8")
    adapter = save_adapter(whole.adapter, tmp_path)
    base, nearly = paint(whole), paint(small)
    assert 0 < np.abs(nearly - base).mean() < 4
    wanted, found = paint(whole, adapter), paint(small, adapter)
    assert np.abs(found - wanted).mean() < 0.3 * np.abs(wanted - base).mean()
    assert np.array_equal(paint(small), nearly)
    move(small.network, CPU)
    assert np.array_equal(paint(small), nearly)


def test_flow_dpo_trains_an_adapter_over_int8(configs: dict[str, GeneratorConfig], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra [quantised] is not installed")
    generator = load(configs["flux"], precision="int8")
    images, controls, captions = draw_discs(4)
    pairs = PairData.of_images(controls, images, 255 - images, captions, np.arange(4) < 1)
    before = paint(generator)
    cfg = AlignmentConfig(batch_size=3, steps=12, eval_every=1, lora_rank=2, learning_rate=1e-2)
    assert train_dpo(pairs, generator, cfg, 0, tmp_path).best_step > 0
    assert np.array_equal(paint(generator), before)
    assert not np.array_equal(paint(generator, tmp_path), before)


def published() -> dict[str, dict[str, torch.nn.Module]]:
    """The architectures behind `KNOWN`, without weights."""
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 2048,
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    up: Any = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    with torch.device("meta"):
        union = ZImageControlNetModel(
            control_layers_places=list(range(0, 30, 2)), control_refiner_layers_places=[0, 1], control_in_dim=33,
            add_control_noise_refiner="control_noise_refiner", dim=3840, n_heads=30, n_kv_heads=30, n_refiner_layers=2,
        )  # fmt: skip
        return {
            "FLUX.1-dev": {"transformer": FluxTransformer2DModel(guidance_embeds=True)},
            "stable-diffusion-xl-base-1.0": {"UNet": UNet2DConditionModel(up_block_types=up, **blocks)},
            "controlnet-depth-sdxl-1.0": {"ControlNet": ControlNetModel(**blocks)},
            "Z-Image-Turbo": {"transformer": ZImageTransformer2DModel()},
            "Z-Image-Turbo-Fun-Controlnet-Union-2.1-8steps.safetensors": {"ControlNet": union},
        }


def test_what_each_precision_makes_of_the_published_models_is_counted_on_their_architectures() -> None:
    known = {name.rpartition("/")[2]: source for name, source in KNOWN.items()}
    for name, parts in published().items():
        assert known[name].lowered.keys() == parts.keys()
        for part, network in parts.items():
            shapes: dict[str, Sequence[int]] = {key: value.shape for key, value in network.state_dict().items()}
            count = sum(parameter.numel() for parameter in network.parameters())
            assert known[name].parameters[part] == pytest.approx(count / 1e9, abs=0.011)
            for precision in PRECISIONS[1:]:
                lowered, kept = lowered_bytes(shapes, precision)
                gigabytes, billions = known[name].lowered[part][precision]
                assert (gigabytes, billions) == (
                    pytest.approx(lowered / 1e9, abs=0.006),
                    pytest.approx(kept / 1e9, abs=6e-4),
                ), (name, part, precision)


def test_a_plan_of_files_counts_what_loading_them_holds(configs: dict[str, GeneratorConfig]) -> None:
    planned = {p: plan(replace(configs["sdxl"], precision=p), ImageConfig(32, 32)) for p in PRECISIONS}
    whole, small = planned["bf16"], planned["fp8"]
    assert whole and small
    assert whole.parts["text_encoder"] == small.parts["text_encoder"] and whole.parts["vae"] == small.parts["vae"]
    assert small.parts["unet"] < 0.4 * whole.parts["unet"]
    merged = plan(replace(configs["flux"], precision="fp8"), IMAGE)
    beside = plan(configs["flux"], IMAGE)
    assert merged and beside
    assert merged.parts["pytorch_lora_weights"] == 0 < beside.parts["pytorch_lora_weights"]
