"""A GPU whose memory ends in training: smaller parts, the same weights, and a size that is remembered; a full one is faked."""

import gc
import json
import logging
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posedreamer_assets.config import AlignmentConfig
from posedreamer_assets.diffusion import together as module
from posedreamer_assets.diffusion.control_training import ControlTrainer, ControlTraining, train_control
from posedreamer_assets.diffusion.dpo import DpoTrainer, train_dpo
from posedreamer_assets.diffusion.flux import FluxGenerator
from posedreamer_assets.diffusion.generator import load_base
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.diffusion.remembered import FILE
from posedreamer_assets.diffusion.together import Together
from posedreamer_assets.errors import AlignmentError, ControlTrainingError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs, tiny_config
from posedreamer_assets_tests.diffusion.production import without_control
from posedreamer_assets_tests.diffusion.test_control_training import discs

GPU = torch.device("cuda")
SMALL = torch.OutOfMemoryError("CUDA out of memory.\nMore of it.")
DPO = AlignmentConfig(
    batch_size=8,
    steps=4,
    max_epochs=100.0,
    eval_every=2,
    lora_rank=2,
    learning_rate=5e-3,
    half_images=False,
    micro_pairs=4,
)
CONTROL = ControlTraining(steps=4, batch_size=8, rank=2, learning_rate=1e-2, warmup_steps=2, micro_rows=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "posedreamer"


def pairs() -> PairData:
    images, controls, captions = draw_discs(12)
    return PairData.of_images(controls, images, 255 - images, captions, np.arange(12) < 3)


class Room:
    """Lets a generator predict velocities of so many images together; `rows` of each call that went through are kept."""

    def __init__(self, generator: FluxGenerator, room: int) -> None:
        self.room, self.rows, self.inner = room, list[int](), generator.velocity
        self.before: Callable[[], None] = lambda: None
        generator.velocity = self  # type: ignore[assignment]

    def __call__(self, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        self.before()
        if len(tokens) > self.room:
            raise torch.OutOfMemoryError(str(SMALL))
        self.rows.append(len(tokens))
        return self.inner(tokens, *rest)


def weights(trainer: DpoTrainer | ControlTrainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainer.parameters]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("posedreamer_assets")]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(*both) for both in zip(a, b, strict=True))


@pytest.fixture
def another(tiny_folder: Path) -> Callable[[], PocketGenerator]:
    return lambda: PocketGenerator.load(tiny_config(tiny_folder), IMAGE)


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Callable[[], FluxGenerator]:
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    without_control(folder)
    return lambda: load_base(tiny_config(folder), IMAGE)  # type: ignore[return-value]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_is_that_of_a_run_that_began_with_fewer_pairs(
    checkpointing: bool, another: Callable[[], PocketGenerator], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = replace(DPO, gradient_checkpointing=checkpointing)
    few = train_dpo(pairs(), another(), replace(cfg, micro_pairs=2), 3, tmp_path / "few")
    crowded = another()
    room = Room(crowded, 4)
    with caplog.at_level(logging.WARNING):
        found = train_dpo(pairs(), crowded, cfg, 3, tmp_path / "crowded")
    assert max(room.rows) == 4, "two pairs"
    assert found.steps == few.steps and found.validations == few.validations
    assert found.adapter_path.read_bytes() == few.adapter_path.read_bytes()
    many = train_dpo(pairs(), another(), cfg, 3, tmp_path / "many")
    assert found.best_validation_loss == pytest.approx(many.best_validation_loss, rel=1e-4)
    assert messages(caplog) == [
        "Flow-DPO: the GPU's memory is too small for 4 pairs together, 2 from now on: CUDA out of memory."
    ]


def test_a_control_lora_is_that_of_a_run_that_began_with_fewer_images(
    base: Callable[[], FluxGenerator], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = train_control(discs(12), base(), replace(CONTROL, micro_rows=1), tmp_path / "few")
    crowded = base()
    room = Room(crowded, 1)
    with caplog.at_level(logging.WARNING):
        found = train_control(discs(12), crowded, CONTROL, tmp_path / "crowded")
    assert set(room.rows) == {1}, "three are held out, and all of them were tried first"
    assert (found.loss_before, found.loss_after) == (few.loss_before, few.loss_after)
    assert found.file.read_bytes() == few.file.read_bytes()
    assert messages(caplog) == [
        "control training: the GPU's memory is too small for 3 images together, 1 from now on: CUDA out of memory."
    ]


@pytest.mark.parametrize("kind", ["dpo", "control"])
def test_a_step_whose_memory_ends_half_way_is_done_anew_with_the_same_noise(
    kind: str, another: Callable[[], PocketGenerator], base: Callable[[], FluxGenerator], tmp_path: Path
) -> None:
    """Gradients of the parts that fitted are thrown away; the step before went through in larger parts."""

    def trainer_of(generator: Any) -> DpoTrainer | ControlTrainer:
        if kind == "dpo":
            return DpoTrainer(pairs(), generator, DPO, 0, tmp_path)
        return ControlTrainer(discs(12), generator, CONTROL)

    def parts_of(trainer: DpoTrainer | ControlTrainer) -> Together:
        return trainer.together if isinstance(trainer, DpoTrainer) else trainer.loss.together

    new: Callable[[], FluxGenerator] = another if kind == "dpo" else base
    crowded, roomy = new(), new()
    tight, told = trainer_of(crowded), trainer_of(roomy)
    assert tight.step(1) == told.step(1)
    assert equal(weights(tight), weights(told))
    room = Room(crowded, 99)
    calls = iter(range(99))
    images = 2 if kind == "dpo" else 1  # a row
    last = 3 if kind == "dpo" else 1  # parts that still fit; of dpo, two are the reference's
    room.before = lambda: setattr(room, "room", 99 if next(calls) < last else 2 * images)
    parts_of(told).rows = 2
    assert tight.step(2) == told.step(2)
    assert equal(weights(tight), weights(told))
    assert room.rows == [4 * images] * last + [2 * images] * (8 if kind == "dpo" else 4)
    assert parts_of(tight).rows == 2
    assert torch.equal(tight.noise.get_state(), told.noise.get_state())
    assert tight.step(3) == told.step(3) and equal(weights(tight), weights(told))


def test_parts_that_fit_no_more_after_validation_are_measured_anew(
    another: Callable[[], PocketGenerator], tmp_path: Path
) -> None:
    """What the reference gave for larger parts is of no use for smaller ones."""
    generator = another()
    trainer = DpoTrainer(pairs(), generator, DPO, 0, tmp_path)
    trainer.validate(0)
    Room(generator, 2)
    trainer.step(1)
    other = DpoTrainer(pairs(), another(), replace(DPO, micro_pairs=1), 0, tmp_path)
    other.step(1)
    assert trainer.validate(1) == other.validate(1)


def test_a_single_pair_without_room_is_one_error_with_the_remedies_that_are_left(
    another: Callable[[], PocketGenerator], base: Callable[[], FluxGenerator], tmp_path: Path
) -> None:
    generator = another()
    Room(generator, 1)  # half a pair
    with pytest.raises(
        AlignmentError, match=r"too small for a single pair \(CUDA out of memory\.\): set (.*)$"
    ) as found:
        train_dpo(pairs(), generator, DPO, 0, tmp_path)
    said = str(found.value)
    for setting in ("gradient_checkpointing=true", "optimizer=adamw8bit", "precision=nf4", "a smaller image"):
        assert setting in said
    assert "\n" not in said and "latent_cache" not in said
    assert "dpo" not in getattr(generator.network, "peft_config", {}), "the generator is left as it was"
    generator = another()
    Room(generator, 1)
    with pytest.raises(AlignmentError) as found:
        train_dpo(pairs(), generator, replace(DPO, gradient_checkpointing=True), 0, tmp_path)
    assert "gradient_checkpointing" not in str(found.value)
    generator = base()
    Room(generator, 0)
    with pytest.raises(
        ControlTrainingError, match=r"single image \(CUDA out of memory\.\): set --gradient-checkpointing"
    ):
        train_control(discs(12), generator, CONTROL, tmp_path / "control")


def test_memory_that_ends_elsewhere_is_one_error(
    another: Callable[[], PocketGenerator], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The optimizer's moments are as many whatever goes through together, and a step of it is not done twice."""

    def full(*_: Any, **__: Any) -> None:
        raise SMALL

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(AlignmentError, match=r"too small for encoders and optimizer .*optimizer=adamw8bit"):
        train_dpo(pairs(), another(), DPO, 0, tmp_path)


def test_memory_of_what_did_not_fit_is_free_before_it_is_tried_again(
    another: Callable[[], PocketGenerator], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    generator, held, alive = another(), list[weakref.ref[torch.Tensor]](), list[bool]()
    monkeypatch.setattr(module, "free", lambda: alive.extend(ref() is not None for ref in held))
    trainer = DpoTrainer(pairs(), generator, DPO, 0, tmp_path)
    room = Room(generator, 99)

    def greedy(tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        large = tokens.clone()
        held[:] = [weakref.ref(large)]
        if len(room.rows) == 3:  # of the policy, the second part: the first has left gradients
            room.rows.append(0)
            held.extend(weakref.ref(p.grad) for p in trainer.parameters if p.grad is not None)
            assert len(held) == 1 + len(trainer.parameters)
            raise torch.OutOfMemoryError(str(SMALL))
        found = room(tokens, *rest)
        del large
        return found

    generator.velocity = greedy  # type: ignore[method-assign]
    gc.disable()  # what a cycle holds until somebody collects it is not free
    try:
        trainer.step(1)
    finally:
        gc.enable()
    assert len(alive) > len(trainer.parameters) and not any(alive), "torch can give nothing back that is held"


def crowd(rows: int, settings: dict[str, Any], device: torch.device = GPU) -> Together:
    return Together(
        rows, what="it", noun="rows", device=device, settings=settings, too_large=lambda first: AlignmentError(first)
    )


def test_the_size_that_fitted_is_where_the_next_training_on_such_a_gpu_begins(cache: Path) -> None:
    def work(limit: int, one: Together) -> list[int]:
        sizes = [part.stop - part.start for part in one.parts(10)]
        if max(sizes) > limit:
            raise torch.OutOfMemoryError(str(SMALL))
        return sizes

    first = crowd(8, {"rank": 2})
    assert first.until_it_fits(lambda: work(3, first), lambda: None) == [2] * 5
    assert crowd(8, {"rank": 2}).rows == 2 and crowd(1, {"rank": 2}).rows == 1
    assert crowd(8, {"rank": 4}).rows == 8
    assert crowd(8, {"rank": 2}, torch.device("cpu")).rows == 8, "bits on a CPU depend on nothing that was"
    assert list(json.loads((cache / FILE).read_text()).values()) == [2]


def test_a_batch_that_is_smaller_than_the_parts_is_halved_itself() -> None:
    one, tried = crowd(16, {}), list[int]()

    def work() -> None:
        tried.append(max(part.stop - part.start for part in one.parts(5)))
        if tried[-1] > 1:
            raise torch.OutOfMemoryError(str(SMALL))

    one.until_it_fits(work, lambda: None)
    assert tried == [5, 2, 1]


def test_settings_that_decide_on_memory_have_a_size_of_their_own(
    another: Callable[[], PocketGenerator], tmp_path: Path
) -> None:
    def key(cfg: AlignmentConfig, **changes: Any) -> dict[str, Any]:
        generator = another()
        generator.cfg = replace(generator.cfg, **changes)
        return dict(DpoTrainer(pairs(), generator, cfg, 0, tmp_path).together.settings)

    plain = key(DPO)
    assert plain == key(replace(DPO, learning_rate=1.0, micro_pairs=1)) == key(DPO, batch_size=2)
    assert plain != key(replace(DPO, lora_rank=4))
    assert plain != key(replace(DPO, half_images=True))
    assert plain != key(DPO, precision="nf4")


def test_a_stopped_control_training_goes_on_with_less_memory(base: Callable[[], FluxGenerator], tmp_path: Path) -> None:
    cfg = replace(CONTROL, save_every=1, micro_rows=0)
    whole = train_control(discs(12), base(), cfg, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_control(discs(12, stop_after=4), base(), cfg, tmp_path / "stopped")
    again = train_control(discs(12), base(), replace(cfg, micro_rows=1), tmp_path / "stopped")
    assert again.loss_after == pytest.approx(whole.loss_after, rel=1e-4)
    losses = [json.loads((tmp_path / name / "losses.json").read_text())["losses"] for name in ("whole", "stopped")]
    assert losses[0][:3] == losses[1][:3] and losses[0] == pytest.approx(losses[1], rel=1e-4)
