"""The pocket segmenter, and the shipped one on renders that nothing has learnt from."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.config import WEIGHTS_DIR, SegmenterConfig, load_profile
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pocket.composites import fill_hole
from posedreamer_assets.pocket.scenes import make_shard
from posedreamer_assets.scoring.pocket_segmenter import PocketSegmenter
from posedreamer_assets.scoring.segmenter import Segmenter, load_segmenter, silhouette_iou

SHIPPED = WEIGHTS_DIR / "segmenter"


@pytest.fixture(scope="module")
def renders() -> dict[str, np.ndarray]:
    return make_shard(load_profile("pocket"), "elsewhere", 0, 24, seed=4711)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    found = Models(load_profile("pocket")).segmenter
    assert found is not None and found.name == "pocket segmenter"
    return found


def card(figure: str) -> float:
    found = re.search(rf"^\| {figure} \| ([0-9.]+) \|$", (SHIPPED / "README.md").read_text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_it_draws_bodies_as_well_as_its_card_says(renders: dict[str, np.ndarray], segmenter: Segmenter) -> None:
    iou = silhouette_iou(segmenter.draw(renders["images"]), renders["silhouettes"] > 0)
    error = float(iou.std() / np.sqrt(len(iou)))
    assert card("iou") - 4 * error - 0.01 < iou.mean() <= 1.0


def test_it_draws_nobody_on_walls_and_hardly_anything_where_a_person_was_painted_over(
    renders: dict[str, np.ndarray], segmenter: Segmenter
) -> None:
    walls = np.full((3, 128, 128, 3), np.array([40, 128, 220])[:, None, None, None], np.uint8)
    assert not segmenter.draw(walls).any()
    seen = renders["silhouettes"] > 0
    empty = np.stack([fill_hole(image, mask) for image, mask in zip(renders["images"], seen, strict=True)])
    assert segmenter.draw(empty).mean() < 0.2 * segmenter.draw(renders["images"]).mean()


def test_doubled_images_have_doubled_silhouettes(renders: dict[str, np.ndarray], segmenter: Segmenter) -> None:
    images = renders["images"][:6]
    doubled = segmenter.draw(images.repeat(2, 1).repeat(2, 2))
    assert np.nanmean(silhouette_iou(doubled, segmenter.draw(images).repeat(2, 1).repeat(2, 2))) > 0.93


class Reddish(torch.nn.Module):
    """Says that people are where it is red."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))  # half of the range, as networks are given it

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1] - self.level


@pytest.mark.parametrize("size", [(64, 64), (50, 80), (96, 64), (200, 128)])
def test_other_images_are_fitted_and_their_silhouettes_brought_back(size: tuple[int, int]) -> None:
    """A red box comes back where it is, whatever the image's size and shape; a pixel of its edge at most is off."""
    box = np.zeros((2, *size), bool)
    box[0, 10:40, 8:44] = True
    images = np.zeros((2, *size, 3), np.uint8)
    images[box] = (255, 30, 30)
    drawn = PocketSegmenter(Reddish(), "red", "", size=64, batch_size=8).draw(images)
    assert drawn.shape == box.shape and not drawn[1].any()
    assert silhouette_iou(drawn, box)[0] > (0.93 if max(size) < 128 else 0.88)  # at a third of the size an edge is wide
    if size == (64, 64):
        assert np.array_equal(drawn, box)


def test_a_silhouette_does_not_depend_on_its_company(renders: dict[str, np.ndarray], segmenter: Segmenter) -> None:
    drawn = segmenter.draw(renders["images"][:11])
    assert all(np.array_equal(segmenter.draw(renders["images"][i : i + 1])[0], drawn[i]) for i in (0, 7, 10))
    assert segmenter.draw(renders["images"][:0]).shape == (0, 128, 128)


def test_weights_of_another_network_and_torn_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="kind 'heatmap' and size 128 are no segmenter's"):
        load_segmenter(SegmenterConfig("shipped:judge"))
    shutil.copytree(SHIPPED, tmp_path / "torn")
    whole = (tmp_path / "torn/model.safetensors").read_bytes()
    (tmp_path / "torn/model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DetectorError, match="not weights of a silhouette network"):
        load_segmenter(SegmenterConfig(str(tmp_path / "torn")))
    first = load_segmenter(SegmenterConfig()).digest
    shutil.copyfile(WEIGHTS_DIR / "judge/model.safetensors", tmp_path / "torn/model.safetensors")
    with pytest.raises(DetectorError, match="not weights of a silhouette network"):
        load_segmenter(SegmenterConfig(str(tmp_path / "torn")))
    assert load_segmenter(SegmenterConfig(str(SHIPPED))).digest == first
