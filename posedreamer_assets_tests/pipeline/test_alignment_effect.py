"""How many images the adapter is measured on: half of the draws where they settle it, all of them where they do not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import dpo_checkpoint
from posedreamer_assets.pipeline.dpo_checkpoint import looks, measure_effect

POSES = 60


class Painter:
    """Images that say by which seed they were painted, and whether with the adapter; nothing is drawn."""

    def __init__(self) -> None:
        self.calls: list[tuple[bool, tuple[int, ...]]] = []

    def generate(self, controls: Any, captions: Any, seeds: list[int], adapter_path: Path | None = None) -> np.ndarray:
        self.calls.append((adapter_path is not None, tuple(seeds)))
        return np.stack([np.array([seed % 1000, adapter_path is not None], np.float64) for seed in seeds])


def measured(
    monkeypatch: pytest.MonkeyPatch, gains: dict[str, float], draws: int = 4
) -> tuple[dict[str, Any], Painter]:
    """Figures where each judge's OKS rises by a gain, with noise of 0.02 that each draw has anew."""
    painter, noise = Painter(), np.random.default_rng(3)

    def oks(judge: Any, images: np.ndarray, maps: pa.Table) -> tuple[np.ndarray]:
        base = 0.7 + 0.1 * np.sin(np.arange(len(images)))
        return (base + gains[judge.name] * images[:, 1] + noise.normal(0, 0.02, len(images)),)

    monkeypatch.setattr(dpo_checkpoint, "oks_of", oks)
    monkeypatch.setattr(dpo_checkpoint, "control_images", lambda cfg, maps: np.zeros((maps.num_rows, 2)))
    ids = [f"align-procedural-0000/{i:06d}" for i in range(POSES + 1)]
    split = ["test"] * POSES + ["train"]
    poses = pa.table({"sample_id": ids, "alignment_split": split, "caption": ["a person"] * len(ids)})
    judges = [SimpleNamespace(name=name) for name in gains] + [None]
    models = SimpleNamespace(generator=painter, judge=judges[0], outside_judge=judges[1])
    profile = load_profile("pocket", {"alignment.test_draws": draws})
    inputs = SimpleNamespace(profile=profile, models=models, rows=lambda table: poses)
    return measure_effect(cast(Any, inputs), pa.table({"sample_id": ids}), Path("adapter")).figures, painter


@pytest.mark.parametrize(
    ("gains", "draws"),
    [
        ({"judge": 0.05}, 2),
        ({"judge": -0.05}, 2),
        ({"judge": 0.0}, 4),
        ({"judge": 0.05, "outside": 0.05}, 2),
        ({"judge": 0.05, "outside": 0.0}, 4),
    ],
)
def test_painting_ends_when_every_judge_has_seen_a_difference(
    gains: dict[str, float], draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, painter = measured(monkeypatch, gains)
    assert figures["test_draws"] == draws
    assert figures["test_poses"] == POSES
    assert [aligned for aligned, _ in painter.calls] == [False, True] * draws
    assert all(painter.calls[i][1] == painter.calls[i + 1][1] for i in range(0, 2 * draws, 2)), "the same noise"
    assert len({seeds for _, seeds in painter.calls}) == draws, "each draw has noise of its own"
    assert figures["error_reduction"]["mean"] == pytest.approx(gains["judge"], abs=0.01)
    assert set(figures).issuperset({"outside_judge"}) == ("outside" in gains)


def test_two_looks_together_err_as_often_as_one_interval_of_95_percent() -> None:
    """Of 20,000 true nulls, gains of four draws each, no more than 5 % are called a difference at one look or the other."""
    draws = np.random.default_rng(0).normal(size=(20_000, 4))
    from statistics import NormalDist

    called = np.zeros(len(draws), bool)
    for count, level in looks(4):
        score = draws[:, :count].sum(axis=1) / np.sqrt(count)
        called |= np.abs(score) > NormalDist().inv_cdf((1 + level) / 2)
    assert 0.035 < called.mean() <= 0.05
    assert looks(1) == [(1, 0.95)]
