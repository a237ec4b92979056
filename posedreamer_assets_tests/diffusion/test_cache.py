"""Steps that are left out on a fixed schedule, on a tiny FLUX and a tiny Qwen-Image."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from posedreamer_assets.config import GeneratorConfig, Profile, load_profile
from posedreamer_assets.diffusion.backend import PipelineGenerator
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.runtime.freshness import setting
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs
from posedreamer_assets_tests.diffusion.production import save_tiny_control_lora, save_tiny_flux
from posedreamer_assets_tests.diffusion.production_more import save_tiny_qwenimage

STEPS = 9
Configs = Callable[[str], GeneratorConfig]


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Configs:
    folder = tmp_path_factory.mktemp("cache")
    save_tiny_flux(folder / "flux")
    lora = save_tiny_control_lora(folder / "flux", folder / "lora")
    save_tiny_qwenimage(folder / "qwenimage", folder / "net")

    def config(backend: str) -> GeneratorConfig:
        control = str(lora if backend == "flux" else folder / "net")
        return GeneratorConfig(
            backend, str(folder / backend), control, steps=STEPS, guidance=3.5, device="cpu", dtype="float32"
        )

    return config


def load(cfg: GeneratorConfig) -> PipelineGenerator:
    generator = load_generator(cfg, IMAGE)
    assert isinstance(generator, PipelineGenerator)
    return generator


def calls_of_blocks(generator: PipelineGenerator, rows: Any) -> tuple[np.ndarray, int]:
    """Images, and how often the first attention was computed: a hook of torch's would run for blocks that are left out, too."""
    attention: Any = generator.network.get_submodule("transformer_blocks.0.attn")
    count, forward = 0, attention.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return forward(*args, **kwargs)

    attention.forward = counting
    try:
        return generator.generate(*rows).astype(int), count
    finally:
        attention.forward = forward


@pytest.mark.parametrize(("backend", "passes"), [("flux", 1), ("qwenimage", 2)])
def test_fewer_steps_are_computed_and_images_stay_near(configs: Configs, backend: str, passes: int) -> None:
    plain, cached = load(configs(backend)), load(replace(configs(backend), cache="taylorseer:2"))
    _, controls, captions = draw_discs(1)
    rows = controls, captions, [1]
    whole, all_steps = calls_of_blocks(plain, rows)
    near, some = calls_of_blocks(cached, rows)
    assert (all_steps, some) == (STEPS * passes, len([0, 1, 2, 4, 6, 8]) * passes)
    _, fewest = calls_of_blocks(load(replace(configs(backend), cache="taylorseer:4")), rows)
    assert fewest == len([0, 1, 2, 4, 8]) * passes
    other = plain.generate(controls, captions, [2]).astype(int)
    assert 0 < np.abs(near - whole).mean() < 0.25 * np.abs(other - whole).mean()
    assert np.array_equal(calls_of_blocks(cached, rows)[0], near), "nothing of one call is left to the next"
    assert not cached.network.is_cache_enabled  # type: ignore[union-attr]
    assert cached.name.endswith("@taylorseer:2")


@pytest.mark.parametrize("backend", ["flux", "qwenimage"])
def test_a_row_of_a_block_is_that_row_alone(configs: Configs, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = load(replace(configs(backend), cache="taylorseer:2"))
    _, controls, captions = draw_discs(3)
    alone = cached.generate(controls, captions, [1, 2, 3]).astype(int)
    monkeypatch.setattr(PipelineGenerator, "block_size", 3)
    assert np.abs(cached.generate(controls, captions, [1, 2, 3]) - alone).max() <= 1


def test_after_an_error_the_network_is_whole_again(configs: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    cached, plain = load(replace(configs("flux"), cache="taylorseer:2")), load(configs("flux"))
    _, controls, captions = draw_discs(1)
    with monkeypatch.context() as broken:
        broken.setattr(cached, "run_block", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cached.generate(controls, captions, [1])
    with torch.no_grad():
        models: tuple[Any, ...] = cached, plain  # models of flow, both
        found = [
            one.velocity(
                torch.ones(1, 64, 16), torch.zeros(1, 64, 16), one.encode_captions(captions), torch.tensor([0.5])
            )
            for one in models
            for _ in range(5)
        ]
    assert all(torch.equal(one, found[0]) for one in found)


def test_it_is_content_and_refused_where_it_has_no_place() -> None:
    def made_from(cache: str) -> Any:
        profile = Profile()
        return setting(replace(profile, generator=replace(profile.generator, cache=cache)), "generator")

    assert "cache" not in made_from("none")
    assert made_from("taylorseer:2") != made_from("taylorseer:3") != made_from("none")
    for backend in ("pocket", "sdxl", "zimage", "klein"):
        with pytest.raises(ConfigError, match=f"cache is for flux and qwenimage; found {backend}"):
            load_profile(backend, {"generator.cache": "taylorseer:2"})
    for odd in ("taylorseer", "taylorseer:1", "taylorseer:x", "first_block:2", ""):
        with pytest.raises(ConfigError, match="expected none or taylorseer:N"):
            load_profile("flux", {"generator.cache": odd})
    with pytest.raises(ConfigError, match="set one of the two"):
        load_profile("flux", {"generator.cache": "taylorseer:2", "generator.compile": True})
