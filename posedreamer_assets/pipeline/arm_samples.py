"""What an arm is trained on, from the tables: images with their people, and who of them may be drawn."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Arm, Profile
from posedreamer_assets.config.arms import DISTANCE, NONE, PITCH, SCENES, STYLED
from posedreamer_assets.errors import StudentError
from posedreamer_assets.pipeline import annotated_photos, photo_people, scene_images, scene_people, styled_images
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.tables.keys import image_of
from posedreamer_assets.tables.rows import array, texts

if TYPE_CHECKING:
    from posedreamer_assets.people2d.samples import Picture, Source

TRAIN, TEST = "train", "test"
OF_PHOTO = ("image", "ignore_mask", "split")
LABELS = ("mpii_2d", "mpii_labelled", "head_size_px")
OF_SCENE = ("image", "instances")
OF_MIXTURE = (*OF_SCENE, "photo_id")
LABELS_OF_SCENE = (
    *("image_id", "person", "origin", *LABELS, "mpii_in_frame", "mpii_visible"),
    *("cropped", "cam_pitch_deg", "min_distance_px"),
)
_KEPT_BYTES = 1 << 29  # of decoded images
_HELD_BYTES = 1 << 30  # of files in memory
_AT_ONCE = 256  # files that are read with one request


@dataclass(frozen=True)
class Sources:
    """What an arm may draw.

    Attributes:
        real: people of photographs, and of synthetic images; None where it draws none of them.
        synthetic: see `real`.
        edges: upper edges of the groups of synthetic people but the last; None without groups.
    """

    real: "Source | None"
    synthetic: "Source | None"
    edges: np.ndarray | None = None


def sources_of(inputs: Inputs, arm: Arm) -> Sources:
    """People of photographs and of synthetic images that an arm may draw.

    Raises:
        StudentError: nobody can be drawn from what the arm is trained on.
    """
    real = _photographs(inputs) if arm.real else None
    if arm.synthetic == SCENES:
        return Sources(real, *_scenes(inputs, arm))
    return Sources(real, None if arm.synthetic == NONE else _mixtures(inputs, styled=arm.synthetic == STYLED))


@dataclass
class Pictures(Sequence["Picture"]):
    """Images of files, decoded when they are asked for and kept while there is room.

    Attributes:
        length: how many.
        read: makes one of them by number.
    """

    length: int
    read: "Callable[[int], Picture]"
    _kept: "dict[int, Picture]" = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> "Picture": ...
    @overload
    def __getitem__(self, index: slice) -> "list[Picture]": ...
    def __getitem__(self, index: int | slice) -> "Picture | list[Picture]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        number = int(index) % self.length
        if number not in self._kept:
            picture = self.read(number)
            if self._bytes > _KEPT_BYTES:
                self._kept.clear()
                self._bytes = 0
            self._kept[number] = picture
            self._bytes += picture.image.nbytes
        return self._kept[number]


class Files:
    """Files of images by number: the first ones are held in memory, as many as there is room for, others read when asked for.

    All mixtures of MPII's photographs are a hundred gigabytes, and crops are drawn from any of them.

    Args:
        inputs: of the stage that reads them.
        names: ids of the images.
        columns: those with files, by table.
    """

    def __init__(self, inputs: Inputs, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> None:
        self._inputs, self._names, self._columns = inputs, names, columns
        self._held: list[dict[str, bytes]] = []
        room = _HELD_BYTES
        while room > 0 and len(self._held) < len(names):
            found = self._read(names[len(self._held) : len(self._held) + _AT_ONCE])
            self._held += found
            room -= sum(len(data) for files in found for data in files.values())

    def __getitem__(self, number: int) -> dict[str, bytes]:
        """Files of an image, by column."""
        return self._held[number] if number < len(self._held) else self._read([self._names[number]])[0]

    def _read(self, names: Sequence[str]) -> list[dict[str, bytes]]:
        found: list[dict[str, bytes]] = [{} for _ in names]
        for table, columns in self._columns.items():
            for files, row in zip(found, self._inputs.take(table, names, columns).to_pylist(), strict=True):
                files.update({name: row[name] for name in columns})
        return found


def photos_of_split(inputs: Inputs, split: str) -> list[str]:
    """Photographs of a split."""
    rows = inputs.rows(annotated_photos.TABLE, ["split"])
    return [name for name, of in zip(texts(rows, "sample_id"), texts(rows, "split"), strict=True) if of == split]


def tested_photographs(inputs: Inputs) -> list[str]:
    """Photographs that networks are tested on; asked for before the first is trained.

    Raises:
        StudentError: there are none.
    """
    if not (names := photos_of_split(inputs, TEST)):
        share = inputs.profile.photos.test_share
        raise StudentError(
            f"no photograph is of the split test (photos.test_share {share:g}), so that nothing would be known of networks: "
            "raise it, or learning_to_train.photo_batches"
        )
    return names


def _photographs(inputs: Inputs) -> "Source":
    """D_R: photographs to train on."""
    tested_photographs(inputs)
    names = photos_of_split(inputs, TRAIN)
    files = Files(inputs, names, {annotated_photos.TABLE: ("image", "ignore_mask")})
    people = people_of_photographs(inputs.rows(photo_people.TABLE, LABELS))

    def read(number: int) -> "Picture":
        from posedreamer_assets.people2d.samples import Picture
        from posedreamer_assets.tables.images import decode, decode_rgb

        own, of = people.get(names[number], NOBODY), files[number]
        image, ignore = decode_rgb(of["image"]), decode(of["ignore_mask"]) > 0
        return Picture(image, own.joints, own.known, own.synthetic, own.head_px, ignore, None)

    usable = [_can_be_drawn(people.get(name, NOBODY)) for name in names]
    return _source(Pictures(len(names), read), usable, names, "photographs of the split train")


def _scenes(inputs: Inputs, arm: Arm) -> "tuple[Source, np.ndarray | None]":
    """D_S: people of scenes who are whole, in the image, and seen at least in part; and the edges of the arm's groups."""
    people = people_of_scenes(inputs.rows(scene_people.TABLE, LABELS_OF_SCENE))
    names = sorted(people)
    files = Files(inputs, names, {scene_images.TABLE: OF_SCENE})
    usable = [_can_be_drawn(people[name]) & people[name].more["whole"] & people[name].more["seen"] for name in names]
    edges = groups = None
    if arm.groups and any(of.any() for of in usable):
        from posedreamer_assets.curriculum.teacher import group_of_values

        values = np.concatenate([people[name].more[arm.groups][of] for name, of in zip(names, usable, strict=True)])
        edges = edges_of(values, arm, inputs.profile)
        groups = group_of_values(values, edges)
    pictures = Pictures(len(names), _reader(names, people, files, {}))
    return _source(pictures, usable, names, "scenes", groups), edges


def _mixtures(inputs: Inputs, *, styled: bool) -> "Source":
    """D_M or D_Style: the annotated people of mixtures of photographs to train on, with synthetic ones before them."""
    images = inputs.rows(scene_images.TABLE, ["photo_id"])
    train = set(photos_of_split(inputs, TRAIN))
    photo_of = dict(zip(texts(images, "sample_id"), texts(images, "photo_id"), strict=True))
    names = [name for name, photo in photo_of.items() if photo in train]
    own = (
        {scene_images.TABLE: OF_SCENE[1:], styled_images.TABLE: ("image",)}
        if styled
        else {scene_images.TABLE: OF_SCENE}
    )
    files = Files(inputs, names, own)
    photos = list(dict.fromkeys(photo_of[name] for name in names))
    masks = inputs.take(annotated_photos.TABLE, photos, ["ignore_mask"]).column("ignore_mask").to_pylist()
    of_photo = dict(zip(photos, masks, strict=True))
    people = people_of_scenes(inputs.rows(scene_people.TABLE, LABELS_OF_SCENE))
    usable = [_can_be_drawn(people[name]) & ~people[name].synthetic for name in names]
    ignored = {name: of_photo[photo_of[name]] for name in names}
    return _source(
        Pictures(len(names), _reader(names, people, files, ignored)), usable, names, "mixtures of the split train"
    )


@dataclass(frozen=True)
class People:
    """Labels of an image's people, a row each, in the order of the table.

    Attributes:
        joints: MPII's (p, 16, 2), pixels.
        known: which are known (p, 16).
        head_px: sizes of heads (p,), pixels; NaN where they are not known.
        synthetic: who is (p,).
        more: other columns (p, ...), by name.
        group: number of the group that each is judged with (p,), -1 in none; None where all are judged.
    """

    joints: np.ndarray
    known: np.ndarray
    head_px: np.ndarray
    synthetic: np.ndarray
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    group: np.ndarray | None = None

    def take(self, kept: np.ndarray) -> "People":
        """Some of the people (p,)."""
        more = {name: values[kept] for name, values in self.more.items()}
        group = None if self.group is None else self.group[kept]
        return People(self.joints[kept], self.known[kept], self.head_px[kept], self.synthetic[kept], more, group)


NOBODY = People(np.zeros((0, 16, 2)), np.zeros((0, 16), bool), np.zeros(0), np.zeros(0, bool))
"""People of an image without any."""


def people_of_photographs(rows: pa.Table) -> dict[str, People]:
    """By photograph, its annotated people; with the groups that they are judged with, where that column was read."""
    groups = photo_people.groups_of(rows) if photo_people.GROUP in rows.column_names else {}
    people = _by_image(rows, array(rows, "mpii_labelled").astype(bool), np.zeros(rows.num_rows, bool), {})
    return {name: replace(of, group=groups.get(name)) for name, of in people.items()}


def people_of_scenes(rows: pa.Table) -> dict[str, People]:
    """By image, its people, synthetic and annotated."""
    synthetic = np.array([origin == scene_people.SYNTHETIC for origin in texts(rows, "origin")], bool)
    known = array(rows, "mpii_labelled").astype(bool) & array(rows, "mpii_in_frame").astype(bool)
    visible = array(rows, "mpii_visible").astype(bool).reshape(-1, 16)
    more = {
        "person": np.asarray(array(rows, "person"), int),
        "whole": np.array([flag is False for flag in rows.column("cropped").to_pylist()], bool),
        "visible": visible,
        "seen": visible.any(axis=1),
        PITCH: np.asarray(array(rows, "cam_pitch_deg"), float),
        DISTANCE: np.nan_to_num(np.asarray(array(rows, "min_distance_px"), float), nan=np.inf),  # null: alone
    }
    return _by_image(rows, known, synthetic, more)


def _by_image(
    rows: pa.Table, known: np.ndarray, synthetic: np.ndarray, more: Mapping[str, np.ndarray]
) -> dict[str, People]:
    joints = array(rows, "mpii_2d").astype(float).reshape(-1, 16, 2)
    head = np.asarray(array(rows, "head_size_px"), float)
    numbers: dict[str, list[int]] = {}
    for row, name in enumerate(texts(rows, "sample_id")):
        numbers.setdefault(image_of(name), []).append(row)
    return {
        name: People(joints[of], known[of], head[of], synthetic[of], {k: v[of] for k, v in more.items()})
        for name, of in numbers.items()
    }


def _reader(
    names: Sequence[str], people: Mapping[str, People], files: Files, ignored: Mapping[str, bytes]
) -> "Callable[[int], Picture]":
    """Makes an image of a scene or a mixture by its number."""

    def read(number: int) -> "Picture":
        from posedreamer_assets.people2d.samples import Picture
        from posedreamer_assets.tables.images import decode

        own, of = people[names[number]], files[number]
        numbers = np.zeros(256, np.uint8)  # a picture counts its people by their rows
        numbers[own.more["person"] + 1] = np.arange(1, len(own.known) + 1)
        instances = numbers[decode(of["instances"])]
        ignore = (decode(ignored[names[number]]) > 0) & (instances == 0) if ignored else None
        return Picture(decode(of["image"]), own.joints, own.known, own.synthetic, own.head_px, ignore, instances)

    return read


def _can_be_drawn(people: People) -> np.ndarray:
    """Who has a joint and a head of known size, which says how large the person is."""
    return people.known.any(axis=1) & (np.nan_to_num(people.head_px) > 0)


def _source(
    pictures: Pictures,
    usable: Sequence[np.ndarray],
    names: Sequence[str],
    what: str,
    groups: np.ndarray | None = None,
) -> "Source":
    from posedreamer_assets.people2d.samples import Source

    people = [(number, person) for number, of in enumerate(usable) for person in np.flatnonzero(of)]
    if not people:
        raise StudentError(f"nobody can be drawn from {what}: make more of them, or leave the arm out")
    ids = tuple(f"{names[number]}/{person:02d}" for number, person in people)
    return Source(pictures, np.array(people, int), groups, ids)


def edges_of(values: np.ndarray, arm: Arm, profile: Profile) -> np.ndarray:
    """Upper edges of an arm's groups but the last: of camera pitch in degrees, or of distance in pixels.

    Distances are divided evenly between 0 and the width of a scene.
    """
    from posedreamer_assets.curriculum.teacher import distance_edges, group_edges

    cfg = profile.teacher
    if arm.groups == PITCH:
        return group_edges(values, cfg.groups, cfg.spread)
    return distance_edges(cfg.groups, float(profile.crowds.size))


def plain_json(value: Any) -> str:
    """JSON without spaces, numbers as they are."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
