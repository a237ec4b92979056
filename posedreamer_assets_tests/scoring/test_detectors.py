import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

from posedreamer_assets.config import CounterConfig, DetectorConfig, load_profile
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.pocket.train_detectors import make_network, save_detector
from posedreamer_assets.scoring.detectors import TorchDetector, load_detector, run_padded
from posedreamer_assets.scoring.letterbox import letterbox
from posedreamer_assets.scoring.networks import make_vitpose, normalise
from posedreamer_assets.scoring.people import CentreCounter, load_counter

KINDS = ("vitpose", "heatmap")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of every kind, saved as training saves them."""
    root = tmp_path_factory.mktemp("weights")
    for kind in (*KINDS, "counter"):
        torch.manual_seed(0)
        (root / kind).mkdir()
        save_detector(
            make_network(kind).eval(), kind, 128, root / kind, {"threshold": 0.01} if kind == "counter" else {}
        )
    return root


def pictures(n: int, height: int = 128, width: int = 128) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_keypoints_do_not_depend_on_the_batch(kind: str, weights: Path) -> None:
    detector = load_detector(DetectorConfig(kind, str(weights / kind), batch_size=4))
    images = pictures(7)
    together = detector.detect(images)
    alone = np.concatenate([detector.detect(images[i : i + 1]) for i in range(7)])
    shuffled = detector.detect(images[::-1])[::-1]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, shuffled)


@pytest.mark.parametrize("kind", KINDS)
def test_keypoints_come_in_pixels_of_the_image_given(kind: str, weights: Path) -> None:
    detector = load_detector(DetectorConfig(kind, str(weights / kind)))
    found = detector.detect(pictures(2, 200, 300))
    assert found.shape == (2, 17, 3) and found.dtype == np.float32
    assert (found[..., 0] >= -2).all() and (found[..., 0] <= 302).all()
    assert (found[..., 2] >= 0).all() and (found[..., 2] <= 1).all()
    assert detector.detect(pictures(0)).shape == (0, 17, 3)


def test_digests_tell_detectors_apart_and_are_stable(weights: Path) -> None:
    digests = [load_detector(DetectorConfig(k, str(weights / k))).digest for k in (*KINDS, *KINDS)]
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


class _Brightest(torch.nn.Module):
    """Heatmaps that are the image's brightness at a quarter of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.avg_pool2d(x, 4).mean(1, keepdim=True) * self.sharpness).expand(-1, 17, -1, -1)


@pytest.mark.parametrize("shape", [(128, 128), (64, 64), (150, 90), (90, 150), (256, 256)])
def test_letterboxing_brings_points_back(shape: tuple[int, int]) -> None:
    h, w = shape
    x, y = 0.3 * w, 0.6 * h
    columns, rows = np.arange(w) + 0.5, np.arange(h) + 0.5
    radius = max(h, w) / 20
    bump = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * radius**2))
    image = np.repeat((bump * 255).astype(np.uint8)[None, ..., None], 3, -1)
    options = {"height": 128, "width": 128, "maps": "log-share", "batch_size": 2}
    found = TorchDetector(_Brightest(), "brightest", "0", **options).detect(image)
    np.testing.assert_allclose(found[0, :, 0], x, atol=0.02 * max(h, w))
    np.testing.assert_allclose(found[0, :, 1], y, atol=0.02 * max(h, w))


def test_letterbox_keeps_aspect_and_fills_with_grey() -> None:
    fitted, box = letterbox(np.full((1, 50, 100, 3), 7, np.uint8), 128, 128)
    assert (fitted[0, :32] == 114).all() and (fitted[0, 96:] == 114).all() and (fitted[0, 32:96] == 7).all()
    np.testing.assert_allclose(box.to_image(np.array([64.0, 64.0])), [50, 25])


def published_vitpose(folder: Path, keypoints: int, **more: int) -> None:
    """A checkpoint of random weights, laid out as published ones: oblong input, deconvolutions, no detector.json."""
    backbone = VitPoseBackboneConfig(
        image_size=(64, 48),
        patch_size=(16, 16),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        out_indices=[2],  # pyright: ignore[reportCallIssue]
        **more,
    )
    torch.manual_seed(0)
    settings = VitPoseConfig(
        backbone_config=backbone,
        use_simple_decoder=False,
        num_labels=keypoints,  # pyright: ignore[reportCallIssue]
    )
    VitPoseForPoseEstimation(settings).save_pretrained(folder)


def test_what_is_seen_does_not_depend_on_the_number_of_cores() -> None:
    profile, images = load_profile("pocket"), pictures(21)
    boxes = np.tile(np.array([10.0, 10.0, 90.0, 110.0]), (21, 1))
    seen = []
    for cores in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        try:
            seen.append(
                (load_detector(profile.judge).detect(images, boxes), load_counter(profile.counter).count(images))
            )
        finally:
            torch.set_num_threads(before)
    for points, (people, certain) in seen[1:]:
        np.testing.assert_array_equal(points, seen[0][0])
        np.testing.assert_array_equal(people, seen[0][1][0])
        np.testing.assert_array_equal(certain, seen[0][1][1])


def test_a_published_vitpose_layout_loads(tmp_path: Path) -> None:
    published_vitpose(tmp_path, 17)
    found = load_detector(DetectorConfig("vitpose", str(tmp_path))).detect(pictures(3))
    assert found.shape == (3, 17, 3)
    assert np.isfinite(found).all()


def test_the_expert_of_coco_looks_at_images_of_a_vitpose_plus_plus(tmp_path: Path) -> None:
    """The network itself, asked for its first expert, is the oracle; another expert sees something else."""
    published_vitpose(tmp_path, 17, num_experts=3, part_features=8)
    network = VitPoseForPoseEstimation.from_pretrained(tmp_path).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    shown = normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    with torch.no_grad():
        of_expert = [network(shown, dataset_index=torch.full((3,), i)).heatmaps.numpy() for i in (0, 1)]
    detector = load_detector(DetectorConfig("vitpose", str(tmp_path), batch_size=2))
    seen = run_padded(detector._network, images, 3)  # type: ignore[attr-defined]
    np.testing.assert_allclose(seen, of_expert[0], atol=1e-5)
    assert np.abs(of_expert[0] - of_expert[1]).max() > 1e-3
    assert np.isfinite(detector.detect(pictures(3))).all()


def test_a_vitpose_of_other_keypoints_is_refused(tmp_path: Path) -> None:
    published_vitpose(tmp_path, 14)
    with pytest.raises(DetectorError, match="gives 14 keypoints"):
        load_detector(DetectorConfig("vitpose", str(tmp_path)))


def test_missing_weights_say_how_to_train_them(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"pocket\.train_detectors heatmap"):
        load_detector(DetectorConfig("heatmap", str(tmp_path)))
    with pytest.raises(DetectorError, match="unknown detector kind 'yolo'"):
        load_detector(DetectorConfig("yolo"))
    with pytest.raises(DetectorError, match="no ONNX file at"):
        load_detector(DetectorConfig("onnx"))
    with pytest.raises(DetectorError, match="batch_size"):
        load_detector(DetectorConfig(batch_size=0))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_weights_are_refused(kind: str, weights: Path, tmp_path: Path) -> None:
    for file in (weights / kind).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damaged = (tmp_path / "model.safetensors").read_bytes()[:2000]
    (tmp_path / "model.safetensors").write_bytes(damaged)
    with pytest.raises(DetectorError, match="not "):
        load_detector(DetectorConfig(kind, str(tmp_path)))


def test_a_bad_description_is_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((weights / "heatmap" / "model.safetensors").read_bytes())
    (tmp_path / "detector.json").write_text("{")
    with pytest.raises(DetectorError, match="not valid JSON"):
        load_detector(DetectorConfig("heatmap", str(tmp_path)))
    (tmp_path / "detector.json").write_text(json.dumps({"size": 100}))
    with pytest.raises(DetectorError, match="multiple of 32"):
        load_detector(DetectorConfig("heatmap", str(tmp_path)))


def test_counts_do_not_depend_on_the_batch(weights: Path) -> None:
    counter = load_counter(CounterConfig(str(weights / "counter"), batch_size=4))
    assert isinstance(counter, CentreCounter) and counter.threshold == 0.01
    images = pictures(6)
    counts, scores = counter.count(images)
    for i in range(6):
        one, score = counter.count(images[i : i + 1])
        assert one[0] == counts[i] and score[0] == scores[i]
    assert counts.shape == scores.shape == (6,)


def test_weights_of_another_network_are_no_vitpose(tmp_path: Path) -> None:
    """Else every weight would be random, with only a warning of the library."""
    make_vitpose(32, width=40, depth=1).config.save_pretrained(tmp_path)
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DetectorError, match="no fitting weight"):
        load_detector(DetectorConfig(kind="vitpose", path=str(tmp_path)))
