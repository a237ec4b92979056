"""A GPU whose memory ends: smaller blocks, the same images, and a size that is remembered; a fake device stands for the GPU."""

import gc
import json
import logging
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from posedreamer_assets.config import GeneratorConfig, ImageConfig, Profile, cache_folder, load_profile
from posedreamer_assets.diffusion import backend
from posedreamer_assets.diffusion.backend import PipelineGenerator, settled
from posedreamer_assets.diffusion.memory import chosen_rows, plan, possible
from posedreamer_assets.diffusion.remembered import FILE, remember_rows, remembered_rows
from posedreamer_assets.errors import BackendError, ConfigError
from posedreamer_assets.progress import watching
from posedreamer_assets.runtime.freshness import setting

IMAGE = ImageConfig(width=8, height=8)
GPU = torch.device("cuda")
CONFIG = GeneratorConfig(backend="zimage", batch_size=8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "posedreamer"


class Parts(DiffusionPipeline):
    """Two networks that do nothing."""

    def __init__(self) -> None:
        super().__init__()
        part: Any = torch.nn.Linear(1, 1)
        self.register_modules(transformer=part, text_encoder=part)
        self.scheduler = None


class Crowded(PipelineGenerator):
    """Has room for so many rows; an image is a sum of its control, caption and noise."""

    text_parts = ("text_encoder",)
    painting_parts = ("transformer",)

    def __init__(self, cfg: GeneratorConfig, room: int, parks: bool = False) -> None:
        super().__init__(Parts(), cfg, IMAGE, "weights")
        self.device, self.room, self.parks = GPU, room, parks
        self.blocks: list[list[int]] = []
        self.embedded: list[list[str]] = []

    @property
    def network_name(self) -> str:
        return "transformer"

    def _place(self, aside: tuple[str, ...], at_work: tuple[str, ...]) -> None:
        assert set(aside) | set(at_work) == {"transformer", "text_encoder"}

    def _type_of(self, part: str) -> str:
        return "cuda"

    def embed_ahead(self, captions: Any) -> None:
        self.embedded.append(list(captions))

    def forget_embedded(self) -> None:
        self.embedded.append([])

    def run_block(
        self, pipeline: Any, controls: np.ndarray, captions: list[str], noise: list[Any], control_strength: float
    ) -> np.ndarray:
        if len(controls) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore of it.")
        self.blocks.append([one.initial_seed() for one in noise])
        drawn = [
            int(torch.randint(0, 99, (), generator=one)) + len(text) for one, text in zip(noise, captions, strict=True)
        ]
        return controls + np.array(drawn, np.uint8)[:, None, None, None]


def rows(n: int) -> tuple[np.ndarray, list[str], list[int]]:
    controls = np.random.default_rng(0).integers(0, 99, (n, 8, 8, 3), np.uint8)
    return controls, ["word " * (i % 3) for i in range(n)], [100 + i for i in range(n)]


@pytest.mark.parametrize("parks", [False, True])
def test_rows_that_do_not_fit_are_painted_in_smaller_blocks_each_once(
    parks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    crowded, roomy = Crowded(CONFIG, 2, parks), Crowded(CONFIG, 8)
    told: list[int] = []
    sink: Any = SimpleNamespace(advance=lambda n, note="": told.append(n))
    with watching(sink), caplog.at_level(logging.WARNING):
        painted = crowded.generate(*rows(11))
    assert np.array_equal(painted, roomy.generate(*rows(11)))
    assert roomy.blocks == [[100, 101, 102, 103, 104, 105, 106, 107], [108, 109, 110] + 5 * [110]]
    assert crowded.blocks == [[100, 101], [102, 103], [104, 105], [106, 107], [108, 109], [110, 110]]
    assert told == [2, 2, 2, 2, 2, 1]
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(": ")[1] for text in said] == [
        "the GPU's memory is too small for 8 images together, 4 from now on",
        "the GPU's memory is too small for 4 images together, 2 from now on",
    ]
    assert crowded.cfg.batch_size == 2 and roomy.cfg.batch_size == 8


def test_what_was_painted_before_is_not_painted_again() -> None:
    crowded = Crowded(CONFIG, 8)
    run_block, calls = crowded.run_block, iter([8, 1])

    def fuller(*args: Any) -> np.ndarray:
        crowded.room = next(calls, 4)
        return run_block(*args)

    crowded.run_block = fuller  # type: ignore[method-assign]
    painted = crowded.generate(*rows(16))
    assert crowded.blocks == [list(range(100, 108)), list(range(108, 112)), list(range(112, 116))]
    assert np.array_equal(painted, Crowded(CONFIG, 8).generate(*rows(16)))


def test_a_single_image_without_room_is_one_error_with_the_remedy() -> None:
    with pytest.raises(
        BackendError, match=r"too small for a single image \(CUDA out of memory\.\): set generator\.memory"
    ) as found:
        Crowded(CONFIG, 0).generate(*rows(3))
    assert "\n" not in str(found.value)


def test_memory_of_what_did_not_fit_is_free_before_it_is_tried_again() -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    crowded = Crowded(CONFIG, 4)
    run_block = crowded.run_block

    def greedy(*args: Any) -> np.ndarray:
        alive.extend(ref() is not None for ref in held)
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        return run_block(*args)

    crowded.run_block = greedy  # type: ignore[method-assign]
    gc.disable()  # what a cycle holds until somebody collects it is not free
    try:
        crowded.generate(*rows(4))
    finally:
        gc.enable()
    assert alive == [False]


def test_the_size_that_fitted_is_where_the_next_one_begins(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "resolve_device", lambda _: GPU)
    assert settled(CONFIG, IMAGE).batch_size == 8
    Crowded(CONFIG, 2).generate(*rows(5))
    assert settled(CONFIG, IMAGE).batch_size == 2
    assert settled(replace(CONFIG, batch_size=16), IMAGE).batch_size == 2
    assert settled(replace(CONFIG, batch_size=1), IMAGE).batch_size == 1
    for other in (replace(CONFIG, precision="fp8"), replace(CONFIG, memory="park_text")):
        assert settled(other, IMAGE).batch_size == 8
    assert settled(CONFIG, ImageConfig(width=16, height=8)).batch_size == 8
    assert list(json.loads((cache / FILE).read_text()).values()) == [2]
    (cache / FILE).write_text("no JSON")
    assert settled(CONFIG, IMAGE).batch_size == 8


def test_two_configurations_are_remembered_beside_each_other_and_a_full_disk_is_no_end(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(CONFIG, compile=True)
    remember_rows(CONFIG, IMAGE, GPU, 4)
    remember_rows(other, IMAGE, GPU, 2)
    assert (remembered_rows(CONFIG, IMAGE, GPU), remembered_rows(other, IMAGE, GPU)) == (4, 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / FILE))
    assert cache_folder().parent == cache / FILE
    remember_rows(CONFIG, IMAGE, GPU, 1)
    assert "not remembered" in caplog.text


def test_auto_is_the_largest_block_whose_plan_fits() -> None:
    profile = load_profile("zimage", {"generator.batch_size": "auto"})
    cfg, image = profile.generator, profile.image
    assert cfg.batch_size == "auto" and cfg.block == 1
    assert chosen_rows(cfg, image, None) == 1
    found = {card: chosen_rows(cfg, image, card * 2**30 / 1e9) for card in (24, 48, 80)}
    for card, count in found.items():
        room = card * 2**30 / 1e9
        memory = "park_text" if card == 24 else "resident"
        fits, larger = (plan(replace(cfg, memory=memory, batch_size=n), image) for n in (count, 2 * count))
        assert fits and fits.peak_gb <= room
        assert larger and (larger.peak_gb > room or count == 64)
    assert found[24] < found[48] < found[80]
    assert chosen_rows(replace(cfg, batch_size=3), image, 1e3) == 3
    unknown = replace(cfg, model_path="owner/model")
    assert possible(unknown, image) == [] and chosen_rows(unknown, image, 30.0) == 16


def test_no_size_of_blocks_changes_what_rows_are_made_from() -> None:
    def made_from(batch: int | str) -> Any:
        return setting(load_profile("pocket", {"generator.batch_size": batch}), "generator")

    assert made_from(1) == made_from(16) == made_from("auto")
    assert setting(Profile(), "generator") == made_from(16)


@pytest.mark.parametrize("batch", [0, "many", 1.5, True])
def test_other_sizes_are_refused(batch: object) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        load_profile("pocket", {"generator.batch_size": batch})
