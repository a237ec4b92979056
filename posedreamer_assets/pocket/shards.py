"""Shards: npz files of rendered rows, as the generator and as detectors see them, divided by one hold-out rule.

`pocket/scenes.py` writes all arrays; a model asks for those that it learns from, so that shards of other origin need no
others. Which rows are held out is said by `training/hold_out.py` for each file, whoever reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from posedreamer_assets.errors import ArrayFileError, PoseDreamerError
from posedreamer_assets.plain_arrays import open_npz
from posedreamer_assets.training.hold_out import held_out

BEHIND_CAMERA_PX = -1e4  # far out of frame, in place of NaN, which would spread through masked sums


Kind = TypeVar("Kind", bound="Rows")


class ShardError(PoseDreamerError):
    """A shard that is missing, cut off, or whose arrays do not belong together."""


def shard_paths(folder: Path, pattern: str = "*.npz") -> list[Path]:
    """The shards of a folder, sorted by name; files that are still being written are none.

    Raises:
        ShardError: there is none.
    """
    paths = sorted(path for path in folder.glob(pattern) if not path.name.endswith(".partial.npz"))
    if not paths:
        raise ShardError(f"no training shards {pattern} in {folder}")
    return paths


def read_arrays(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Arrays of one file by name, all with as many rows.

    Raises:
        ShardError: a file that is cut off or no npz, a missing array, pickled objects, or arrays of different lengths.
    """
    try:
        with open_npz(path) as data:
            arrays = {key: data[key] for key in (*needed, *optional) if key in needed or key in data}
    except (KeyError, ArrayFileError, OSError) as error:
        raise ShardError(f"{path}: not a training shard: {error}") from error
    lengths = {key: len(value) for key, value in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ShardError(f"{path}: arrays differ in length: {lengths}")
    return arrays


@dataclass(frozen=True)
class Rows:
    """Rows of one or more shards; every field is an array with one entry per row.

    `held_out`: bool (n,), the rows that no model may learn from.
    """

    images: np.ndarray
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self: Kind, rows: np.ndarray | slice) -> Kind:
        """Some of the rows."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def concat(cls: type[Kind], parts: Sequence[Kind]) -> Kind:
        """One after the other."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True)
class PaintedRows(Rows):
    """What the generator learns from.

    Attributes:
        images: uint8 (n, h, w, 3), RGB.
        controls: uint8 (n, h, w, 3), the control image of each.
        captions: str (n,).
        body_share: float32 (n, h/8, w/8), the share of each 8 x 8 block that shows the body.
    """

    controls: np.ndarray
    captions: np.ndarray
    body_share: np.ndarray


@dataclass(frozen=True)
class KeypointRows(Rows):
    """What detectors learn from.

    Attributes:
        images: uint8 (n, h, w, 3), RGB.
        keypoints: float32 (n, 17, 2), pixels, COCO's order; may lie outside of the frame.
        visible: bool (n, 17), in frame and not hidden by the body itself.
        silhouettes: bool (n, h, w).
    """

    keypoints: np.ndarray
    visible: np.ndarray
    silhouettes: np.ndarray

    @property
    def in_frame(self) -> np.ndarray:
        """bool (n, 17): the keypoint lies inside of the image, whether or not it can be seen."""
        h, w = self.images.shape[1:3]
        x, y = self.keypoints[..., 0], self.keypoints[..., 1]
        return (x >= 0) & (x < w) & (y >= 0) & (y < h)


def read_painted(path: Path) -> PaintedRows:
    """The generator's rows of one shard; without silhouettes the body is where the control image is not black.

    Raises:
        ShardError: see `read_arrays`; or control images of another size than the images.
    """
    found = read_arrays(path, ("images", "controls", "captions"), ("silhouettes",))
    images, controls = found["images"], found["controls"]
    if images.shape != controls.shape:
        raise ShardError(f"{path}: images {images.shape}, controls {controls.shape}")
    mask = (found["silhouettes"] if "silhouettes" in found else controls.max(-1)) > 0
    return PaintedRows(images, _held_out(path, len(images)), controls, found["captions"], _block_mean(mask, 8))


def read_keypoints(path: Path) -> KeypointRows:
    """The detectors' rows of one shard; rows that show other than one person are left out.

    Raises:
        ShardError: see `read_arrays`; or arrays of shapes that do not belong together.
    """
    found = read_arrays(path, ("images", "keypoints", "visible", "silhouettes"), ("people",))
    images, keypoints, visible, silhouettes = (found[k] for k in ("images", "keypoints", "visible", "silhouettes"))
    n = len(images)
    if keypoints.shape != (n, 17, 2) or visible.shape != (n, 17) or silhouettes.shape != images.shape[:3]:
        raise ShardError(
            f"{path}: images {images.shape}, keypoints {keypoints.shape}, visible {visible.shape}, "
            f"silhouettes {silhouettes.shape} do not belong together"
        )
    finite = np.nan_to_num(keypoints.astype(np.float32), nan=BEHIND_CAMERA_PX)
    rows = KeypointRows(images, _held_out(path, n), finite, visible.astype(bool), silhouettes > 0)
    single = np.broadcast_to(found.get("people", np.ones(n, int)), (n,)) == 1
    return rows if single.all() else rows.take(single)


def read_keypoint_folder(folder: Path, pattern: str = "*.npz") -> tuple[KeypointRows, KeypointRows, list[str]]:
    """Rows to train on, rows held out, and the names of the shards.

    Raises:
        ShardError: no shard matches, or one cannot be read.
    """
    paths = shard_paths(folder, pattern)
    rows = KeypointRows.concat([read_keypoints(path) for path in paths])
    return rows.take(~rows.held_out), rows.take(rows.held_out), [path.stem for path in paths]


def _held_out(path: Path, rows: int) -> np.ndarray:
    try:
        return held_out(rows)
    except ValueError as error:
        raise ShardError(f"{path}: {error}") from error


def _block_mean(mask: np.ndarray, block: int) -> np.ndarray:
    n, h, w = mask.shape
    return mask.reshape(n, h // block, block, w // block, block).mean((2, 4), dtype=np.float32)
