"""What control is trained on and measured by: the rendered scenes of a home or photographs with fits, and the judges.

It is no stage: a generator is there before a graph is made with it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import ImageError, PoseFileError, StorageError
from posedreamer_assets.metrics.intervals import Interval, bootstrap_mean
from posedreamer_assets.pipeline.control_images import control_column, control_images, of_kind
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.sample_scores import OKS_OF, oks_of
from posedreamer_assets.seeds import derive_seed, unit_hash
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import opened
from posedreamer_assets.tables.rows import images, make_table

if TYPE_CHECKING:
    from posedreamer_assets.cameras.pinhole import Cameras
    from posedreamer_assets.diffusion.control_training import ControlData
    from posedreamer_assets.diffusion.generator import Generator
    from posedreamer_assets.storage import LanceStore

HELD_OUT = "val"
MOST_PAINTED = 128  # held-out poses that fidelity is measured on
HELD_OUT_SHARE = 0.1  # of photographs
NO_CAPTION = "a photograph of a person"
_MAPS = {"mesh": "control", "depth": "depth_mm", "normals": "normals"}
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Scenes:
    """Pictures of people with the control images of the same bodies.

    Attributes:
        ids: of the samples.
        data: for training.
        truth: columns `OKS_OF` of `control_maps` for samples by their numbers.
    """

    ids: list[str]
    data: "ControlData"
    truth: Callable[[np.ndarray], pa.Table]

    @property
    def painted(self) -> np.ndarray:
        """Numbers of the held-out pictures that fidelity is measured on."""
        return np.flatnonzero(self.data.held_out)[:MOST_PAINTED]


@dataclass(frozen=True)
class Fidelity:
    """How well painted images show the body of their control image, on held-out poses.

    Attributes:
        oks: mean OKS, by the judge.
        oks_black: of the same captions and seeds with a black control image, or without a ControlNet.
        gain: paired difference.
        pictures: (n, 4 images side by side): control, without, with, render; uint8.
        iou, iou_black, iou_gain: likewise, of the body's silhouette and that of all people drawn by the segmenter; None where the
            profile names none.
    """

    oks: Interval
    oks_black: Interval
    gain: Interval
    pictures: list[np.ndarray]
    iou: Interval | None = None
    iou_black: Interval | None = None
    iou_gain: Interval | None = None

    def as_figures(self) -> dict[str, Any]:
        """Plain values of what was measured."""
        return {name: found.as_dict() for name, found in vars(self).items() if isinstance(found, Interval)}


def rendered_scenes(store: "LanceStore", profile: Profile) -> Scenes:
    """The rendered scenes of a store; poses of the split `val` (by clip, or by procedural pose) are held out.

    Raises:
        StorageError: there are none.
    """
    from posedreamer_assets.diffusion.control_training import ControlData, Pixels

    found = store.read("rendered_scenes", columns=["sample_id", "caption"])
    if not found.num_rows:
        raise StorageError(f"{store.root}: no rendered scenes to learn from; `posedreamer run` makes some")
    ids = found.column("sample_id").to_pylist()
    poses = store.take("pose_library", ids, ["split"])
    column = control_column(profile.generator)

    def read(numbers: np.ndarray) -> Pixels:
        wanted = [ids[i] for i in numbers]
        maps = store.take("control_maps", wanted, ["sample_id", column])
        scenes = store.take("rendered_scenes", wanted, ["image"])
        return Pixels(images(scenes, "image"), control_images(profile.generator, maps))

    held_out = np.array(poses.column("split").to_pylist()) == HELD_OUT
    data = ControlData(found.column("caption").to_pylist(), held_out, read)
    return Scenes(ids, data, lambda numbers: store.take("control_maps", [ids[i] for i in numbers], list(OKS_OF)))


def photographs_with_fits(folder: Path, profile: Profile) -> Scenes:
    """Photographs that have a fit of the same name beside them: `a.jpg` and `a.npz`, whose first body is drawn.

    A photograph and its camera are scaled until they fit into the profile's image; a tenth, by name, is held out. The fit's
    caption is taken where it has one.

    Raises:
        PoseFileError: no such pairs, a fit that cannot be read or has no camera, or a camera for another size of image.
        ImageError: a photograph that cannot be read, when it is read.
    """
    from posedreamer_assets.cameras.sampling import resize_camera
    from posedreamer_assets.diffusion.control_training import ControlData, Pixels
    from posedreamer_assets.poses.sources import ReadOptions, read_clips
    from posedreamer_assets.render.control import render_control_maps

    body = Models(profile).body
    options = ReadOptions(0.0, profile.seed, "", body)
    photos = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PHOTO_SUFFIXES]
    photos = [path for path in photos if path.with_suffix(".npz").is_file()]
    if len(photos) < 2:
        raise PoseFileError(
            folder, "empty", "expected photographs with fits of the same names beside them: a.jpg and a.npz"
        )
    bodies, cameras, captions = [], [], []
    for path in photos:
        (clip, *_) = read_clips(path.with_suffix(".npz"), options)
        bodies.append(clip.params.take([0]))
        cameras.append(_camera_of(path, clip.cameras))
        captions.append(clip.captions[0] if clip.captions and clip.captions[0] else NO_CAPTION)

    def drawn(numbers: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        placed = ((bodies[i], resize_camera(cameras[i], profile.image)) for i in numbers)
        maps = [render_control_maps(body, *one) for one in placed]
        return {name: np.concatenate([getattr(one, name) for one in maps]) for name in names}

    def read(numbers: np.ndarray) -> Pixels:
        size, kind = (profile.image.width, profile.image.height), profile.generator.control
        pictures = np.stack([_fitted(photos[i], size) for i in numbers])
        return Pixels(pictures, of_kind(kind, drawn(numbers, [_MAPS[kind]])[_MAPS[kind]]))

    def truth(numbers: np.ndarray) -> pa.Table:
        return make_table(drawn(numbers, OKS_OF), pa.schema([SCHEMAS["control_maps"].field(name) for name in OKS_OF]))

    ids = [path.relative_to(folder).as_posix() for path in photos]
    ranks = np.argsort([unit_hash(name) for name in ids])
    held_out = np.zeros(len(ids), bool)
    held_out[ranks[: max(1, round(HELD_OUT_SHARE * len(ids)))]] = True
    return Scenes(ids, ControlData(captions, held_out, read), truth)


def _camera_of(photo: Path, cameras: "Cameras | None") -> "Cameras":
    if cameras is None:
        raise PoseFileError(
            photo.with_suffix(".npz"), "empty", "a fit without a camera does not say where its body is seen"
        )
    camera = cameras.take([0])
    with _photograph(photo) as picture:
        size = ImageOps.exif_transpose(picture).size
    if size != (camera.width, camera.height):
        expected = f"{camera.width} x {camera.height}"
        raise PoseFileError(
            photo.with_suffix(".npz"),
            "shape",
            f"its camera is of an image of {expected}, {photo.name} has {size[0]} x {size[1]}",
        )
    return camera


def _fitted(photo: Path, size: tuple[int, int]) -> np.ndarray:
    """The photograph in the middle of the image, as `resize_camera` has it."""
    with _photograph(photo) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    return np.array(ImageOps.pad(upright, size, Image.Resampling.LANCZOS))


@contextmanager
def _photograph(path: Path) -> Iterator[Image.Image]:
    try:
        with opened(path) as picture:
            yield picture
    except OSError as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error


def fidelity(scenes: Scenes, generator: "Generator", profile: Profile) -> Fidelity:
    """Paint held-out poses with their control image and with a black one, and let the judges look."""
    numbers = scenes.painted
    ids = [scenes.ids[i] for i in numbers]
    captions = [scenes.data.captions[i] for i in numbers]
    seeds = [derive_seed(profile.seed, name, "control training") for name in ids]
    pixels = scenes.data.read(numbers)
    maps = scenes.truth(numbers)
    models = Models(profile)
    shown, black = (
        generator.generate(pixels.controls, captions, seeds, control_strength=strength) for strength in (1.0, 0.0)
    )
    oks = _compared(*(oks_of(models.judge, painted, maps)[0].astype(float) for painted in (shown, black)))
    iou: tuple[Interval | None, ...] = (None, None, None)
    if (segmenter := models.segmenter) is not None:
        from posedreamer_assets.scoring.segmenter import silhouette_iou

        body = pixels.controls.max(-1) > 0  # control images are black exactly where there is no body
        iou = _compared(*(silhouette_iou(segmenter.draw(painted), body) for painted in (shown, black)))
    pictures = [np.concatenate(row, axis=1) for row in zip(pixels.controls, black, shown, pixels.images, strict=True)]
    return Fidelity(*oks, pictures, *iou)


def _compared(found: np.ndarray, without: np.ndarray) -> tuple[Interval, Interval, Interval]:
    """Means of both, and of their difference, over the images where both are finite."""
    seen = np.isfinite(found) & np.isfinite(without)
    return bootstrap_mean(found[seen]), bootstrap_mean(without[seen]), bootstrap_mean((found - without)[seen])
