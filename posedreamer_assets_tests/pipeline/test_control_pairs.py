"""What control LoRAs are trained on: photographs with fits, whose bodies are drawn where they are seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.config import ImageConfig, load_profile
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.pipeline.control_pairs import NO_CAPTION, photographs_with_fits
from posedreamer_assets.tables.rows import array, points
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of

PROFILE = replace(load_profile("pocket"), image=ImageConfig(128, 128))
WIDTH, HEIGHT = 320, 240
PELVIS = load_body().joints(BodyParams.zeros(1))[0, 0]


def save_pair(folder: Path, name: str, seed: int, **changes: object) -> np.ndarray:
    """A photograph that is white where the pelvis is seen; returns that pixel."""
    arrays = arrays_of(1, seed)
    transl = np.array([0.3 * (-1) ** seed, 0.1, 4.0 + 0.2 * seed])
    arrays |= {"transl": transl[None], "focal_px": np.array([300.0]), "principal_px": np.array([[160.0, 120.0]])}
    arrays["betas"] = np.zeros((1, 10))
    arrays |= {"image_size": np.array([WIDTH, HEIGHT]), **changes}
    np.savez(folder / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
    pelvis = transl + PELVIS
    middle = 300 * pelvis[:2] / pelvis[2] + [160, 120]
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    x, y = middle.round().astype(int)
    pixels[y - 6 : y + 7, x - 6 : x + 7] = 255
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return middle


def test_a_body_is_drawn_over_the_photograph_where_it_is_seen(tmp_path: Path) -> None:
    middles = [save_pair(tmp_path, f"{i}", i) for i in range(6)]
    (tmp_path / "alone.jpg").write_bytes(b"a photograph without a fit")
    scenes = photographs_with_fits(tmp_path, PROFILE)
    assert scenes.ids == [f"{i}.png" for i in range(6)]
    assert scenes.data.held_out.sum() == 1
    assert scenes.data.captions[0] == "person 0"
    pixels, truth = scenes.data.read(np.arange(6)), scenes.truth(np.arange(6))
    hips = points(truth, "keypoints_2d", 2)[:, 11:13].mean(axis=1)
    scale, margin = 128 / WIDTH, np.array([0.0, (128 - HEIGHT * 128 / WIDTH) / 2])
    for i, middle in enumerate(middles):
        there = middle * scale + margin
        rows, columns = np.nonzero(pixels.images[i].mean(-1) > 200)
        assert np.allclose([columns.mean(), rows.mean()], there, atol=1.0), "the photograph is scaled and centred"
        assert pixels.controls[i][tuple(there.round().astype(int)[::-1])].any(), "the body covers its own middle"
        assert np.linalg.norm(hips[i] - there) < 0.25 * array(truth, "bbox")[i, 3]
    assert (pixels.controls.any((1, 2, 3))).all()
    again = scenes.data.read(np.array([4, 1]))
    assert np.array_equal(again.images, pixels.images[[4, 1]]) and np.array_equal(
        again.controls, pixels.controls[[4, 1]]
    )


def test_a_caption_is_made_up_where_there_is_none(tmp_path: Path) -> None:
    for i in range(2):
        save_pair(tmp_path, f"{i}", i, caption=None)
    assert photographs_with_fits(tmp_path, PROFILE).data.captions == [NO_CAPTION] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": np.array([640, 480])}, "its camera is of an image of 640 x 480, 1.png has 320 x 240"),
        ({"focal_px": None, "principal_px": None, "image_size": None}, "a fit without a camera"),
    ],
)
def test_a_fit_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    save_pair(tmp_path, "0", 0)
    save_pair(tmp_path, "1", 1, **changes)
    with pytest.raises(PoseFileError, match=said):
        photographs_with_fits(tmp_path, PROFILE)


def test_a_folder_without_pairs_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(PoseFileError, match=r"a\.jpg and a\.npz"):
        photographs_with_fits(tmp_path, PROFILE)
