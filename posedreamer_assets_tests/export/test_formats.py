"""Each format, read back by a reader written from its description: the body must lie on its image."""

import dataclasses
import gc
import io
import json
import pickletools
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posedreamer_assets.body.joints import OUTPUT_JOINT_NAMES
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.transfer import SmplConverter
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.samples import HALF_PIXEL, Rig, Samples
from posedreamer_assets.export.shards import Options, export
from posedreamer_assets.export.subject import Subject
from posedreamer_assets.render.gl import View, renderer
from posedreamer_assets_tests.body.smpl_files import write_smpl, write_transfer
from posedreamer_assets_tests.export.readers import (
    Seen,
    StockBody,
    body_of_row,
    read_bedlam,
    read_folder,
    read_hmr2,
    read_humandata,
    read_people,
)
from posedreamer_assets_tests.export.rows import HEIGHT, IDS, WIDTH, TableReader, World

Exported = Callable[..., Path]
LEAST_IOU = 0.98


def sample_of(image: str) -> int:
    return IDS.index("/".join(image.rpartition(".")[0].split("/")[-2:]) or image)


def silhouette_iou(seen: Seen, truth: World, sample: int, shift: float = 0.0) -> float:
    """Of the body as the reader understands it with the silhouette of the control map.

    `shift` is where the format has the corner of the image, pixels from its (0, 0).
    """
    matrix = seen.matrix
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])
    view = View(float(matrix[0, 0]), (float(matrix[0, 2]) + shift, float(matrix[1, 2]) + shift), WIDTH, HEIGHT)
    body = load_body()
    _, depth = renderer().draw_data(seen.vertices_cam, body.faces, np.ones_like(seen.vertices_cam), view)
    drawn, expected = depth > 0, truth.maps.silhouette[sample] > 0
    return float((drawn & expected).sum() / (drawn | expected).sum())


def check_bodies(found: Iterable[Seen], truth: World, shift: float = 0.0) -> list[Seen]:
    seen = sorted(found, key=lambda s: s.image)
    assert sorted(sample_of(s.image) for s in seen) == list(range(len(IDS)))
    assert min(silhouette_iou(s, truth, sample_of(s.image), shift) for s in seen) >= LEAST_IOU
    return seen


def projected(seen: Seen) -> np.ndarray:
    homogeneous = seen.joints_cam @ seen.matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def test_a_body_turned_about_the_origin_would_be_seen(exported: Exported, stock_body: StockBody, truth: World) -> None:
    """The silhouettes tell the usual mistake: R (T) + t for the translation, as if bodies turned about the origin."""
    ious = []
    for seen in read_humandata(exported("humandata"), stock_body, pickled=False):
        i = sample_of(seen.image)
        wrong = truth.cameras.rotation[i] @ truth.params.transl[i] + truth.cameras.translation[i]
        pelvis = load_body().J_regressor[0] @ (load_body().v_template + load_body().shapedirs @ truth.params.betas[i])
        right = truth.cameras.rotation[i] @ (truth.params.transl[i] + pelvis) + truth.cameras.translation[i] - pelvis
        moved = Seen(seen.image, seen.vertices_cam + wrong - right, seen.joints_cam, seen.matrix, {})
        ious.append(silhouette_iou(moved, truth, i, HALF_PIXEL))
    assert max(ious) < LEAST_IOU


@pytest.mark.parametrize("pickled", [False, True])
def test_humandata(exported: Exported, stock_body: StockBody, truth: World, pickled: bool) -> None:
    folder = exported("humandata", pickled)
    for seen in check_bodies(read_humandata(folder, stock_body, pickled), truth, HALF_PIXEL):
        i = sample_of(seen.image)
        assert tuple(seen.extra["size"]) == (WIDTH, HEIGHT)
        x, y, w, h = truth.maps.bbox[i].astype(np.float64)
        low = np.maximum([x - 0.1 * w, y - 0.1 * h], 0)  # 1.2 times as large, cut at the border
        high = np.minimum([x + 1.1 * w, y + 1.1 * h], [WIDTH, HEIGHT])
        np.testing.assert_allclose(seen.extra["bbox"], [*low, *(high - low), 1], atol=1e-4)
        assert seen.extra["mask"][:76].all()
        assert not seen.extra["mask"][76:].any()
        np.testing.assert_allclose(seen.extra["keypoints3d"][:76, :3], seen.joints_cam, atol=1e-5)
        np.testing.assert_allclose(seen.extra["keypoints2d"][:76, :2], projected(seen), atol=1e-2)


def test_humandata_hands_relative_to_the_mean_hand(tmp_path: Path, truth: World, subject: Subject) -> None:
    """smplx adds the mean hand by default: what is written, and it, make the hand again."""
    mean = np.random.default_rng(0).normal(0, 0.3, (2, 15, 3)).astype(np.float32)
    relative = dataclasses.replace(subject, mean_hands=mean)
    export(TableReader(truth), relative, FORMATS["humandata"], tmp_path, Options(pickles=False))
    for path in tmp_path.rglob("*.npz"):
        with np.load(path) as data:
            assert not data["misc/flat_hand_mean"]
            rows = [IDS.index(name) for name in data["sample_id"]]
            for side, add in zip(("left", "right"), mean, strict=True):
                hand = getattr(truth.params, f"{side}_hand_pose")[rows]
                np.testing.assert_allclose(data[f"smplx/{side}_hand_pose"] + add, hand, atol=1e-6)


def test_bedlam(exported: Exported, stock_body: StockBody, truth: World) -> None:
    for seen in check_bodies(read_bedlam(exported("bedlam"), stock_body), truth):
        np.testing.assert_allclose(seen.extra["world_in_camera"], seen.vertices_cam, atol=1e-5)
        keypoints = seen.extra["keypoints2d"]
        assert keypoints.shape == (127, 3)
        # The format knows no expression, which moves the free body's joints by up to some millimetres.
        off_px = np.linalg.norm(keypoints[:55, :2] - projected(seen)[:55], axis=1)
        assert (off_px * seen.joints_cam[:55, 2] / seen.matrix[0, 0]).max() < 0.005
        np.testing.assert_allclose(keypoints[:55, :2], truth.maps.joints_2d[sample_of(seen.image)], atol=1e-2)
        assert keypoints[:76, 2].all()
        assert not keypoints[76:].any()
        inside = np.all((keypoints[:22, :2] >= 0) & (keypoints[:22, :2] < [WIDTH, HEIGHT]), axis=1)
        reach = np.abs(keypoints[:22, :2][inside] - seen.extra["center"]).max()
        assert seen.extra["scale"] * 200 / 1.2 / 2 == pytest.approx(reach, rel=1e-3)


def test_hmr2_without_pickle(exported: Exported, stock_body: StockBody, truth: World) -> None:
    openpose = [55, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65]
    for seen in check_bodies(read_hmr2(exported("hmr2"), stock_body), truth, HALF_PIXEL):
        person, i = seen.extra, sample_of(seen.image)
        pixels = projected(seen)[openpose]
        np.testing.assert_allclose(person["keypoints_2d"][:25, :2], pixels, atol=1e-2)
        corner = pixels + HALF_PIXEL
        inside = np.all((corner >= 0) & (corner < [WIDTH, HEIGHT]), axis=1)
        np.testing.assert_array_equal(person["keypoints_2d"][:25, 2], inside)
        assert not person["keypoints_2d"][25:].any()
        assert not person["keypoints_3d"][:, 3].any()
        np.testing.assert_allclose(person["keypoints_3d"][:25, :3], seen.joints_cam[openpose], atol=1e-5)
        np.testing.assert_allclose(person["keypoints_3d"][39, :3], seen.joints_cam[0], atol=1e-5)  # HMR2's pelvis
        x, y, w, h = truth.maps.bbox[i]
        np.testing.assert_allclose(person["center"], [x + w / 2 - HALF_PIXEL, y + h / 2 - HALF_PIXEL])
        np.testing.assert_allclose(person["scale"] * 200, [1.2 * w, 1.2 * h], rtol=1e-5)
        assert person["has_body_pose"] == 0
        assert person["has_betas"] == 0


# webdataset leaves the last tar to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("pickled", [False, True])
def test_hmr2_through_webdataset(exported: Exported, pickled: bool) -> None:
    wds = pytest.importorskip("webdataset")
    tars = sorted(str(p) for p in exported("hmr2", pickled).glob("*.tar"))
    dataset = wds.WebDataset(tars, shardshuffle=False, empty_check=False).decode("rgb8").rename(jpg="jpg;jpeg;png")
    found = list(dataset)
    del dataset
    gc.collect()
    assert sorted(s["__key__"] for s in found) == IDS
    for sample in found:
        assert sample["jpg"].shape == (HEIGHT, WIDTH, 3)
        if pickled:
            [person] = sample["data.pyd"]
            assert person["extra_info"].get("fitting_loss", np.array({})).item() == {}
        else:
            person = {name: value[0] for name, value in sample["data.npz"].items() if value.ndim}
        assert person["body_pose"].shape == (72,)
        assert person["keypoints_3d"].shape == (44, 4)


def test_pickles_name_no_module_that_older_numpy_lacks(exported: Exported) -> None:
    """Readers of these formats are pinned to NumPy 1, whose arrays live elsewhere than NumPy 2's."""
    pickled = []
    for path in exported("hmr2", True).glob("*.tar"):
        with tarfile.open(path) as tar:
            files = (tar.extractfile(name) for name in tar.getnames() if name.endswith(".pyd"))
            pickled += [file.read() for file in files if file]
    for path in exported("humandata", True).rglob("*.npz"):
        with zipfile.ZipFile(path) as archive:
            members = (archive.read(f"{name}.npy") for name in ("smplx", "meta", "misc"))
            pickled += [data[data.index(b"\n") + 1 :] for data in members]
    modules = {
        argument
        for data in pickled
        for _, argument, _ in pickletools.genops(data)
        if isinstance(argument, str) and argument.startswith("numpy")
    }
    assert modules == {"numpy"}


def test_coco_through_pycocotools(exported: Exported, stock_body: StockBody, truth: World) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    folder, numbers = exported("coco"), []
    bodies = {sample_of(s.image): s for s in read_humandata(exported("humandata"), stock_body, False)}
    for path in sorted((folder / "annotations").glob("*.json")):
        coco = coco_module.COCO(str(path))
        assert coco.loadCats(coco.getCatIds())[0]["keypoints"][9] == "left_wrist"
        for image in coco.loadImgs(coco.getImgIds()):
            numbers.append(image["id"])
            [annotation] = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            check_coco(annotation, sample_of(image["file_name"]), bodies, truth)
            with Image.open(folder / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
    assert len(set(numbers)) == len(IDS)
    assert min(numbers) > 0 and max(numbers) < 2**53  # whole numbers in every JSON reader


def check_coco(annotation: dict, i: int, bodies: dict[int, Seen], truth: World) -> None:
    keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
    inside, visible = truth.maps.keypoints_in_frame[i], truth.maps.keypoints_visible[i]
    np.testing.assert_array_equal(keypoints[:, 2], np.where(inside, np.where(visible, 2, 1), 0))
    np.testing.assert_allclose(keypoints[inside, :2], truth.maps.keypoints_2d[i][inside] - HALF_PIXEL, atol=0.01)
    assert not keypoints[~inside].any()
    assert annotation["num_keypoints"] == inside.sum()
    assert annotation["bbox"] == list(truth.maps.bbox[i])
    # COCO-WholeBody: left foot, then right; a hand is its wrist, then each finger from the palm to the tip.
    joints = projected(bodies[i])  # of HumanData, which has the same pixels
    fingers = {"thumb": 37, "index": 25, "middle": 28, "ring": 34, "pinky": 31}
    left = [20, *(k for n, f in enumerate(fingers.values()) for k in (f, f + 1, f + 2, 66 + n))]
    right = [21, *(k for n, f in enumerate(fingers.values()) for k in (f + 15, f + 16, f + 17, 71 + n))]
    for name, points in {"foot": list(range(60, 66)), "lefthand": left, "righthand": right}.items():
        given = np.array(annotation[f"{name}_kpts"]).reshape(-1, 3)
        known = given[:, 2] > 0
        np.testing.assert_allclose(given[known, :2], joints[points][known], atol=0.02)
        assert annotation[f"{name}_valid"] == known.any()
    assert len(annotation["face_kpts"]) == 68 * 3
    assert not annotation["face_valid"]


def test_parquet_through_datasets(
    exported: Exported, stock_body: StockBody, truth: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = {path.name.partition("-")[0]: [] for path in (exported("parquet") / "data").iterdir()}
    for path in sorted((exported("parquet") / "data").iterdir()):
        files[path.name.partition("-")[0]].append(str(path))
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    rows = [row for split in loaded.values() for row in split]
    check_bodies((body_of_row(row, stock_body) for row in rows), truth)
    for row in rows:
        stored = truth.images.column("image")[IDS.index(row["sample_id"])].as_py()
        np.testing.assert_array_equal(np.asarray(row["image"]), np.asarray(Image.open(io.BytesIO(stored))))


def test_folder(exported: Exported, stock_body: StockBody, truth: World) -> None:
    for seen in check_bodies(read_folder(exported("folder"), stock_body), truth):
        np.testing.assert_allclose(seen.extra["world_in_camera"], seen.vertices_cam, atol=1e-5)


def test_images_are_the_stored_bytes(exported: Exported, truth: World) -> None:
    for form, folder in (("humandata", "datasets/posedreamer"), ("coco", "images"), ("folder", "images")):
        for i, name in enumerate(IDS):
            [path] = (exported(form) / folder).glob(f"{name}.*")
            assert path.read_bytes() == truth.images.column("image")[i].as_py()
            assert path.suffix == (".jpg" if i % 3 == 0 else ".png")


def test_joints_of_the_rig_are_those_of_the_whole_body(truth: World) -> None:
    body = load_body()
    np.testing.assert_allclose(Rig(body).joints(truth.params), body.joints(truth.params), atol=1e-5)


def test_rig_has_pose_blend_shapes(truth: World) -> None:
    arrays = dict(vars(load_body()))
    fields = {k: arrays[k] for k in ("name", "v_template", "shapedirs", "exprdirs", "J_regressor", "weights", "faces")}
    size = fields["v_template"].size
    bent = type(load_body())(
        posedirs=np.random.default_rng(0).normal(0, 1e-3, (486, size)).astype(np.float32), **fields
    )
    np.testing.assert_allclose(Rig(bent).joints(truth.params), bent.joints(truth.params), atol=1e-4)


def test_seen_points_are_those_of_the_table(truth: World, subject: Subject) -> None:
    samples = Samples(truth.table, {}, Rig(subject.body))
    np.testing.assert_array_equal(samples.visible[:, :55], truth.maps.joints_visible)
    np.testing.assert_allclose(samples.joints_px[:, :55], truth.maps.joints_2d, atol=1e-2)


def test_tips_and_toes_are_seen_where_the_joint_that_moves_them_is(truth: World, subject: Subject) -> None:
    samples, place = Samples(truth.table, {}, Rig(subject.body)), OUTPUT_JOINT_NAMES.index
    moved_by = {
        f"{s}_{f}": f"{s}_{f}3" for s in ("left", "right") for f in ("thumb", "index", "middle", "ring", "pinky")
    }
    moved_by |= {f"{s}_{p}": f"{s}_foot" for s in ("left", "right") for p in ("big_toe", "small_toe", "heel")}
    for point, joint in moved_by.items():
        expected = truth.maps.joints_visible[:, place(joint)] & samples.in_frame[:, place(point)]
        np.testing.assert_array_equal(samples.visible[:, place(point)], expected)


@pytest.mark.parametrize("name", ["coco", "parquet", "folder", "bedlam"])
def test_labels_of_another_body_are_refused(name: str, tmp_path: Path, truth: World, subject: Subject) -> None:
    body = load_body()
    fields = {
        k: getattr(body, k) for k in ("name", "v_template", "exprdirs", "posedirs", "J_regressor", "weights", "faces")
    }
    other = dataclasses.replace(subject, body=type(body)(shapedirs=body.shapedirs * 1.5, **fields))
    with pytest.raises(ExportError, match="body that made the dataset"):
        export(TableReader(truth), other, FORMATS[name], tmp_path / "out")
    assert not (tmp_path / "out").exists()  # nothing was written, nothing stays


def test_annotation_files_are_plain_json(exported: Exported) -> None:
    for path in (exported("coco") / "annotations").iterdir():
        assert json.loads(path.read_text(), parse_constant=pytest.fail)["images"]


def test_options_that_change_files_change_the_shards(tmp_path: Path, truth: World, subject: Subject) -> None:
    reader = TableReader(truth)
    export(reader, subject, FORMATS["humandata"], tmp_path, Options())
    assert export(reader, subject, FORMATS["humandata"], tmp_path, Options(pickles=False)).complete == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_hmr2_has_smpl_where_the_files_for_it_are(tmp_path: Path, truth: World, subject: Subject) -> None:
    """Fitted in the camera frame: posed by stock smplx's SMPL, the body lies on its image."""
    smplx = pytest.importorskip("smplx")
    body = load_body()
    ids = write_smpl(tmp_path / "smpl.npz", body)
    write_transfer(tmp_path / "transfer.npz", ids, len(body.v_template))
    converter = SmplConverter.load(body, tmp_path / "smpl.npz", tmp_path / "transfer.npz")
    fitted = dataclasses.replace(subject, to_smpl=converter)
    export(TableReader(truth), fitted, FORMATS["hmr2"], tmp_path / "out", Options(pickles=False))
    with np.load(tmp_path / "smpl.npz") as data, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = smplx.utils.Struct(**{name: data[name] for name in data.files})
        smpl = smplx.SMPL(str(tmp_path), data_struct=arrays, num_betas=10)
    people = read_people(tmp_path / "out")
    assert len(people) == len(IDS)
    for name, person in people.items():
        assert person["has_body_pose"] == person["has_betas"] == 1
        assert person["smpl_fit_error_m"] < 0.01
        pose = torch.tensor(person["body_pose"])[None]
        with torch.no_grad():
            posed = smpl(
                global_orient=pose[:, :3],
                body_pose=pose[:, 3:],
                betas=torch.tensor(person["betas"])[None],
                transl=torch.tensor(person["smpl_transl"])[None],
            )
        seen = Seen(name, posed.vertices[0].numpy(), posed.joints[0].numpy(), person["cam_int"], {})
        # Fingers that SMPL does not have are a part of the silhouette.
        assert silhouette_iou(seen, truth, IDS.index(name), HALF_PIXEL) > 0.96
