"""Scenes with many people, and people over photographs, for those who train from COCO's files or from plain folders.

`ds` are synthetic scenes, `dm` synthetic people over photographs, `style` the same with synthetic people made like those of
the photograph. A partition is written whole or not at all, and not again while its rows are the same.

Pixels of COCO's keypoints have (0, 0) in the centre of the first one, boxes and masks are measured from the corner, as in
COCO's own files. Masks are run lengths of what is seen of a person.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets import progress
from posedreamer_assets.body.joints import COCO17
from posedreamer_assets.config import Profile, write_whole
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.coco import AREA_SHARE, CATEGORY
from posedreamer_assets.export.plan import stable_numbers
from posedreamer_assets.export.subject import Subject
from posedreamer_assets.render.control import silhouette_box
from posedreamer_assets.scenes.points import MPII16
from posedreamer_assets.scenes.rle import decode_rle, encode_rle
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import PHOTO, SCENE, of_groups

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore, PartitionInfo

_OF_MIXTURES = ("scene_images", "scene_people", "annotated_photos", "photo_people")
SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ds": (SCENE, ("scene_images", "scene_people")),
    "dm": (PHOTO, _OF_MIXTURES),
    "style": (PHOTO, ("styled_images", *_OF_MIXTURES)),
}
"""By name, the group of the partitions and the tables that are written; the first has the images."""

PIXELS = "keypoints: (0, 0) is the centre of the first pixel; boxes and masks: (0, 0) is the corner of the image"
_RECORDS = "partitions"
_AT_ONCE = 16  # images that are held
_HALF = 0.5
_CATEGORY = {**CATEGORY, "mpii_keypoints": list(MPII16)}
_ABOUT_PERSON = ("origin", "visible_ratio", "min_distance_px", "cropped", "bbox_amodal", "occluded_by", "head_size_px")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scene:
    """An image and who is in it.

    Attributes:
        image: its row: id, size and file.
        instances: who is where, person + 1 of synthetic people.
        people: rows of scene_people.
        masks: what is seen of each of them; None where it is not known.
        ignored: pixels of people in the photograph who are not annotated.
        licence: of the photograph; of this project where there is none.
        split: of the photograph; None where there is none.
    """

    image: Row
    instances: np.ndarray
    people: list[Row]
    masks: list[np.ndarray | None]
    ignored: np.ndarray
    licence: str
    split: str | None


@dataclass(frozen=True)
class SceneExport:
    """What was written: images and people, of partitions written now and of those that were complete before."""

    images: int
    people: int
    written: int
    complete: int


def export_scenes(store: "LanceStore", profile: Profile, source: str, form: str, folder: Path) -> SceneExport:
    """Write all stored partitions of a source, or finish an export that was interrupted.

    Args:
        store: where the tables are.
        profile: whose body the labels are of.
        source: `ds`, `dm` or `style`.
        form: `coco` or `folder`.
        folder: where to.

    Raises:
        ExportError: an unknown source or format, or nothing to write.
    """
    if source not in SOURCES or form not in _WRITERS:
        raise ExportError(
            f"scenes {source!r} as {form!r}: expected one of {', '.join(SOURCES)} as {' or '.join(_WRITERS)}"
        )
    found = partitions_of(store, source)
    if not found:
        group, tables = SOURCES[source]
        raise ExportError(
            f"no {group} partition is in all of {', '.join(tables)}; `posedreamer run --study learning_to_train` makes some"
        )
    body = asdict(Subject.load(profile.body.model_path).identity)
    info = {"body": body, "source": source, "pixels": PIXELS}
    images = people = written = complete = 0
    for key, infos in found.items():
        content = digest([form, source, [one.content_digest for one in infos], body])
        record = folder / _RECORDS / f"{key}.json"
        done = _complete(folder, record, content)
        if done is None:
            done = _write(Partition(store, key, source), form, folder, info)
            write_whole(record, json.dumps({**done, "content": content}))
            written += 1
        else:
            complete += 1
        images, people = images + done["images"], people + done["people"]
    return SceneExport(images, people, written, complete)


def partitions_of(store: "LanceStore", source: str) -> "dict[str, list[PartitionInfo]]":
    """Partitions that can be written, by key: what is stored of each table of the source, that of the images first.

    A run that was stopped leaves partitions that some tables do not have yet.
    """
    group, tables = SOURCES[source]
    stored = [store.partitions(table) for table in tables]
    return {
        key: [partitions[key] for partitions in stored]
        for key in of_groups(stored[0], (group,))
        if all(key in partitions for partitions in stored)
    }


def _complete(folder: Path, record: Path, content: str) -> dict[str, Any] | None:
    """The record of a partition that has been written from these rows and whose files are all there."""
    if not record.is_file():
        return None
    done = json.loads(record.read_text())
    sizes = {name: size for name, size in done["files"].items() if (folder / name).is_file()}
    whole = sizes == done["files"] and all((folder / name).stat().st_size == size for name, size in sizes.items())
    return done if done["content"] == content and whole else None


def _write(partition: "Partition", form: str, folder: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    files: dict[str, int] = {}

    def put(name: str, data: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        beside.write_bytes(data)
        beside.replace(path)
        files[name] = len(data)

    images, people = _WRITERS[form](partition, info, put)
    return {"images": images, "people": people, "files": files}


@dataclass(frozen=True)
class Partition:
    """A partition of a source: the labels of all its people, and its images a few at a time."""

    store: "LanceStore"
    key: str
    source: str

    @property
    def table(self) -> str:
        """The table of the images."""
        return SOURCES[self.source][1][0]

    @cached_property
    def images(self) -> list[str]:
        """Their ids, sorted."""
        return self.store.read(self.table, [self.key], ["sample_id"]).column("sample_id").to_pylist()

    @cached_property
    def people(self) -> dict[str, list[Row]]:
        """By image, the rows of scene_people.

        Raises:
            ExportError: an image without any.
        """
        found: dict[str, list[Row]] = {name: [] for name in self.images}
        for row in self.store.read("scene_people", [self.key], SCHEMAS["scene_people"].names).to_pylist():
            if row["image_id"] in found:
                found[row["image_id"]].append(row)
        if lonely := [name for name, own in found.items() if not own]:
            raise ExportError(
                f"{self.table} {lonely[0]}: scene_people has nobody of it; `posedreamer run --study learning_to_train` makes "
                "what is out of date"
            )
        return found

    def scenes(self) -> Iterator[Scene]:
        """The scenes, in the order of their ids.

        Raises:
            ExportError: an image of a photograph that is not there.
        """
        masks, photos = self._of_photos()
        columns = ["sample_id", "photo_id", "image", "width", "height"]
        for pictures in self.store.batches(self.table, [self.key], columns, rows=_AT_ONCE):
            names = pictures.column("sample_id").to_pylist()
            maps = self.store.take("scene_images", names, ["instances"]).column("instances").to_pylist()
            for row, instances in progress.track(list(zip(pictures.to_pylist(), maps, strict=True))):
                photo = photos.get(row["photo_id"])
                if photo is None and row["photo_id"]:
                    raise ExportError(f"{self.table} {row['sample_id']}: annotated_photos has no {row['photo_id']}")
                yield _scene(row, decode(instances), self.people[row["sample_id"]], masks, photo)

    def _of_photos(self) -> tuple[dict[str, str | None], dict[str, Row]]:
        """What annotated people cover, and the photographs."""
        if "annotated_photos" not in SOURCES[self.source][1]:
            return {}, {}
        people = self.store.read("photo_people", [self.key], ["sample_id", "person_mask"]).to_pylist()
        columns = ["sample_id", "ignore_mask", "licence", "split"]
        photos = self.store.read("annotated_photos", [self.key], columns).to_pylist()
        return {row["sample_id"]: row["person_mask"] for row in people}, {row["sample_id"]: row for row in photos}


def _scene(
    image: Row, instances: np.ndarray, people: list[Row], masks: Mapping[str, str | None], photo: Row | None
) -> Scene:
    seen = [_seen(one, instances, masks) for one in people]
    if photo is None:
        nobody = np.zeros(instances.shape, bool)
        return Scene(image, instances, people, seen, nobody, "Apache-2.0 (made by this project)", None)
    ignored = (decode(photo["ignore_mask"]) > 0) & (instances == 0)
    return Scene(image, instances, people, seen, ignored, photo["licence"], photo["split"])


def _seen(person: Row, instances: np.ndarray, masks: Mapping[str, str | None]) -> np.ndarray | None:
    """The pixels that show a person."""
    if person["origin"] == "synthetic":
        return instances == person["person"] + 1
    text = masks.get(person["photo_person"])
    return decode_rle(json.loads(text)) & (instances == 0) if text else None


Put = Callable[[str, bytes], None]


def _coco(partition: Partition, info: Mapping[str, Any], put: Put) -> tuple[int, int]:
    """`annotations/person_keypoints_<key>.json` and the images."""
    people = [f"{person['sample_id']}#" for own in partition.people.values() for person in own]
    crowds = [f"{name}#crowd" for name in partition.images]
    numbers = stable_numbers(sorted([*partition.images, *people, *crowds]))
    images, annotations = [], []
    for scene in partition.scenes():
        name = scene.image["sample_id"]
        put(f"images/{name}.png", scene.image["image"])
        size = {"width": scene.image["width"], "height": scene.image["height"]}
        about = {"licence": scene.licence, "split": scene.split}
        images.append({"id": numbers[name], "file_name": f"{name}.png", **size, **about})
        for person, mask in zip(scene.people, scene.masks, strict=True):
            ids = {"id": numbers[f"{person['sample_id']}#"], "image_id": numbers[name]}
            annotations.append({**ids, **_annotation(person, mask)})
        if scene.ignored.any():
            annotations.append({"id": numbers[f"{name}#crowd"], "image_id": numbers[name], **_crowd(scene.ignored)})
    page = {"info": dict(info), "images": images, "annotations": annotations, "categories": [_CATEGORY]}
    put(f"annotations/person_keypoints_{partition.key}.json", json.dumps(page).encode())
    return len(images), len(people)


def _annotation(person: Row, mask: np.ndarray | None) -> dict[str, Any]:
    keypoints = coco_keypoints(person)
    return {
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(float(v), 2) for v in person["bbox"]],
        "area": float(mask.sum()) if mask is not None else float(AREA_SHARE * person["bbox"][2] * person["bbox"][3]),
        "segmentation": [] if mask is None else encode_rle(mask),
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "mpii_keypoints": _triplets(person["mpii_2d"], person["mpii_in_frame"], person["mpii_visible"]),
        **{name: person[name] for name in _ABOUT_PERSON},
    }


def coco_keypoints(person: Row) -> list[float]:
    """x, y, v of COCO's 17: v is 2 for seen, 1 for hidden, 0 (and x = y = 0) outside of the image or not labelled."""
    points = np.array(person["keypoints_2d"], float).reshape(-1, 2)
    # Labels of photographs that are not there are stored as (0, 0).
    inside = np.all((points > 0) & (points < (person["width"], person["height"])), axis=1)
    return _triplets(person["keypoints_2d"], [bool(there) for there in inside], person["keypoints_visible"])


def _triplets(flat: list[float], inside: list[bool], seen: list[bool]) -> list[float]:
    found: list[float] = []
    for k, (there, visible) in enumerate(zip(inside, seen, strict=True)):
        x, y = flat[2 * k : 2 * k + 2]
        found += [round(x - _HALF, 2), round(y - _HALF, 2), 2 if visible else 1] if there else [0.0, 0.0, 0]
    return found


def _crowd(ignored: np.ndarray) -> dict[str, Any]:
    """People who are in the photograph without being annotated: evaluation leaves what is found there out."""
    box = silhouette_box(ignored).tolist()
    nothing = {"keypoints": [0.0] * 3 * len(COCO17), "num_keypoints": 0}
    mask = {"segmentation": encode_rle(ignored), "area": float(ignored.sum())}
    return {"category_id": 1, "iscrowd": 1, "bbox": box, **mask, **nothing}


def _folder(partition: Partition, info: Mapping[str, Any], put: Put) -> tuple[int, int]:
    """`images/<id>.png`, and `labels/<id>.json` with the people as their rows are, masks beside them."""
    images = people = 0
    for scene in partition.scenes():
        name = scene.image["sample_id"]
        put(f"images/{name}.png", scene.image["image"])
        label = {
            **info,
            "pixels": "(0, 0) is the corner of the image",
            "image_id": name,
            "photo_id": scene.image["photo_id"],
            "licence": scene.licence,
            "split": scene.split,
            "width": scene.image["width"],
            "height": scene.image["height"],
            "ignored": encode_rle(scene.ignored) if scene.ignored.any() else None,
            "people": [
                {**person, "mask": None if mask is None else encode_rle(mask)}
                for person, mask in zip(scene.people, scene.masks, strict=True)
            ],
        }
        put(f"labels/{name}.json", json.dumps(label).encode())
        images, people = images + 1, people + len(scene.people)
    return images, people


_WRITERS: dict[str, Callable[[Partition, Mapping[str, Any], Put], tuple[int, int]]] = {"coco": _coco, "folder": _folder}
