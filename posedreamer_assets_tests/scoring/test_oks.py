from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posedreamer_assets.scoring.oks import object_keypoint_similarity


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 128, (n, 17, 2)).astype(np.float32)
    detected = truth + rng.normal(0, 4, truth.shape).astype(np.float32)
    return detected, truth, rng.random((n, 17)) < 0.7, rng.uniform(300, 4000, n).astype(np.float32)


def coco_oks(detected: np.ndarray, truth: np.ndarray, visible: np.ndarray, area: float) -> float:
    """What COCOeval says of one person."""
    labels = np.concatenate([truth, 2.0 * visible[:, None]], 1).ravel().tolist()
    found = np.concatenate([detected, np.ones((17, 1))], 1).ravel().tolist()
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": area}
    gt: Any = COCO()
    dt: Any = COCO()
    base: Any = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "person"}]}
    gt.dataset = {**base, "annotations": [{**person, "keypoints": labels, "num_keypoints": int(visible.sum())}]}
    dt.dataset = {**base, "annotations": [{**person, "keypoints": found, "score": 1.0}]}
    gt.createIndex()
    dt.createIndex()
    judge: Any = COCOeval(gt, dt, "keypoints")
    judge._prepare()
    return float(np.asarray(judge.computeOks(1, 1))[0, 0])


def test_agrees_with_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    detected, truth, visible, area = drawn(40, 0)
    expected = [coco_oks(detected[i], truth[i], visible[i], float(area[i])) for i in range(40)]
    np.testing.assert_allclose(object_keypoint_similarity(detected, truth, visible, area), expected, rtol=1e-6)


def test_a_perfect_detection_scores_one_and_nobody_visible_scores_zero() -> None:
    detected, truth, visible, area = drawn(5, 1)
    visible[0] = False
    scores = object_keypoint_similarity(truth, truth, visible, area)
    assert scores.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert detected.shape == truth.shape


def test_hidden_keypoints_do_not_count() -> None:
    detected, truth, visible, area = drawn(8, 2)
    before = object_keypoint_similarity(detected, truth, visible, area)
    moved = np.where(visible[..., None], detected, detected + 50).astype(np.float32)
    np.testing.assert_array_equal(object_keypoint_similarity(moved, truth, visible, area), before)


@given(seed=st.integers(0, 1000), scale=st.floats(0.25, 4))
def test_scale_of_the_picture_does_not_matter(seed: int, scale: float) -> None:
    detected, truth, visible, area = drawn(3, seed)
    s = np.float32(scale)
    scaled = object_keypoint_similarity(detected * s, truth * s, visible, area * s * s)
    np.testing.assert_allclose(scaled, object_keypoint_similarity(detected, truth, visible, area), atol=2e-5)
