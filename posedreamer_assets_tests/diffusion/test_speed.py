"""Compiled blocks and attention of other libraries, on a tiny FLUX."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.diffusion import speed
from posedreamer_assets.diffusion.backend import PipelineGenerator
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.errors import BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_control_lora, save_tiny_flux, save_tiny_sdxl

# torch's compiler asks for the mode of matrix products by a name that is going to be removed.
COMPILING = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GeneratorConfig:
    folder = tmp_path_factory.mktemp("flux")
    save_tiny_flux(folder / "base")
    lora = save_tiny_control_lora(folder / "base", folder / "control")
    return GeneratorConfig(
        "flux", str(folder / "base"), str(lora), steps=2, guidance=3.5, device="cpu", dtype="float32", bake=True
    )


def load(cfg: GeneratorConfig) -> PipelineGenerator:
    generator = load_generator(cfg, IMAGE)
    assert isinstance(generator, PipelineGenerator)
    return generator


def paint(generator: PipelineGenerator) -> np.ndarray:
    _, controls, captions = draw_discs(2)
    return generator.generate(controls, captions, [1, 2]).astype(int)


@COMPILING
@pytest.mark.parametrize(
    ("compiler", "precision"),
    [("eager", "bf16"), ("eager", "fp8"), pytest.param("inductor", "bf16", marks=pytest.mark.slow)],
)
def test_the_blocks_that_repeat_are_compiled_and_nothing_else(
    config: GeneratorConfig, compiler: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler == "inductor" and not shutil.which("g++"):
        pytest.skip("no compiler of C++")
    monkeypatch.setattr(speed, "COMPILER", compiler)
    torch._dynamo.reset()
    config = replace(config, precision=precision)  # type: ignore[arg-type]
    plain, fast = load(config), load(replace(config, compile=True))
    compiled = {name for name, module in fast.network.named_modules() if module._compiled_call_impl is not None}
    assert compiled == {"transformer_blocks.0", "single_transformer_blocks.0"}
    assert np.abs(paint(fast) - paint(plain)).max() <= 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert fast.digest == plain.digest


def test_another_attention_is_that_of_this_network_alone(config: GeneratorConfig) -> None:
    before = _AttentionBackendRegistry.get_active_backend()
    usual, native = load(config), load(replace(config, attention="native"))
    assert _AttentionBackendRegistry.get_active_backend() == before

    def backends(generator: PipelineGenerator) -> set[object]:
        return {
            getattr(m.processor, "_attention_backend", None)
            for m in generator.network.modules()
            if hasattr(m, "processor")
        }

    assert backends(usual) == {None} and {str(getattr(b, "value", b)) for b in backends(native)} == {"native"}
    assert np.array_equal(paint(usual), paint(native))


def test_an_attention_that_is_not_installed_or_has_no_place_is_refused(config: GeneratorConfig, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"attention sage needs the package sageattention: .*; or set auto") as found:
        load(replace(config, attention="sage"))
    assert "\n" not in str(found.value)
    save_tiny_sdxl(tmp_path / "base", tmp_path / "depth")
    sdxl = replace(config, backend="sdxl", model_path=str(tmp_path / "base"), control_lora_path=str(tmp_path / "depth"))
    with pytest.raises(BackendError, match="attention native: this backend's networks have PyTorch's alone"):
        load(replace(sdxl, attention="native"))
