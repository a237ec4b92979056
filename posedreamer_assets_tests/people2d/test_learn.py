"""Arms: half and half, frozen layers, masks without gradient, and going on where one was killed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.config import TeacherConfig
from posedreamer_assets.curriculum.teacher import follows_eq2
from posedreamer_assets.errors import StudentError
from posedreamer_assets.people2d import learn
from posedreamer_assets.people2d.crops import Crops, draw_crops
from posedreamer_assets.people2d.learn import Learned, crop_losses, train_arm
from posedreamer_assets.people2d.masking import synthetic_cells, targets_and_weights
from posedreamer_assets.people2d.network import PoseNet, frozen_digest, frozen_names
from posedreamer_assets_tests.people2d.samples import TINY, source

TEACHER = TeacherConfig(groups=3, window=2, history=1, min_samples=2, narrow=16)


@pytest.fixture(scope="module")
def baseline() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {k: v.clone() for k, v in PoseNet(TINY).state_dict().items()}


def same(a: Learned, b: Learned) -> bool:
    losses = np.array_equal(np.array(a.losses), np.array(b.losses), equal_nan=True)
    return losses and all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_a_batch_is_half_real_and_half_synthetic_and_one_side_fills_it(baseline: dict[str, torch.Tensor]) -> None:
    short = dataclasses.replace(TINY, steps=2)
    real, synthetic = source(1), source(2, synthetic=True)
    both = train_arm(baseline, real, synthetic, short, 0)
    assert both.seen == {"real": 4, "synthetic": 4}
    assert np.isfinite(np.array(both.losses)).all() and [step for step, *_ in both.losses] == [0, 1]
    alone = train_arm(baseline, None, synthetic, short, 0)
    assert alone.seen == {"real": 0, "synthetic": 8} and np.isnan([real for _, real, _ in alone.losses]).all()
    assert train_arm(baseline, real, None, short, 0).seen == {"real": 8, "synthetic": 0}
    with pytest.raises(StudentError, match="expected some on each side"):
        train_arm(baseline, None, None, short, 0)


def test_each_half_comes_from_its_side(baseline: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Crops] = []

    def spied(network: PoseNet, crops: Crops, *args: object, **more: object) -> torch.Tensor:
        seen.append(crops)
        return crop_losses(network, crops, TINY)

    monkeypatch.setattr(learn, "crop_losses", spied)
    train_arm(baseline, source(1), source(2, synthetic=True), dataclasses.replace(TINY, steps=1), 0)
    sides = [set(who[known.any(1)]) for who, known in zip(seen[0].synthetic, seen[0].known, strict=True)]
    assert sides == [{False}, {False}, {True}, {True}]


def test_equal_arguments_give_equal_weights_and_another_seed_others(baseline: dict[str, torch.Tensor]) -> None:
    real = source(1)
    first, again = (train_arm(baseline, real, None, TINY, 3) for _ in range(2))
    assert same(first, again) and not same(first, train_arm(baseline, real, None, TINY, 4))


def test_frozen_layers_and_their_statistics_stay_and_all_others_move(baseline: dict[str, torch.Tensor]) -> None:
    frozen = set(frozen_names(PoseNet(TINY), TINY.frozen))
    assert any("running_mean" in name for name in frozen) and sum(baseline[name].ndim == 4 for name in frozen) == 4
    arm = train_arm(baseline, source(1), source(2, synthetic=True), TINY, 0)
    moved = {name for name in arm.weights if not torch.equal(arm.weights[name], baseline[name])}
    assert moved == set(baseline) - frozen
    assert arm.frozen_digest == frozen_digest(baseline, TINY)
    free = train_arm(baseline, source(1), None, TINY, 0, freeze=False)
    assert free.frozen_digest != frozen_digest(baseline, TINY)


@pytest.mark.parametrize("masks", ["targets", "silhouette"])
def test_no_gradient_comes_from_masked_cells_and_that_of_all_others_is_unchanged(masks: str) -> None:
    cfg = dataclasses.replace(TINY, masks=masks)
    mixed = source(2, synthetic=True)
    for picture in mixed.pictures:
        picture.synthetic[0] = False
    crops = draw_crops(mixed, np.arange(4), cfg, np.random.default_rng(0))
    painted = torch.rand(4, 45, 16, 16, requires_grad=True)

    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [painted]

    def gradient(masked: bool) -> torch.Tensor:
        return torch.autograd.grad(crop_losses(Fixed(), crops, cfg, masked=masked).sum(), painted)[0]

    cells = synthetic_cells(crops, cfg)
    assert cells.any()
    masked, whole = gradient(True), gradient(False)
    assert (masked[cells] == 0).all() and (whole[cells] != 0).any()
    assert torch.equal(masked[~cells], whole[~cells])
    targets, weights = targets_and_weights(crops, cfg)
    expected = (2 * (painted - targets) * weights / painted[0].numel()).detach()
    torch.testing.assert_close(whole, expected)


def test_masks_without_synthetic_people_change_no_bit(baseline: dict[str, torch.Tensor]) -> None:
    arms = [train_arm(baseline, source(1), source(5), TINY, 0, masked=masked) for masked in (False, True)]
    assert same(*arms)


@pytest.mark.parametrize("teacher", [None, TEACHER, dataclasses.replace(TEACHER, kind="uniform")])
def test_a_killed_arm_goes_on_and_ends_as_if_it_had_not_been(
    baseline: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: TeacherConfig | None
) -> None:
    monkeypatch.setattr(learn, "_SAVED_EVERY", 0.0)  # after each step
    sides = source(1), source(2, synthetic=True, groups=3)
    file = tmp_path / "arm.safetensors"
    whole = train_arm(baseline, *sides, TINY, 0, teacher=teacher)

    class Killed(Exception):
        pass

    steps = [0]

    def deadly(*args: object, **more: object) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == 5:
            raise Killed
        return crop_losses(*args, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(learn, "crop_losses", deadly)
    with pytest.raises(Killed):
        train_arm(baseline, *sides, TINY, 0, teacher=teacher, checkpoint=file)
    rest = train_arm(baseline, *sides, TINY, 0, teacher=teacher, checkpoint=file)
    assert steps[0] == 5 + 2, "it went on from step 4, which the killed one had made"
    assert same(whole, rest) and rest.groups == whole.groups and len(rest.losses) == TINY.steps
    assert len(rest.teacher_log) == len(whole.teacher_log)

    steps[0] = 100
    train_arm(baseline, *sides, TINY, 1, teacher=teacher, checkpoint=file)
    assert steps[0] == 100 + TINY.steps, "a checkpoint of other arguments is not used"


def test_a_damaged_checkpoint_is_named(baseline: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "arm.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(StudentError, match=r"arm\.safetensors: no checkpoint of a student"):
        train_arm(baseline, source(1), None, TINY, 0, checkpoint=file)


def test_a_teacher_s_updates_follow_the_equations_and_its_group_is_what_is_drawn(
    baseline: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[set[int]] = []
    synthetic = source(2, synthetic=True, groups=3)
    assert synthetic.groups is not None
    groups = synthetic.groups

    def spied(side: object, rows: np.ndarray, *args: object) -> Crops:
        if side is synthetic:
            drawn.append(set(groups[rows].tolist()))
        return draw_crops(side, rows, *args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(learn, "draw_crops", spied)
    arm = train_arm(baseline, source(1), synthetic, TINY, 0, teacher=TEACHER)
    assert [len(of) for of in drawn] == [1] * TINY.steps
    assert [{group} for group in arm.groups for _ in range(TEACHER.window)] == drawn
    assert len(arm.teacher_log) == TINY.steps // TEACHER.window - TEACHER.history
    for row in arm.teacher_log:
        assert follows_eq2(row, TEACHER.alpha, TEACHER.min_samples) and row.group == arm.groups[row.window]
        seen = [synthetic for _, _, synthetic in arm.losses[2 * row.window : 2 * row.window + 2]]
        assert row.loss == pytest.approx(np.mean(seen))


def test_a_teacher_without_groups_or_real_people_is_refused(baseline: dict[str, torch.Tensor]) -> None:
    with pytest.raises(StudentError, match="among groups"):
        train_arm(baseline, source(1), source(2), TINY, 0, teacher=TEACHER)
    with pytest.raises(StudentError, match="looks at real people"):
        train_arm(baseline, None, source(2, groups=3), TINY, 0, teacher=TEACHER)
    with pytest.raises(StudentError, match=r"groups of \[2, 2, 2\] people"):
        scarce = dataclasses.replace(TEACHER, min_samples=3)
        train_arm(baseline, source(1), source(2, groups=3), TINY, 0, teacher=scarce)


def test_weights_of_another_network_are_refused(baseline: dict[str, torch.Tensor]) -> None:
    with pytest.raises(StudentError, match="of another network"):
        train_arm(baseline, source(1), None, dataclasses.replace(TINY, width=12), 0)
