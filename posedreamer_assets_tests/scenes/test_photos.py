"""Annotated photographs: COCO's JSON with all that occurs in it, masks against pycocotools, people over a photograph."""

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask

from posedreamer_assets.body.joints import COCO17, COCO17_FROM_SMPLX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.crowds import ground_camera
from posedreamer_assets.checks.crowds import untouched_outside_mask
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.config import MixedConfig, load_profile
from posedreamer_assets.errors import ConfigError, PhotoError
from posedreamer_assets.pipeline.annotated_photos import photos_of
from posedreamer_assets.poses.procedural import FAMILIES, stand_on_ground
from posedreamer_assets.scenes.mix import lay_over_photo, under
from posedreamer_assets.scenes.photo_camera import distances_m, photo_view
from posedreamer_assets.scenes.photos import PhotoPeople, coco_photos, people_from_json, people_to_json
from posedreamer_assets.scenes.picture import picture_of
from posedreamer_assets.scenes.points import MPII16, all_points, mpii_of
from posedreamer_assets.scenes.rle import decode_rle, encode_rle, segment_mask
from posedreamer_assets.scenes.stand_in import FAMILIES_OF_ITS_OWN, other_families, stand_in_photo
from posedreamer_assets.tables.images import decode_rgb, encode_png


def person(number: int, image: int, *, labelled: int = 17, crowd: int = 0, **more: object) -> dict[str, object]:
    flat = [v for k in range(17) for v in ((10 + k, 20 + k, 2 - k % 2) if k < labelled else (0, 0, 0))]
    entry = {"id": number, "image_id": image, "category_id": 1, "iscrowd": crowd, "keypoints": flat}
    return {**entry, "bbox": [10, 20, 20, 30], "segmentation": [[10, 20, 30, 20, 30, 50, 10, 50]], **more}


def page(folder: Path, annotations: list[dict[str, object]], size: tuple[int, int] = (64, 48)) -> tuple[str, str]:
    (folder / "images").mkdir()
    for number in (1, 2, 3):
        pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48, "license": 4} for n in (3, 1, 2)]
    text = json.dumps({"images": images, "annotations": annotations, "licenses": [{"id": 4, "url": "http://x/by"}]})
    (folder / "people.json").write_text(text)
    return str(folder / "images"), str(folder / "people.json")


def test_people_crowds_and_those_without_keypoints_are_told_apart(tmp_path: Path) -> None:
    crowd = {"size": [48, 64], "counts": [0, 48 * 4, 48 * 60]}
    found = coco_photos(
        *page(
            tmp_path,
            [
                person(7, 1, labelled=5),
                person(3, 1),
                person(4, 1, labelled=0, bbox=[40, 10, 10, 10], segmentation=[]),
                person(5, 1, crowd=1, segmentation=crowd),
                person(6, 2, labelled=0),
            ],
        ),
        first=0,
        count=9,
    )
    (photo,) = found  # photographs without a labelled person are left out
    assert (photo.name, photo.width, photo.height, photo.licence) == ("1.png", 64, 48, "http://x/by")
    assert len(photo.people) == 2 and photo.people.labelled.sum(axis=1).tolist() == [17, 5]
    assert photo.people.keypoints[0, 0].tolist() == [10.5, 20.5]  # COCO's pixels have whole numbers at their centres
    assert photo.people.seen[0].tolist() == [k % 2 == 0 for k in range(17)]
    assert photo.ignore[:, :4].all() and photo.ignore[10:20, 40:50].all() and not photo.ignore[25:, 20:].any()
    assert photo.data == (tmp_path / "images" / "1.png").read_bytes()


def test_a_stretch_of_photographs_is_in_the_order_of_their_ids(tmp_path: Path) -> None:
    places = page(tmp_path, [person(k, k) for k in (3, 2, 1)])
    assert [photo.name for photo in coco_photos(*places, first=1, count=2)] == ["2.png", "3.png"]
    assert coco_photos(*places, first=3, count=2) == []


def test_what_is_wrong_with_files_is_told(tmp_path: Path) -> None:
    folder, annotations = page(tmp_path, [person(1, 1)], size=(32, 48))
    with pytest.raises(PhotoError, match="32 x 48 pixels, its annotations are of 64 x 48"):
        coco_photos(folder, annotations, 0, 1)
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(PhotoError, match="cannot be read"):
        coco_photos(folder, annotations, 0, 1)
    Path(annotations).write_text("[]")
    with pytest.raises(PhotoError, match="no COCO keypoints JSON"):
        coco_photos(folder, annotations, 0, 1)
    with pytest.raises(ConfigError, match=r"name photographs, and photos\.kind is stand_in; set it to coco or mpii"):
        load_profile("pocket", {"photos.path": folder, "photos.annotations": annotations})
    with pytest.raises(ConfigError, match=r"photos\.size is 63; expected 64 or more"):
        load_profile("pocket", {"photos.size": 63})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (person(8, 1, keypoints=[20, 20, 2] * 14), "annotation 8: keypoints holds 42 values, expected 51"),
        (
            person(8, 1, keypoints=[float("nan"), 20, 2] * 17),
            "annotation 8: keypoints holds 51 values, expected 51 finite",
        ),
        (person(8, 1, bbox=None), "annotation 8: bbox"),
        (person(8, 1, bbox=[1, 2, 3]), "annotation 8: bbox holds 3 values"),
        (person(8, 1, labelled=0, bbox=None, segmentation=[]), "annotation 8: bbox"),
        (person(8, 1, segmentation={"size": [48, 64], "counts": [5]}), "annotation 8: segmentation: .* add up to 5"),
        # A hundred gigabytes of mask in a few bytes: nothing of that size is made.
        (
            person(8, 1, segmentation={"size": [1, 10**11], "counts": [10**11]}),
            "annotation 8: segmentation: a mask of size",
        ),
        (
            person(8, 1, crowd=1, segmentation={"size": [4, 4], "counts": [16]}),
            r"annotation 8: segmentation: a mask of size \[4, 4\], its image has \[48, 64\]",
        ),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named(tmp_path: Path, entry: dict[str, object], said: str) -> None:
    places = page(tmp_path, [person(1, 1), {name: value for name, value in entry.items() if value is not None}])
    with pytest.raises(PhotoError, match=said):
        coco_photos(*places, first=0, count=1)


@pytest.mark.parametrize(("lost", "said"), [("file_name", "image 1: .*file_name"), ("id", "id of one of the images")])
def test_an_image_that_lacks_something_is_told(tmp_path: Path, lost: str, said: str) -> None:
    folder, annotations = page(tmp_path, [person(1, 1)])
    text = json.loads(Path(annotations).read_text())
    for image in text["images"]:
        del image[lost]
    Path(annotations).write_text(json.dumps(text))
    with pytest.raises(PhotoError, match=said):
        coco_photos(folder, annotations, 0, 1)


@pytest.mark.parametrize("licences", [[{"id": 4, "url": "", "name": ""}], [{"id": 4}], [], None])
def test_a_licence_that_says_nothing_is_not_stated(tmp_path: Path, licences: object) -> None:
    folder, annotations = page(tmp_path, [person(1, 1)])
    text = json.loads(Path(annotations).read_text())
    Path(annotations).write_text(json.dumps({**text, "licenses": licences}))
    assert coco_photos(folder, annotations, 0, 1)[0].licence == "not stated"


def test_a_photograph_that_would_take_far_more_memory_than_its_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posedreamer_assets.tables import images

    folder, annotations = page(tmp_path, [person(1, 1)])
    Image.new("RGB", (64, 48)).save(Path(folder) / "1.png")
    monkeypatch.setattr(images, "FREE_BYTES", 0)
    monkeypatch.setattr(images, "MULTIPLE", 2)
    with pytest.raises(PhotoError, match=r"1\.png.*cannot be read.*it is not read"):
        coco_photos(folder, annotations, 0, 1)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "RGBA"])
def test_mixtures_and_their_check_take_the_same_pixels_of_any_file(mode: str) -> None:
    """Held against Pillow's own conversion."""
    shown = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)).convert(mode)
    buffer = io.BytesIO()
    shown.save(buffer, format="TIFF" if mode == "CMYK" else "PNG")
    pixels = decode_rgb(buffer.getvalue())
    assert np.array_equal(pixels, np.asarray(shown.convert("RGB")))
    one = {"sample_id": ["photos-0000/000000"], "photo_id": ["photos-0000/000007"]}
    nobody = encode_png(np.zeros((8, 9), np.uint8))
    for picture, passes in ((pixels, True), (255 - pixels, False)):
        rows = Rows(pa.table({**one, "image": [encode_png(picture)], "instances": [nobody]}))
        photo = pa.table({"sample_id": one["photo_id"], "image": [buffer.getvalue()]})
        check: Any = SimpleNamespace(args={"to": ["annotated_photos"]})
        around: Any = SimpleNamespace(rows=lambda table, columns, photo=photo: photo)
        assert untouched_outside_mask(rows, check, around) == [passes]


def test_paths_of_a_home_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page(tmp_path, [person(1, 1)])
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = {"photos.kind": "coco", "photos.path": "~/images", "photos.annotations": "~/people.json"}
    inputs: Any = SimpleNamespace(profile=load_profile("pocket", settings), key="photos-0000")
    assert [photo.name for photo in photos_of(inputs)] == ["1.png"]


def test_people_survive_their_column(tmp_path: Path) -> None:
    (photo,) = coco_photos(*page(tmp_path, [person(1, 1), person(2, 1, labelled=3, segmentation=[])]), first=0, count=1)
    again = people_from_json(people_to_json(photo.people))
    for name in ("keypoints", "labelled", "seen", "mpii", "mpii_labelled", "mpii_seen", "boxes", "head_px"):
        assert np.array_equal(getattr(again, name), getattr(photo.people, name), equal_nan=True), name
    first = photo.people.masks[0]
    assert first is not None and np.array_equal(again.masks[0], first) and again.masks[1] is None  # type: ignore[arg-type]


coco_mask: Any = pycocotools_mask  # its types know less than it reads
OLD_ARRAYS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


@OLD_ARRAYS
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_run_lengths_are_those_that_pycocotools_reads(share: float) -> None:
    mask = np.random.default_rng(0).random((13, 17)) < share
    rle = encode_rle(mask)
    read = coco_mask.decode(coco_mask.frPyObjects(rle, 13, 17))
    assert np.array_equal(read.astype(bool), mask)
    assert np.array_equal(decode_rle(rle), mask)


def test_run_lengths_that_do_not_fill_their_size_are_refused() -> None:
    with pytest.raises(PhotoError, match="add up to 5, expected 2 x 3"):
        decode_rle({"size": [2, 3], "counts": [5]})
    with pytest.raises(PhotoError, match="compressed"):
        decode_rle({"size": [2, 3], "counts": "abc"})


@OLD_ARRAYS
def test_polygons_cover_what_pycocotools_says_but_for_their_edges() -> None:
    polygons = [[5.0, 5.0, 40.0, 8.0, 30.0, 35.0], [50.0, 10.0, 60.0, 10.0, 60.0, 40.0]]
    read = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 48, 64))).astype(bool)
    own = segment_mask(polygons, 64, 48)
    assert (own & read).sum() / (own | read).sum() > 0.9


def standing_person(
    body: BodyModel, camera_m: float, distances: tuple[float, ...], pitch_deg: float = 0.0
) -> tuple[PhotoPeople, float]:
    """Annotations of people of usual height who stand before a camera, and its focal length."""
    params = stand_on_ground(body, BodyParams.zeros(len(distances)))
    transl = params.transl.copy()
    transl[:, 0], transl[:, 2] = np.arange(len(distances)) - 0.5, -np.array(distances)
    params = params.replace(transl=transl)
    pitch = np.deg2rad(pitch_deg)
    camera = ground_camera(pitch_rad=pitch, height_m=camera_m, focal_px=1.1 * 640, width=640, height=480)
    joints = body.forward(params).joints
    keypoints = camera.project(joints[:, COCO17_FROM_SMPLX].reshape(1, -1, 3)).reshape(-1, 17, 2)
    flags = np.ones((len(distances), 17), bool)
    low, high = keypoints.min(axis=1), keypoints.max(axis=1)
    mpii = np.zeros((len(distances), 16, 2))
    boxes = np.concatenate([low, high - low], axis=1)
    known = np.zeros((len(distances), 16), bool)
    heads = np.full(len(distances), np.nan)
    return PhotoPeople(keypoints, flags, flags, mpii, known, known, boxes, heads, [None] * len(distances)), 1.1 * 640


@pytest.mark.parametrize(("camera_m", "pitch_deg"), [(0.9, 0), (1.5, 0), (1.5, 10), (2.2, 0), (2.2, 15), (3.0, 20)])
def test_the_camera_is_as_high_and_looks_as_far_down_as_people_who_stand_say(
    body: BodyModel, camera_m: float, pitch_deg: float
) -> None:
    """Somebody who is put where an annotated one stands is about as tall, whether near or far."""
    people, focal = standing_person(body, camera_m, (4.0, 7.0, 11.0), pitch_deg)
    camera = photo_view(people, 640, 480).camera
    assert float(camera.focal_px[0]) == pytest.approx(focal)
    place = -camera.rotation[0].T @ camera.translation[0]
    assert float(place[1]) == pytest.approx(camera_m, rel=0.35)
    assert float(camera.pitch_deg[0]) == pytest.approx(pitch_deg, abs=6.0)  # drawn towards level
    feet, face = people.keypoints[:, 15:].mean(axis=1), people.keypoints[:, 0]
    rays = np.concatenate([(feet - camera.principal_px[0]) / focal, np.ones((3, 1))], axis=1) @ camera.rotation[0]
    ground = place + rays * (-place[1] / rays[:, 1:2])
    heads = camera.project((ground + np.array([0.0, 1.6, 0.0]))[None])[0]
    assert feet[:, 1] - heads[:, 1] == pytest.approx(feet[:, 1] - face[:, 1], rel=0.25)


def test_people_are_at_most_as_far_as_their_limbs_say(body: BodyModel) -> None:
    """Of a body that stands square on, no limb is seen aslant: within the spread of its proportions, that is the distance."""
    people, focal = standing_person(body, 1.5, (4.0, 7.0))
    assert distances_m(people, focal) == pytest.approx([4.0, 7.0], rel=0.2)
    nobody = dataclasses.replace(people, labelled=np.zeros((2, 17), bool))
    assert np.isinf(distances_m(nobody, focal)).all()


def test_pixels_without_synthetic_people_are_those_of_the_photograph(body: BodyModel) -> None:
    photo = stand_in_photo(body, "photos-0000/000000", 0, 128)
    pixels = decode_rgb(photo.data)
    layout = lay_over_photo(body, "photos-0000/000000", 0, photo.people, (128, 128), MixedConfig(people_mean=3))
    ids = [k + 1 for k in layout.people]
    picture, crowd = picture_of(
        body, layout.params, layout.looks, layout.seeds, ids, layout.camera, layout.light, pixels, shadows=False
    )
    outside = crowd.instances == 0
    assert outside.any() and not outside.all()
    assert np.array_equal(picture[outside], pixels[outside])
    assert (picture[~outside] != pixels[~outside]).any()


def test_a_point_is_under_who_is_at_its_pixel() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = 3
    points = np.array([[[2.0, 1.0], [2.99, 1.99], [3.0, 1.5], [-1.0, 1.0], [np.nan, 1.0], [99.0, 1.0]]])
    assert under(points, mask).tolist() == [[3, 3, 0, 0, 0, 0]]


def test_a_stand_in_is_the_same_in_any_order_and_shares_no_family_with_scenes(body: BodyModel) -> None:
    one, again = (stand_in_photo(body, "photos-0000/000001", 0, 96) for _ in range(2))
    assert one.data == again.data and people_to_json(one.people) == people_to_json(again.people)
    assert {*FAMILIES_OF_ITS_OWN, *other_families()} == set(FAMILIES)
    assert stand_in_photo(body, "photos-0000/000001", 1, 96).data != one.data
    labelled = one.people.keypoints[one.people.labelled]
    assert ((labelled >= 0) & (labelled < 96)).all()


def test_mpii_joints_of_a_body_are_where_its_limbs_are(body: BodyModel) -> None:
    output = body.forward(BodyParams.zeros(1))
    joints = mpii_of(all_points(body, output.vertices, output.joints))[0]
    at = dict(zip(MPII16, joints, strict=True))
    assert at["head_top"][1] == pytest.approx(output.vertices[0, :, 1].max(), abs=1e-6)
    assert at["head_top"][1] > at["upper_neck"][1] > at["thorax"][1] > at["pelvis"][1] > at["left_knee"][1]
    assert at["left_wrist"][0] > at["left_elbow"][0] > at["left_shoulder"][0] > 0 > at["right_shoulder"][0]
    assert COCO17[5] == "left_shoulder"
