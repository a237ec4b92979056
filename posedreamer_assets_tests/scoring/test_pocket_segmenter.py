"""The shipped segmenter: bodies of renders that nothing has learnt from."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.config import WEIGHTS_DIR, SegmenterConfig, load_profile
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pocket.scenes import make_shard
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


def test_it_draws_nobody_on_walls_and_noise(segmenter: Segmenter) -> None:
    plain = np.full((3, 128, 128, 3), np.array([40, 128, 220])[:, None, None, None], np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3)).astype(np.uint8)
    assert segmenter.draw(np.concatenate([plain, noise])).mean() < 0.01


def test_larger_and_wider_images_are_fitted_and_their_silhouettes_brought_back(
    renders: dict[str, np.ndarray], segmenter: Segmenter
) -> None:
    images = renders["images"][:6]
    drawn = segmenter.draw(images)
    doubled = segmenter.draw(images.repeat(2, 1).repeat(2, 2))
    assert doubled.shape == (6, 256, 256)
    assert np.nanmean(silhouette_iou(doubled, drawn.repeat(2, 1).repeat(2, 2))) > 0.93
    wide = np.concatenate([images, np.zeros_like(images)], axis=2)  # people on the left of a picture twice as wide
    found = segmenter.draw(wide)
    assert found.shape == (6, 128, 256)
    assert np.nanmean(silhouette_iou(found[:, :, :128], renders["silhouettes"][:6] > 0)) > 0.6
    assert found[:, :, 140:].mean() < 0.02


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
