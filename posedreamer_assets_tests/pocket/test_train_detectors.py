import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from posedreamer_assets.config import CounterConfig, DetectorConfig, SegmenterConfig
from posedreamer_assets.errors import ConfigError, DetectorError
from posedreamer_assets.pocket.detector_figures import evaluate_counter, evaluate_silhouettes
from posedreamer_assets.pocket.detector_learning import centre_loss, keypoint_loss, make_network, silhouette_loss
from posedreamer_assets.pocket.shards import KeypointRows, read_keypoint_folder, read_keypoints
from posedreamer_assets.pocket.train_detectors import DetectorRun, TrainConfig, train
from posedreamer_assets.scoring.detectors import load_detector
from posedreamer_assets.scoring.people import load_counter
from posedreamer_assets.scoring.segmenter import load_segmenter
from posedreamer_assets.training.loop import Budget, run_loop
from posedreamer_assets_tests.scoring.figures import stick_figures, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), rows=24, size=64)


def config(kind: str, shards: Path, out: Path, steps: int, **changes) -> TrainConfig:
    settings = {"minutes": 60.0, "batch_size": 4, "dtype": "float32", "max_steps": steps, **changes}
    return TrainConfig(kind, str(shards), str(out), **settings)


@pytest.mark.parametrize("kind", ["vitpose", "heatmap"])
def test_a_run_leaves_weights_that_load_with_card_and_log(kind: str, shards: Path, tmp_path: Path) -> None:
    figures = train(config(kind, shards, tmp_path, 2))
    assert 0 <= figures["oks"] <= 1
    images = read_keypoints(sorted(shards.glob("*.npz"))[0]).images[:3]
    assert load_detector(DetectorConfig(kind, str(tmp_path))).detect(images).shape == (3, 17, 3)
    state = load_file(tmp_path / "model.safetensors")
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}
    card = (tmp_path / "README.md").read_text()
    assert "Retrain" in card and "| shards | 2, from" in card and str(tmp_path) not in card
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert lines[-1]["held_out_oks"] == pytest.approx(figures["oks"], abs=1e-4)


def test_the_counter_trains_and_loads(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "posedreamer_assets.pocket.train_detectors.evaluate_counter", partial(evaluate_counter, trials=12)
    )
    figures = train(config("counter", shards, tmp_path, 2))
    assert 0 <= figures["accuracy"] <= 1
    counts, _ = load_counter(CounterConfig(str(tmp_path))).count(stick_figures(3, 9, 64)["images"])
    assert counts.shape == (3,)


def test_the_segmenter_trains_and_loads(shards: Path, tmp_path: Path) -> None:
    figures = train(config("silhouette", shards, tmp_path, 2, width=12))
    assert set(figures) == {"iou", "soft_iou", "composite_iou", "empty_drawn"}
    assert all(0 <= value <= 1 for value in figures.values())
    images = stick_figures(3, 9, 64)["images"]
    assert load_segmenter(SegmenterConfig(str(tmp_path))).draw(images).shape == (3, 64, 64)
    assert "intersection over union" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("kind", ["vitpose", "heatmap", "silhouette"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(kind: str, shards: Path, tmp_path: Path) -> None:
    # The learning rate follows the clock; a budget of days makes it depend on the step alone.
    long = {"minutes": 1e9}
    train(config(kind, shards, tmp_path / "whole", 4, **long))
    train(config(kind, shards, tmp_path / "parts", 2, **long))
    train(config(kind, shards, tmp_path / "parts", 4, **long), resume=True)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for key, value in whole.items():
        torch.testing.assert_close(value.float(), parts[key].float(), atol=2e-3, rtol=0, msg=key)


def test_resuming_another_kind_is_refused(shards: Path, tmp_path: Path) -> None:
    train(config("heatmap", shards, tmp_path, 1))
    with pytest.raises(DetectorError, match="of kind 'heatmap'"):
        train(config("vitpose", shards, tmp_path, 2), resume=True)


def test_the_loss_falls_on_one_batch(shards: Path, tmp_path: Path) -> None:
    rows, held_out, names = read_keypoint_folder(shards)
    torch.manual_seed(0)
    losses: list[float] = []
    run = DetectorRun(config("heatmap", shards, tmp_path, 9), rows.take(slice(0, 4)), held_out, names)
    run_loop(lambda share: losses.append(run.one_step(share)) or losses[-1], Budget(max_steps=24), run.progress)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


def test_keypoint_loss_is_least_at_the_target_and_ignores_weightless_points() -> None:
    target = torch.softmax(torch.randn(2, 17, 64, generator=torch.Generator().manual_seed(0)), -1).reshape(2, 17, 8, 8)
    weights = torch.ones(2, 17)
    entropy = float(-(target * target.log()).sum((2, 3)).mean())
    assert float(keypoint_loss(target.log() + 3, target, weights)) == pytest.approx(entropy, abs=1e-5)
    assert float(keypoint_loss(torch.zeros_like(target), target, weights)) > entropy
    weights[:, 5] = 0
    changed = target.log().clone()
    changed[:, 5] = torch.randn(2, 8, 8)
    before = keypoint_loss(target.log(), target, weights)
    assert float(keypoint_loss(changed, target, weights)) == pytest.approx(float(before))


def test_centre_loss_is_least_for_confident_right_answers() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[0, 0, 3, 3] = 1.0
    right = (target * 2 - 1) * 8
    assert float(centre_loss(right, target)) < 1e-3 < float(centre_loss(torch.zeros_like(target), target))
    assert float(centre_loss(-right, target)) > 5


def test_silhouette_loss_is_least_for_confident_right_answers_of_few_pixels_too() -> None:
    target = torch.zeros(2, 1, 16, 16)
    target[0, 0, 3:5, 3:5] = 1.0  # 4 of 512 pixels
    right = (target * 2 - 1) * 12
    assert float(silhouette_loss(right, target)) < 1e-4
    nobody = float(silhouette_loss(torch.full_like(target, -12.0), target))
    assert nobody > 1 > 12 * 4 / 512  # cross-entropy alone would hardly mind
    half = torch.zeros_like(target)
    shares = 0.25 * 512  # of squares, where all are one half
    assert float(silhouette_loss(half, target)) == pytest.approx(np.log(2) + 1 - 2 * 0.5 * 4 / (shares + 4), abs=1e-5)


class Darkness(torch.nn.Module):
    """Says that people are where it is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -images.mean(1, keepdim=True) * self.weight


def test_figures_of_silhouettes_tell_right_from_wrong(shards: Path) -> None:
    rows, _, _ = read_keypoint_folder(shards)
    painted = np.where(rows.silhouettes[..., None], 0, 255).astype(np.uint8).repeat(3, axis=-1)
    rows = KeypointRows(painted, rows.held_out, rows.keypoints, rows.visible, rows.silhouettes)
    found = evaluate_silhouettes(Darkness(), rows, trials=24)
    assert found["iou"] == 1.0 and found["soft_iou"] < 1.0
    everybody = KeypointRows(painted * 0, rows.held_out, rows.keypoints, rows.visible, rows.silhouettes)
    wrong = evaluate_silhouettes(Darkness(), everybody, trials=24)
    assert wrong["iou"] == pytest.approx(rows.silhouettes.mean((1, 2)).mean()) and wrong["empty_drawn"] > 0.9


def test_unknown_kinds_and_dtypes_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="unknown detector kind"):
        make_network("pafs")
    with pytest.raises(ConfigError, match="dtype of a training"):
        train(config("heatmap", shards, tmp_path, 1, dtype="float8"))
