"""Training is the same when it is repeated; predictions do not depend on what is beside an image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import StudentError
from posedreamer_assets.students.external import read_predictions
from posedreamer_assets.students.features import WIDTH, Backbone, soft_argmax
from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.looks import dead_leaves, other_look
from posedreamer_assets.students.predict import head_of, predict, weights_to_bytes
from posedreamer_assets.students.recipes import StudentSpec
from posedreamer_assets.students.train import Samples, Trained, train
from posedreamer_assets_tests.students.test_geometry import SIDE

BODY = load_body()
SPEC = StudentSpec(steps=120, batch_size=4)


def made_up(count: int = 12) -> Samples:
    rng = np.random.default_rng(0)
    rotations = np.tile(np.eye(3, dtype=np.float32), (count, 22, 1, 1))
    rotations[:, 0] = np.diag([1, -1, -1])
    labels = Labels(
        rotations,
        rng.normal(0, 1, (count, 10)).astype(np.float32),
        np.tile(np.array([0, 0, 4], np.float32), (count, 1)),
        np.full(count, 200, np.float32),
        np.full((count, 2), SIDE / 2, np.float32),
    )
    return Samples(rng.normal(0, 1, (count, WIDTH)).astype(np.float16), labels, SIDE, SIDE)


def same(left: Trained, right: Trained) -> bool:
    return all(torch.equal(left.weights[name], right.weights[name]) for name in left.weights)


def test_equal_seeds_give_equal_weights_and_others_give_others() -> None:
    spec = replace(SPEC, steps=12)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = train(BODY, made_up(), spec, 1)
    assert torch.equal(torch.get_rng_state(), before), "nobody else's numbers are used up"
    torch.manual_seed(6)
    assert same(first, train(BODY, made_up(), spec, 1))
    assert not same(first, train(BODY, made_up(), spec, 2))
    assert first.samples_seen == spec.samples_seen == 48
    assert first.loss_last < first.loss_first


def test_features_that_are_not_finite_are_told() -> None:
    samples = made_up()
    samples.features[:] = np.float16("nan")
    with pytest.raises(StudentError, match="step 0: training diverged: loss is nan"):
        train(BODY, samples, replace(SPEC, steps=3), 0)


def test_predictions_do_not_depend_on_the_batch() -> None:
    head = head_of(weights_to_bytes(train(BODY, made_up(), replace(SPEC, steps=6), 0).weights))
    features = np.random.default_rng(1).normal(0, 1, (40, WIDTH)).astype(np.float16)
    focal = np.linspace(150, 250, 40).astype(np.float32)
    whole, one = predict(head, features, focal, SIDE), predict(head, features[37:38], focal[37:38], SIDE)
    assert (one.rotations[0] == whole.rotations[37]).all() and (one.pelvis_cam_m[0] == whole.pelvis_cam_m[37]).all()
    with pytest.raises(StudentError, match="not weights of a student"):
        head_of(b"nothing of the kind")


def test_features_do_not_depend_on_the_batch() -> None:
    backbone = Backbone("shipped:ranker")
    images = np.random.default_rng(2).integers(0, 256, (9, SIDE, SIDE, 3)).astype(np.uint8)
    whole = backbone(images)
    assert whole.shape == (9, WIDTH)
    assert (backbone(images[8:])[0] == whole[8]).all()


def test_a_peak_is_where_the_mass_is() -> None:
    logits = torch.full((1, 1, 4, 8), -50.0)
    logits[0, 0, 3, 2] = 50
    assert soft_argmax(logits)[0, 0].tolist() == pytest.approx([2.5 / 8, 3.5 / 4, 1.0])


def test_other_looks_change_everything_but_where_the_person_is() -> None:
    rng = np.random.default_rng(0)
    leaves = dead_leaves(rng, SIDE, SIDE)
    assert len(np.unique(leaves.reshape(-1, 3), axis=0)) > 20
    body = np.zeros((SIDE, SIDE), bool)
    body[30:100, 50:80] = True
    picture = np.where(body[..., None], np.array([200, 40, 40], np.uint8), np.array([0, 0, 255], np.uint8))
    look = other_look(picture, body, np.random.default_rng(3)).astype(int)
    inside = np.zeros_like(body)
    inside[40:90, 56:74] = True
    assert look[inside].std(axis=0).max() < 12, "the person is one colour still"
    assert look[~body].std(axis=0).min() > 30, "behind are leaves"
    assert (look == other_look(picture, body, np.random.default_rng(3))).all()


def predictions(**changes: object) -> dict[str, np.ndarray]:
    arrays: dict[str, object] = {
        "sample_id": np.array(["bench-renders-0000/000000", "bench-renders-0000/000001"]),
        "global_orient": np.array([[np.pi, 0, 0]] * 2),
        "body_pose": np.zeros((2, 21, 3)),
        "betas": np.zeros((2, 10)),
        **changes,
    }
    return {name: np.asarray(value) for name, value in arrays.items() if value is not None}


def test_predictions_of_others_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "preds.npz", **predictions())  # type: ignore[arg-type]
    ids, found = read_predictions(tmp_path / "preds.npz")
    assert ids == ["bench-renders-0000/000000", "bench-renders-0000/000001"]
    assert np.allclose(found.rotations[:, 0], np.diag([1, -1, -1]), atol=1e-6)
    assert found.rotations.shape == (2, 22, 3, 3) and found.betas.shape == (2, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"betas": None}, "no array 'betas'"),
        ({"betas": np.zeros((2, 11))}, r"betas is float64 \(2, 11\), expected numbers \(2, 10\)"),
        ({"body_pose": np.full((2, 63), np.nan)}, "not finite"),
        ({"sample_id": ["a", "a"]}, "each image once"),
        ({"sample_id": None}, "no array 'sample_id'"),
        ({"sample_id": np.array(["a", None], object)}, "not a readable npz"),
    ],
)
def test_bad_predictions_are_refused_by_name(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    np.savez(tmp_path / "preds.npz", **predictions(**changes))  # type: ignore[arg-type]
    with pytest.raises(StudentError, match=words):
        read_predictions(tmp_path / "preds.npz")


def test_a_file_that_is_no_npz_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudentError, match="no such file"):
        read_predictions(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(StudentError, match="not a readable npz"):
        read_predictions(tmp_path / "text.npz")
