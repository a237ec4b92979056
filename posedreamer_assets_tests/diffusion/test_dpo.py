"""Flow-DPO: the loss against closed forms, and what training must and must not change."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets import progress
from posedreamer_assets.config import AlignmentConfig
from posedreamer_assets.diffusion.dpo import DpoTrainer, rate_at, train_dpo
from posedreamer_assets.diffusion.dpo_loss import (
    PairErrors,
    beta_at,
    flow_dpo_loss,
    preference_margin,
    velocity_error,
)
from posedreamer_assets.diffusion.generator import FlowModel
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets_tests.diffusion.conftest import draw_discs

CONFIG = AlignmentConfig(batch_size=4, steps=6, max_epochs=100.0, eval_every=3, lora_rank=2, learning_rate=5e-3)


def make_pairs_data(n: int = 8) -> PairData:
    """The right image wins over its inverse."""
    images, controls, captions = draw_discs(n)
    return PairData.of_images(controls, images, 255 - images, captions, np.arange(n) < 2)


def errors(*values: float) -> PairErrors:
    winner, loser = torch.tensor(values, dtype=torch.float64).reshape(2, -1)
    return PairErrors(winner, loser)


def naive_loss(policy: PairErrors, reference: PairErrors, sigma: torch.Tensor, beta: float) -> list[float]:
    """The formula of the module's docstring, one pair at a time."""
    losses = []
    for win, lose, ref_win, ref_lose, t in zip(*policy, *reference, sigma, strict=True):
        gain = (float(win) - float(ref_win)) - (float(lose) - float(ref_lose))
        losses.append(math.log1p(math.exp(beta * (1 - float(t) ** 2) / 2 * gain)))
    return losses


def test_the_loss_is_that_of_a_naive_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    draw = torch.rand(5, 20, generator=rng, dtype=torch.float64)
    policy, reference = PairErrors(draw[0], draw[1]), PairErrors(draw[2], draw[3])
    found = flow_dpo_loss(policy, reference, draw[4], 7.0)
    assert found.tolist() == pytest.approx(naive_loss(policy, reference, draw[4], 7.0))


def test_equal_policy_and_reference_give_log_2() -> None:
    same = errors(0.3, 0.9, 0.5, 0.1)
    assert flow_dpo_loss(same, same, torch.tensor([0.2, 0.7]), 100.0).tolist() == pytest.approx([math.log(2)] * 2)


def test_swapping_winner_and_loser_flips_the_margin() -> None:
    policy, reference, sigma = errors(0.3, 0.5), errors(0.4, 0.2), torch.tensor([0.5])
    swapped = preference_margin(PairErrors(*policy[::-1]), PairErrors(*reference[::-1]), sigma, 10.0)
    assert swapped.item() == pytest.approx(-preference_margin(policy, reference, sigma, 10.0).item())


def test_a_winner_that_the_policy_fits_better_lowers_the_loss() -> None:
    sigma = torch.tensor([0.0])
    assert preference_margin(errors(0.2, 0.5), errors(0.3, 0.5), sigma, 10.0).item() == pytest.approx(0.5)
    assert flow_dpo_loss(errors(0.2, 0.5), errors(0.3, 0.5), sigma, 10.0).item() < math.log(2)
    assert flow_dpo_loss(errors(0.3, 0.4), errors(0.3, 0.5), sigma, 10.0).item() > math.log(2)


def test_beta_falls_from_beta_at_the_image_to_zero_at_noise() -> None:
    found = beta_at(torch.tensor([0.0, 0.5, 1.0]), 100.0)
    assert found.tolist() == pytest.approx([100.0, 75.0, 0.0])


def test_the_velocity_error_is_a_mean_so_that_beta_does_not_depend_on_the_image_size() -> None:
    for tokens in (8, 64):
        velocity, target, weight = (
            torch.full((1, tokens, 4), 3.0),
            torch.ones(1, tokens, 4),
            torch.full((1, tokens), 7.0),
        )
        assert velocity_error(velocity, target, weight).item() == pytest.approx(4.0)


def test_the_velocity_error_weighs_tokens() -> None:
    rng = torch.Generator().manual_seed(0)
    velocity, target = torch.randn(2, 5, 3, generator=rng), torch.randn(2, 5, 3, generator=rng)
    weight = torch.rand(2, 5, generator=rng)
    naive = [
        sum(weight[i, t] * ((velocity[i, t] - target[i, t]) ** 2).mean() for t in range(5)) / weight[i].sum()
        for i in range(2)
    ]
    torch.testing.assert_close(velocity_error(velocity, target, weight), torch.stack(naive))


def test_the_gradient_pushes_the_winner_error_below_the_loser_error() -> None:
    winner, loser = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    guess, even = torch.zeros(1, 1, 2, requires_grad=True), torch.ones(1, 1)
    reference = PairErrors(velocity_error(guess.detach(), winner, even), velocity_error(guess.detach(), loser, even))
    optimizer = torch.optim.SGD([guess], lr=0.1)
    for _ in range(20):
        policy = PairErrors(velocity_error(guess, winner, even), velocity_error(guess, loser, even))
        optimizer.zero_grad()
        flow_dpo_loss(policy, reference, torch.tensor([0.3]), 5.0).mean().backward()
        optimizer.step()
    assert velocity_error(guess, winner, even).item() < reference.winner.item()
    assert velocity_error(guess, winner, even).item() < velocity_error(guess, loser, even).item()


def test_a_fresh_adapter_has_a_loss_of_exactly_log_2(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    trainer = DpoTrainer(make_pairs_data(), tiny_generator, CONFIG, 0, tmp_path)
    figures = trainer.validate(0)
    assert figures["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert figures["margin"] == 0.0
    assert figures["policy_winner_error"] == figures["reference_winner_error"]


def test_only_the_adapter_learns(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in tiny_generator.transformer.state_dict().items()}
    trainer = DpoTrainer(make_pairs_data(), tiny_generator, CONFIG, 0, tmp_path)
    trainer.step(1)
    after = tiny_generator.transformer.state_dict()
    for name, value in before.items():
        base_name = name if name in after else ".base_layer.".join(name.rsplit(".", 1))
        assert torch.equal(after[base_name], value), name


def test_training_learns_the_preference_and_keeps_the_best_step(
    tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    cfg = replace(CONFIG, steps=12, eval_every=4)
    result = train_dpo(make_pairs_data(), tiny_generator, cfg, 0, tmp_path)
    losses = {v["step"]: v["loss"] for v in result.validations}
    assert list(losses) == [0, 4, 8, 12]
    assert result.best_validation_loss == min(losses.values()) == losses[result.best_step] < math.log(2)
    assert np.mean([step["margin"] for step in result.steps[6:]]) > 0.0
    stored = json.loads((tmp_path / "trajectory.json").read_text())
    assert stored["steps"] == result.steps and stored["best_step"] == result.best_step


@pytest.mark.parametrize(
    ("max_epochs", "steps"), [(0.1, 1), (1.0, 2), (3.0, 5), (9.0, 6)]
)  # 6 training pairs, 4 a step
def test_few_pairs_are_not_shown_too_often(
    max_epochs: float, steps: int, tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    result = train_dpo(make_pairs_data(), tiny_generator, replace(CONFIG, max_epochs=max_epochs), 0, tmp_path)
    assert [step["step"] for step in result.steps] == list(range(1, steps + 1))
    assert result.validations[-1]["step"] == steps


def test_the_written_adapter_is_the_one_that_was_validated(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    pairs = make_pairs_data()
    result = train_dpo(pairs, tiny_generator, CONFIG, 0, tmp_path)
    assert result.best_step > 0
    trainer = DpoTrainer(pairs, tiny_generator, CONFIG, 0, tmp_path)
    trainer.validate(0)  # measures the reference
    tiny_generator.adapter.use(result.adapter_path)
    assert trainer.validate(1)["loss"] == pytest.approx(result.best_validation_loss, abs=1e-6)


def test_several_cores_make_the_same_adapter(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    alone = train_dpo(make_pairs_data(), tiny_generator, CONFIG, 3, tmp_path / "a")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    together = train_dpo(make_pairs_data(), tiny_generator, CONFIG, 3, tmp_path / "b")
    torch.set_num_threads(before)
    assert alone.steps == together.steps
    assert alone.adapter_path.read_bytes() == together.adapter_path.read_bytes()


def test_a_chunk_holds_pairs_of_one_half_image_and_each_pair_once(
    tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    trainer = DpoTrainer(make_pairs_data(), tiny_generator, CONFIG, 0, tmp_path)
    indices = np.array([5, 1, 7, 2, 3, 6])
    chunks = list(trainer._chunks(indices))
    assert sorted(np.concatenate(chunks).tolist()) == list(range(6))
    assert len(chunks) > 1
    for chunk in chunks:
        rows = trainer.encoder.rows(indices[chunk])
        assert len(set(rows.window.tolist())) == 1
        assert rows.winners.shape[1] == trainer.encoder.windows.shape[1]


def test_half_images_keep_their_places(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    """A transformer that saw half the tokens as if they were the first half would answer otherwise."""
    trainer = DpoTrainer(make_pairs_data(), tiny_generator, CONFIG, 0, tmp_path)
    tokens = trainer.encoder.windows[2]
    rows = trainer.encoder.rows(np.array([0]))
    ask = (rows.winners, rows.controls, rows.captions, torch.tensor([0.5]))
    with torch.no_grad():
        placed = tiny_generator.velocity(*ask, tokens)
        moved = tiny_generator.velocity(*ask, trainer.encoder.windows[0])
    assert not torch.allclose(placed, moved)


def test_whole_images_are_one_window(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    trainer = DpoTrainer(make_pairs_data(), tiny_generator, replace(CONFIG, half_images=False), 0, tmp_path)
    rows, columns = tiny_generator.token_grid
    assert trainer.encoder.rows(np.array([0, 1])).winners.shape[1] == rows * columns
    assert len(list(trainer._chunks(np.arange(4)))) == 1


def test_one_seed_gives_one_adapter_and_leaves_the_generator_alone(
    tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    _, controls, captions = draw_discs(2)
    base = tiny_generator.generate(controls, captions, [1, 2])
    first = train_dpo(make_pairs_data(), tiny_generator, CONFIG, 3, tmp_path / "a")
    assert np.array_equal(tiny_generator.generate(controls, captions, [1, 2]), base)
    torch.manual_seed(99)
    again = train_dpo(make_pairs_data(), tiny_generator, replace(CONFIG, latent_cache=False), 3, tmp_path / "b")
    other = train_dpo(make_pairs_data(), tiny_generator, CONFIG, 4, tmp_path / "c")
    assert first.steps == again.steps
    assert first.adapter_path.read_bytes() == again.adapter_path.read_bytes() != other.adapter_path.read_bytes()
    adapted = tiny_generator.generate(controls, captions, [1, 2], adapter_path=tmp_path / "a")
    assert not np.array_equal(adapted, base)


def test_every_step_is_reported(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    class Count:
        total = 0

        def advance(self, n: int, note: str = "") -> None:
            self.total += n

    count = Count()
    with progress.watching(count):
        train_dpo(make_pairs_data(), tiny_generator, replace(CONFIG, steps=2), 0, tmp_path)
    assert count.total == 2


def test_pairs_of_one_kind_only_are_refused(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    for value, missing in ((False, "validation"), (True, "training")):
        pairs = replace(make_pairs_data(), validation=np.full(8, value))
        with pytest.raises(AlignmentError, match=f"no {missing} pairs"):
            train_dpo(pairs, tiny_generator, CONFIG, 0, tmp_path)


def test_columns_of_different_lengths_are_refused() -> None:
    pairs = make_pairs_data()
    with pytest.raises(AlignmentError, match="captions of 7"):
        replace(pairs, captions=pairs.captions[1:])


def test_the_rate_rises_over_a_tenth_and_falls_to_nothing() -> None:
    rates = [rate_at(step, 50) for step in range(1, 51)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(b < a for a, b in itertools.pairwise(rates[4:])) and 0 < rates[-1] < 0.01
    assert rate_at(1, 1) == 1.0


def test_the_rate_is_what_it_always_was_to_the_last_bit() -> None:
    """Adapters of stored runs depend on it."""
    for steps in (1, 3, 9, 10, 50, 60, 100, 1000):
        warmup = max(1.0, 0.1 * steps)
        for step in range(1, steps + 1):
            plain = 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1.0, steps + 1 - warmup)))
            assert rate_at(step, steps) == (step / warmup if step < warmup else plain)


class Foreign:
    """A backend that shares no class with FLUX and is told a third thing about captions."""

    name, digest, block_size, lora_targets = "foreign", "0", 1, ("to_q", "to_k", "to_v", "to_out.0")

    def __init__(self, inner: PocketGenerator) -> None:
        self.inner = inner
        self.adapter, self.network, self.device = inner.adapter, inner.network, inner.device
        self.token_grid, self.encode_image, self.encode_controls = (
            inner.token_grid,
            inner.encode_image,
            inner.encode_controls,
        )
        self.generate = inner.generate

    def encode_captions(self, captions: Sequence[str]) -> tuple[torch.Tensor, ...]:
        return (*self.inner.encode_captions(captions), torch.ones(len(captions), 3))

    def velocity(
        self,
        tokens: torch.Tensor,
        controls: torch.Tensor,
        captions: tuple[torch.Tensor, ...],
        sigma: torch.Tensor,
        shown: np.ndarray | None = None,
    ) -> torch.Tensor:
        hidden, pooled, mark = captions
        assert torch.equal(mark, torch.ones(len(tokens), 3))
        return self.inner.velocity(tokens, controls, (hidden, pooled), sigma, shown)


def test_any_flow_model_is_aligned(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    flux = train_dpo(make_pairs_data(), tiny_generator, CONFIG, 0, tmp_path / "flux")
    foreign = Foreign(tiny_generator)
    assert isinstance(foreign, FlowModel) and isinstance(tiny_generator, FlowModel)
    other = train_dpo(make_pairs_data(), foreign, CONFIG, 0, tmp_path / "foreign")
    assert flux.adapter_path.read_bytes() == other.adapter_path.read_bytes()
