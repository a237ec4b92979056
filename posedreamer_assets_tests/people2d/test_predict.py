"""From images to people: the network's layouts, padding, scales, and that a few crops can be learnt by heart."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.errors import StudentError
from posedreamer_assets.metrics.mpii_ap import Annotated, Predicted, mpii_ap
from posedreamer_assets.people2d.crops import draw_crops
from posedreamer_assets.people2d.learn import crop_losses
from posedreamer_assets.people2d.network import PoseNet, load_baseline, load_vgg19
from posedreamer_assets.people2d.predict import find_groups, find_people, load_network, scales_of, typical_scale
from posedreamer_assets.people2d.score import with_interval
from posedreamer_assets_tests.people2d.samples import TINY, source

LEARNT = dataclasses.replace(TINY, width=24, foreground=12.0)


def test_four_crops_are_learnt_by_heart() -> None:
    crops = draw_crops(source(3), np.array([0, 2, 3, 5]), LEARNT, np.random.default_rng(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PoseNet(LEARNT)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(100):
            optimizer.zero_grad()
            crop_losses(network, crops, LEARNT).mean().backward()
            optimizer.step()
    images = []
    for k in range(4):
        kept = crops.known[k].any(1)
        inside = crops.known[k] & ((crops.joints[k] >= 0) & (crops.joints[k] < LEARNT.size)).all(-1)
        truth = Annotated(crops.joints[k][kept], inside[kept], np.full(int(kept.sum()), 20.0))
        images.append((truth, find_people(network.eval(), crops.images[k], LEARNT)))
    scored = with_interval(images)
    assert scored.precision.mean > 70 and scored.low <= scored.precision.mean <= scored.high
    assert mpii_ap(images).mean == scored.precision.mean


def test_an_image_of_any_size_is_looked_at_whole() -> None:
    network = PoseNet(TINY).eval()
    image = np.random.default_rng(0).integers(0, 255, (50, 75, 3)).astype(np.uint8)
    found = find_people(network, image, TINY, (1.0, 0.7, 1.3))
    assert found.joints.shape[1:] == (16, 2)


def test_an_image_of_tiny_people_is_not_enlarged_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from posedreamer_assets.people2d import predict

    monkeypatch.setattr(predict, "MOST_PIXELS", 40_000)
    seen: list[tuple[int, ...]] = []
    network = PoseNet(TINY).eval()
    network.register_forward_pre_hook(lambda _, images: seen.append(tuple(images[0].shape[2:])))
    image = np.zeros((50, 100, 3), np.uint8)
    find_people(network, image, TINY, (1.0, 50.0))
    assert seen == [(160, 288), (64, 128)], "141 x 283 and 50 x 100, to whole cells"


def test_joints_are_in_pixels_of_the_image_whatever_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    from posedreamer_assets.people2d import predict
    from posedreamer_assets_tests.people2d.test_grouping import perfect_maps

    people = np.stack([source(3).pictures[0].joints[0] + [10, 0]])

    def perfect(network: object, image: object, height: int, width: int, cfg: object) -> torch.Tensor:
        side = -(-width // 4)
        return torch.from_numpy(perfect_maps(people * width / 96, side)).float()

    monkeypatch.setattr(predict, "_maps", perfect)
    image = np.zeros((96, 96, 3), np.uint8)
    for scales in ((1.0,), (2.0,), (1.5, 2.0)):
        found = find_people(PoseNet(TINY), image, TINY, scales)
        gap = np.abs(found.joints[0] - people[0])[found.found[0]]
        assert gap.max() < 1.5


def test_a_typical_scale_makes_people_as_long_as_crops_show_them() -> None:
    assert typical_scale(np.array([100.0, 300.0]), Pose2dConfig(size=128, person_share=0.6)) == pytest.approx(0.384)


def test_every_group_is_looked_for_at_the_size_of_its_own_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups and somebody in none; the network finds one person at the place of each, whatever the scale."""
    from posedreamer_assets.people2d import predict

    middles, sizes = np.array([[20.0, 20], [30, 20], [150, 20], [90, 20]]), np.array([20.0, 40, 60, 500])
    group, looked = np.array([0, 0, 1, -1]), []

    def find(network: object, image: object, cfg: Pose2dConfig, scales: tuple[float, ...]) -> Predicted:
        looked.append(scales)
        joints = np.repeat(middles[:, None], 16, axis=1)
        return Predicted(joints, np.ones((4, 16), bool), np.full((4, 16), float(len(looked))))

    monkeypatch.setattr(predict, "find_people", find)
    network, image = PoseNet(TINY).eval(), np.zeros((40, 180, 3), np.uint8)
    found = find_groups(network, image, TINY, group, middles, sizes)
    assert looked == [scales_of(np.array([20.0, 40]), TINY), scales_of(np.array([60.0]), TINY)]
    assert found.group is not None and found.group.tolist() == [0, 0, 1]
    assert found.joints[:, 0].tolist() == middles[:3].tolist() and found.scores[:, 0].tolist() == [1, 1, 2]
    nobody = find_groups(network, image, TINY, np.full(4, -1), middles, sizes)
    assert len(nobody) == 0 and nobody.group is not None


def test_production_has_the_layers_of_the_paper_and_takes_vgg19_s_weights(tmp_path: Path) -> None:
    network = PoseNet(Pose2dConfig(layout="vgg19", stages=2, size=64))
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 64, 48))
    assert [tuple(m.shape) for m in maps] == [(1, 45, 8, 6)] * 2
    convolutions = [layer for layer in network.features.modules() if isinstance(layer, torch.nn.Conv2d)]
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21)
    given = {}
    for number, layer in zip(numbers, convolutions, strict=False):
        given[f"features.{number}.weight"] = torch.full_like(layer.weight, number)
        assert layer.bias is not None
        given[f"features.{number}.bias"] = torch.full_like(layer.bias, -number)
    save_file(given, tmp_path / "vgg19.safetensors")
    load_vgg19(network.features, str(tmp_path / "vgg19.safetensors"))
    assert [float(layer.weight.detach().mean()) for layer in convolutions[:10]] == list(numbers)
    del given["features.7.bias"]
    save_file(given, tmp_path / "cut.safetensors")
    with pytest.raises(StudentError, match=r"cut\.safetensors does not hold VGG19"):
        load_vgg19(network.features, str(tmp_path / "cut.safetensors"))


def test_weights_of_another_width_are_named(tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in PoseNet(TINY).state_dict().items()}, tmp_path / "model.safetensors")
    assert load_baseline(dataclasses.replace(TINY, baseline=str(tmp_path)))
    with pytest.raises(StudentError, match=r"pose2d\.baseline: .* does not fit layout pocket, width 24"):
        load_baseline(dataclasses.replace(TINY, width=24, baseline=str(tmp_path)))
    with pytest.raises(StudentError, match="of another student"):
        load_network(PoseNet(TINY).state_dict(), dataclasses.replace(TINY, width=24))
