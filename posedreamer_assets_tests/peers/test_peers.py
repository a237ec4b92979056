"""Each export through each loader: the picture and the labels that reach a network must belong together."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX, COCO17_MIRROR
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.samples import Rig, Samples
from posedreamer_assets.export.shards import Options, export
from posedreamer_assets.export.subject import Subject
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets_tests.export.rows import HEIGHT, IDS, WIDTH, TableReader, World, crowded, pictured, world
from posedreamer_assets_tests.peers import loaders
from posedreamer_assets_tests.peers.loaders import Crop

OPENPOSE = np.array([55, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65])
ALL = np.arange(76)
# Format, loader, the points it reads among the 76, and its partners of them where it flips.
PEERS: dict[str, tuple[str, Callable[..., Iterator[Crop]], np.ndarray, np.ndarray | None]] = {
    "hmr2": ("hmr2", loaders.hmr2, OPENPOSE, None),
    "hmr2 flipped": ("hmr2", loaders.hmr2, OPENPOSE, loaders.MIRROR_25),
    "mmhuman3d": ("humandata", loaders.mmhuman3d, ALL, None),
    "mmhuman3d flipped": ("humandata", loaders.mmhuman3d, ALL, loaders.MIRROR_76),
    "smpler-x": ("humandata", loaders.smpler_x, ALL, None),
    "smpler-x flipped": ("humandata", loaders.smpler_x, ALL, loaders.MIRROR_76),
    "mmpose": ("coco", loaders.mmpose_top_down, COCO17_FROM_SMPLX, None),
    "mmpose flipped": ("coco", loaders.mmpose_top_down, COCO17_FROM_SMPLX, COCO17_MIRROR),
    "bedlam": ("bedlam", loaders.bedlam, ALL, None),
}


@pytest.fixture(scope="module")
def truth() -> World:
    """The people in pictures whose red and green are the numbers of the column and the row."""
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    ramp = np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)
    return pictured(world(), [encode_png(ramp)] * len(IDS))


@pytest.fixture(scope="module")
def folder(truth: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(form: str) -> Path:
        if form not in made:
            made[form] = tmp_path_factory.mktemp(form)
            options = Options(keypoints_only=True, pickles=form == "humandata")
            export(TableReader(truth), Subject.load(None), FORMATS[form], made[form], options)
        return made[form]

    return make


def crops(peer: str, folder: Callable[[str], Path]) -> list[Crop]:
    form, loader, _, mirror = PEERS[peer]
    found = list(loader(folder(form)) if loader is loaders.bedlam else loader(folder(form), mirror is not None))
    assert sorted(crop.sample for crop in found) == sorted(IDS)
    return found


def wanted_points(truth: World, peer: str, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
    """Where the loader's points are in the image, pixels from its corner, and which lie well inside of it."""
    _, _, chosen, mirror = PEERS[peer]
    i = IDS.index(crop.sample)
    samples = Samples(truth.table.slice(i, 1), {}, Rig(Subject.load(None).body))
    points = samples.joints_px[0, chosen if mirror is None else chosen[mirror]]
    inside = ((points > 1) & (points < np.array([WIDTH, HEIGHT]) - 1)).all(axis=1)
    return points, inside


def colour_at(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Red and green at points that count pixels, and NaN outside."""
    maps = points.astype(np.float32)[None]
    found = cv2.remap(picture, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderValue=(-999.0, -999.0, -999.0))[
        0, :, :2
    ]
    return np.where(found < -1, np.nan, found)


def misses(truth: World, peer: str, crop: Crop) -> np.ndarray:
    """How far in the image each keypoint lies from the pixels that the loader finds at it: x and y, pixels."""
    points, inside = wanted_points(truth, peer, crop)
    found = colour_at(crop.picture, crop.points - crop.first_centre)
    clean = crop.known & inside & ~np.isnan(found).any(axis=1)
    assert clean.sum() > 3
    return found[clean] - (points[clean] - 0.5)  # the first column, whose colour is 0, has its centre at 0.5


@pytest.mark.parametrize("peer", PEERS)
def test_pixels_and_keypoints_belong_together(peer: str, truth: World, folder: Callable[[str], Path]) -> None:
    """To a twentieth of a pixel, which is how finely OpenCV interpolates; a label half a pixel off is seen."""
    errors = np.concatenate([misses(truth, peer, crop) for crop in crops(peer, folder)])
    assert np.abs(errors.mean(axis=0)).max() < 0.02
    assert np.abs(errors).max() < 0.1


@pytest.mark.parametrize("peer", PEERS)
def test_a_label_in_the_other_convention_would_be_seen(peer: str, truth: World, folder: Callable[[str], Path]) -> None:
    """Had the labels been left as they are in the table (or, for BEDLAM, been shifted), a flip makes a whole pixel of it."""
    crop = crops(peer, folder)[0]
    form, _, _, mirror = PEERS[peer]
    points, _ = wanted_points(truth, peer, crop)
    scale = np.linalg.norm(crop.points[0] - crop.points[1]) / np.linalg.norm(points[0] - points[1])
    shift = np.array([0.5 * scale, 0.5 * scale]) * (-1 if form == "bedlam" else 1)
    if mirror is not None:
        shift[0] = -shift[0]
    wrong = misses(truth, peer, dataclasses.replace(crop, points=crop.points + shift))
    assert np.abs(wrong.mean(axis=0)).min() > 0.4


@pytest.mark.parametrize(
    ("peer", "least", "most"), [("hmr2", 0.8, 0.85), ("smpler-x", 0.8, 0.86), ("mmpose", 0.79, 0.82)]
)
def test_the_person_fills_the_crop_as_in_the_loaders_own_data(
    peer: str, least: float, most: float, truth: World, folder: Callable[[str], Path]
) -> None:
    """1 / 1.2 of it, or 1 / 1.25, in the direction that fits tightly; bodies whose padded box is cut at the border apart."""
    whole = 0
    for crop in crops(peer, folder):
        box = truth.maps.bbox[IDS.index(crop.sample)].astype(float)
        low, high = box[:2] - 0.13 * box[2:], box[:2] + 1.13 * box[2:]
        if (low < 0).any() or (high > [WIDTH, HEIGHT]).any():
            continue
        whole += 1
        height, width = crop.picture.shape[:2]
        across, down = (
            np.median(np.diff(crop.picture[..., k], axis=1 - k)) for k in (0, 1)
        )  # image pixels a crop pixel
        # 4D-Humans crops a square for a box of 3 : 4; a network then leaves out an eighth on either side.
        width = height * 3 / 4 if peer == "hmr2" else width
        assert least < max(box[2] / (across * width), box[3] / (down * height)) < most
    assert whole > 0


@pytest.mark.parametrize("peer", ["hmr2", "smpler-x", "mmhuman3d", "mmpose"])
def test_no_joint_of_the_image_is_outside_of_the_crop(peer: str, truth: World, folder: Callable[[str], Path]) -> None:
    for crop in crops(peer, folder):
        _, inside = wanted_points(truth, peer, crop)
        height, width = crop.picture.shape[:2]
        points = crop.points[crop.known & inside]
        assert ((points > -1) & (points < [width, height])).all()


def test_mmhuman3d_finds_keypoints_and_bodies(truth: World, folder: Callable[[str], Path]) -> None:
    identity = Subject.load(None).identity
    for crop in crops("mmhuman3d", folder):
        assert crop.labels["smplx"]["body_pose"].shape == (21, 3)
        assert crop.known.sum() > 60
        i = IDS.index(crop.sample)
        np.testing.assert_allclose(crop.labels["keypoints3d"][:55, :3], truth.maps.joints_cam_m[i], atol=1e-3)
        misc = crop.labels["misc"]
        assert (misc["body_name"], misc["body_vertices"]) == ("posedreamer-free-body", 13718)
        assert (misc["body_sha256"], misc["body_licence"]) == (identity.sha256, identity.licence)


def test_detectron2_adds_half_a_pixel_to_keypoints_and_none_to_boxes(
    truth: World, folder: Callable[[str], Path]
) -> None:
    """Its load_coco_json: keypoints to continuous coordinates, which a flip then turns about w / 2."""
    for path in (folder("coco") / "annotations").glob("*.json"):
        page = json.loads(path.read_text())
        names = {image["id"]: image["file_name"].rpartition(".")[0] for image in page["images"]}
        for annotation in page["annotations"]:
            i = IDS.index(names[annotation["image_id"]])
            triplets = np.array(annotation["keypoints"]).reshape(17, 3)
            known = triplets[:, 2] > 0
            continuous = triplets[known, :2] + 0.5
            np.testing.assert_allclose(continuous, truth.maps.keypoints_2d[i][known], atol=0.011)
            np.testing.assert_allclose(annotation["bbox"], truth.maps.bbox[i])


@pytest.mark.filterwarnings("ignore")
def test_coco_evaluation_scores_the_labels_as_perfect(folder: Callable[[str], Path]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    for path in (folder("coco") / "annotations").glob("*.json"):
        truth = COCO(str(path))
        keys = ("image_id", "category_id", "keypoints")
        annotations = json.loads(path.read_text())["annotations"]
        same: Any = [{**{k: a[k] for k in keys}, "score": 1.0} for a in annotations]
        found = truth.loadRes(same)
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)


def trained_betas(person: dict, betas_reg: bool) -> float | None:
    """4D-Humans: the weight of the shape loss; None where BETAS_REG puts betas of zero in the place of missing ones."""
    if betas_reg and not person["has_betas"] > 0:
        return None
    return float(person["has_betas"])


def test_hmr2_without_smpl_trains_no_shape_if_it_is_told_so(folder: Callable[[str], Path]) -> None:
    """With BETAS_REG there is no mark that helps: that is why such an export has to be asked for, and says what to set."""
    for crop in crops("hmr2", folder):
        assert trained_betas(crop.labels, betas_reg=False) == 0
        assert trained_betas(crop.labels, betas_reg=True) is None
    notes = FORMATS["hmr2"].notes(Options(keypoints_only=True), Subject.load(None))
    assert any("BETAS_REG: False" in note for note in notes)


# Two people in one image


@pytest.mark.parametrize("form", FORMATS)
def test_people_of_one_image_share_its_picture(form: str, tmp_path: Path) -> None:
    """The picture is written once, whatever the format; everybody is labelled."""
    both = crowded(world())
    options = Options(keypoints_only=True, pickles=form == "humandata")
    result = export(TableReader(both), Subject.load(None), FORMATS[form], tmp_path, options)
    assert (result.samples, result.images) == (len(IDS), len(IDS) - 1)
    shared = both.images.column("image")[0].as_py()
    marker = shared[len(shared) // 2 :][:64]
    files = [p for p in tmp_path.rglob("*") if p.is_file() and ".shards" not in p.parts]
    assert sum(p.read_bytes().count(marker) for p in files) == 1
    people = {"hmr2": loaders.hmr2, "humandata": loaders.mmhuman3d, "coco": loaders.mmpose_top_down}
    if form in people:
        found = [crop.sample for crop in people[form](tmp_path, False)]
        assert found.count(IDS[0]) == 2
        assert len(found) == len(IDS)
    if form == "folder":
        label = json.loads((tmp_path / "labels" / f"{IDS[0]}.json").read_text())
        assert [person["sample_id"] for person in label["people"]] == [IDS[0], f"{IDS[0]}/1"]
    if form == "parquet":
        import pyarrow.parquet as pq

        tables = [pq.read_table(path) for path in (tmp_path / "data").iterdir()]
        rows = [row for table in tables for row in table.to_pylist() if row["image_id"] == IDS[0]]
        assert [row["image"]["bytes"] == shared for row in rows] == [True, True]
