"""LoRAs merged into the base model: the sums by hand, digests, and files that are refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel, ZImageTransformer2DModel
from safetensors.torch import load_file, save_file

from posedreamer_assets.config import GeneratorConfig, MergedLora, Profile, load_profile
from posedreamer_assets.diffusion.adapters import base_layers
from posedreamer_assets.diffusion.backend import PipelineGenerator
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.diffusion.memory import plan
from posedreamer_assets.diffusion.sources import needs
from posedreamer_assets.errors import BackendError, ConfigError
from posedreamer_assets.runtime.freshness import setting
from posedreamer_assets.runtime.outside_files import file_digest
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_control_lora, save_tiny_flux, save_tiny_sdxl
from posedreamer_assets_tests.diffusion.production_zimage import save_tiny_controlnet, save_tiny_zimage

# diffusers hands tensors to NumPy in a way that NumPy 2 will stop accepting.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NAME = "pytorch_lora_weights.safetensors"


def save_lora(base: Path, kind: Any, part: str, file: Path, seed: int, layers: str = "to_") -> dict[str, torch.Tensor]:
    """A LoRA of rank 3 of all layers with such a name, with alphas as they are trained; its products by layer."""
    network = kind.from_pretrained(str(base / part))
    drawn = torch.Generator().manual_seed(seed)
    state, products = {}, {}
    for name, layer in base_layers(network).items():
        if layers in name and isinstance(layer, torch.nn.Linear):
            down, up = (
                0.2 * torch.randn(s, generator=drawn) for s in ((3, layer.in_features), (layer.out_features, 3))
            )
            state |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
            products[name] = up @ down
    assert len(products) > 3
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file)
    return products


def save_flux(folder: Path) -> GeneratorConfig:
    save_tiny_flux(folder / "base")
    lora = save_tiny_control_lora(folder / "base", folder / "control")
    return GeneratorConfig("flux", str(folder / "base"), str(lora), guidance=3.5)


def save_sdxl(folder: Path) -> GeneratorConfig:
    save_tiny_sdxl(folder / "base", folder / "control")
    return GeneratorConfig("sdxl", str(folder / "base"), str(folder / "control"), guidance=5.0)


def save_zimage(folder: Path) -> GeneratorConfig:
    save_tiny_zimage(folder / "base")
    return GeneratorConfig("zimage", str(folder / "base"), str(save_tiny_controlnet(folder / "control")), guidance=0.0)


KINDS: dict[str, tuple[Callable[[Path], GeneratorConfig], Any, str]] = {
    "flux": (save_flux, FluxTransformer2DModel, "transformer"),
    "sdxl": (save_sdxl, UNet2DConditionModel, "unet"),
    "zimage": (save_zimage, ZImageTransformer2DModel, "transformer"),
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], GeneratorConfig]:
    made: dict[str, GeneratorConfig] = {}

    def config(backend: str) -> GeneratorConfig:
        if backend not in made:
            cfg = KINDS[backend][0](tmp_path_factory.mktemp(backend))
            made[backend] = replace(cfg, steps=2, device="cpu", dtype="float32")
        return made[backend]

    return config


def load(cfg: GeneratorConfig) -> PipelineGenerator:
    generator = load_generator(cfg, IMAGE)
    assert isinstance(generator, PipelineGenerator)
    return generator


def weights(generator: PipelineGenerator) -> dict[str, torch.Tensor]:
    return {name: layer.weight.detach().clone() for name, layer in base_layers(generator.network).items()}  # type: ignore[operator]


@pytest.mark.parametrize("backend", list(KINDS))
def test_weights_are_the_bases_plus_each_product_times_its_weight(
    configs: Callable[[str], GeneratorConfig], backend: str, tmp_path: Path
) -> None:
    plain, (_, kind, part) = configs(backend), KINDS[backend]
    files = [tmp_path / "few_steps.safetensors", tmp_path / "folder" / NAME]
    products = [save_lora(Path(str(plain.model_path)), kind, part, file, seed) for seed, file in enumerate(files)]
    loras = (MergedLora(str(files[0]), 0.75), MergedLora(str(files[1].parent), -0.5))
    base, merged, turned = load(plain), load(replace(plain, loras=loras)), load(replace(plain, loras=loras[::-1]))
    assert merged.network.state_dict().keys() == base.network.state_dict().keys()
    before, after, other = weights(base), weights(merged), weights(turned)
    for name, weight in before.items():
        added = sum(
            lora.weight * by_layer.get(name, torch.zeros(())) for lora, by_layer in zip(loras, products, strict=True)
        )
        assert torch.allclose(after[name], weight + added, atol=1e-6), name
        assert torch.allclose(after[name], other[name], atol=1e-6)
    changed = [name for name, weight in before.items() if not torch.equal(weight, after[name])]
    assert set(changed) == set(products[0])
    _, controls, captions = draw_discs(1)
    images = [one.generate(controls, captions, [1]).astype(int) for one in (base, merged, turned)]
    assert np.abs(images[1] - images[2]).max() <= 1 < np.abs(images[0] - images[1]).max()


def test_a_dpo_adapter_goes_on_top_and_lower_precision_comes_after(
    configs: Callable[[str], GeneratorConfig], tmp_path: Path
) -> None:
    plain = configs("flux")
    file = tmp_path / "few.safetensors"
    save_lora(Path(str(plain.model_path)), FluxTransformer2DModel, "transformer", file, 0)
    dpo = tmp_path / "dpo" / NAME
    save_lora(Path(str(plain.model_path)), FluxTransformer2DModel, "transformer", dpo, 1)
    cfg = replace(plain, loras=(MergedLora(str(file)),))
    few = load(cfg)
    _, controls, captions = draw_discs(1)
    rows = controls, captions, [1]
    alone = few.generate(*rows)
    both = few.generate(*rows, adapter_path=dpo).astype(int)
    assert np.array_equal(few.generate(*rows), alone)
    at_once = load(replace(cfg, loras=(MergedLora(str(file)), MergedLora(str(dpo))))).generate(*rows)
    assert np.abs(both - at_once).max() <= 1 < np.abs(both - alone).max()
    name = "transformer_blocks.0.attn.to_q"
    lowered = weights(load(replace(cfg, precision="fp8")))[name]
    assert torch.equal(lowered, weights(load(replace(cfg, bake=True)))[name].to(torch.float8_e4m3fn))
    assert not torch.equal(lowered, weights(load(replace(plain, bake=True)))[name].to(torch.float8_e4m3fn))


def test_a_merged_file_in_kohyas_layout_is_scaled_by_its_alpha(
    configs: Callable[[str], GeneratorConfig], tmp_path: Path
) -> None:
    plain = configs("sdxl")
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    side = weights(load(plain))[layer].shape[0]
    down, up = torch.randn(2, side), torch.randn(side, 2)
    key = f"lora_unet_{layer.replace('.', '_')}"
    file = tmp_path / "kohya.safetensors"
    save_file({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(1.0)}, file)
    merged = weights(load(replace(plain, loras=(MergedLora(str(file), 0.5),))))
    expected = weights(load(plain))[layer] + 0.5 * (1 / 2) * up @ down
    assert torch.allclose(merged[layer], expected, atol=1e-6)


def refused(cfg: GeneratorConfig, path: Path, message: str) -> None:
    with pytest.raises(BackendError, match=message) as found:
        load(replace(cfg, loras=(MergedLora(str(path)),)))
    assert "\n" not in str(found.value)


def test_what_does_not_belong_to_the_network_is_refused(
    configs: Callable[[str], GeneratorConfig], tmp_path: Path
) -> None:
    plain = configs("flux")
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_lora(Path(str(plain.model_path)), FluxTransformer2DModel, "transformer", good, 0)
    state = load_file(good)
    layer = "transformer.transformer_blocks.0.attn.to_q"

    ones = torch.ones(3, 32), torch.ones(32, 3)
    far = {f"{layer.replace('.0.', '.7.')}.lora_{half}.weight": value for half, value in zip("AB", ones, strict=True)}
    save_file(state | far, bad)
    refused(plain, bad, "of another model")
    save_file(state | {f"{layer}.lora_A.weight": torch.ones(3, 5)}, bad)
    refused(plain, bad, r"bad\.safetensors")
    save_file(state | {"text_encoder.layers.0.lora_A.weight": ones[0]}, bad)
    refused(plain, bad, r"text_encoder\.layers\.0\.lora_A\.weight is no LoRA of the transformer")
    save_file(state | {f"{layer}.dora_scale": torch.ones(32)}, bad)
    refused(plain, bad, "DoRA")
    bad.write_bytes(b"none")
    refused(plain, bad, "not a safetensors file")
    refused(plain, tmp_path / "absent.safetensors", "no LoRA adapter at")
    refused(plain, Path(str(plain.control_lora_path)), "a control LoRA")


def test_a_file_is_digested_by_its_bytes_and_a_hub_name_by_its_revision(
    configs: Callable[[str], GeneratorConfig], tmp_path: Path
) -> None:
    plain = configs("flux")
    file, moved, other = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "c"))
    for seed, one in ((0, file), (1, other)):
        save_lora(Path(str(plain.model_path)), FluxTransformer2DModel, "transformer", one, seed)
    shutil.copy(file, moved)

    def made_from(*loras: MergedLora) -> tuple[object, object]:
        profile = replace(Profile(), generator=replace(plain, loras=loras))
        return setting(profile, "generator"), file_digest(profile, "generator")

    def painted_with(*loras: MergedLora) -> str:
        return load(replace(plain, loras=loras)).digest

    for digest_of in (made_from, painted_with):
        first = digest_of(MergedLora(str(file)))
        assert digest_of(MergedLora(str(moved))) == first
        different = [(), (MergedLora(str(other)),), (MergedLora(str(file), 0.5),)]
        digests = [first, *(digest_of(*loras) for loras in different)]
        assert len({str(one) for one in digests}) == len(digests)
    without = replace(Profile(), generator=plain)
    assert "loras" not in setting(without, "generator")
    hub = [made_from(MergedLora("owner/few-steps", 1.0, revision)) for revision in (None, "v1", "v2")]
    assert len({str(one) for one in hub}) == 3


def test_merged_loras_take_no_memory_and_are_asked_for_before_a_run(tmp_path: Path) -> None:
    profile = load_profile("zimage", {"generator.loras": [{"path": "owner/few/steps.safetensors", "revision": "v1"}]})
    (*models, lora) = needs(profile.generator)
    assert len(models) == 2 and lora.name == "owner/few/steps.safetensors"
    assert (lora.here, lora.revision, sum(lora.gigabytes.values())) == (False, "v1", 0.0)
    with_lora, without = (plan(cfg, profile.image) for cfg in (profile.generator, replace(profile.generator, loras=())))
    assert with_lora and without and with_lora.peak_gb == without.peak_gb
    file = tmp_path / "steps.safetensors"
    save_file({"w": torch.zeros(4)}, file)
    here = needs(replace(profile.generator, loras=(MergedLora(str(file)),)))[-1]
    assert here.here and sum(here.gigabytes.values()) == 0.0


def test_loras_of_the_pocket_generator_and_without_a_path_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"generator\.loras is for large generators"):
        load_profile("pocket", {"generator.loras": [{"path": "x.safetensors"}]})
    with pytest.raises(ConfigError, match="each needs a path"):
        load_profile("zimage", {"generator.loras": [{"weight": 1.0}]})
