"""Labelled training shards: npz files of images with 2D keypoints and silhouettes."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posedreamer_assets.errors import DetectorError

HELD_OUT_ROWS = 256


@dataclass(frozen=True)
class KeypointRows:
    """Rows of one or more shards.

    Attributes:
        images: uint8 (n, h, w, 3), RGB.
        keypoints: float32 (n, 17, 2), pixels, COCO's order; may lie outside of the frame.
        visible: bool (n, 17), in frame and not hidden by the body itself.
        silhouettes: bool (n, h, w).
    """

    images: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray
    silhouettes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray | slice) -> "KeypointRows":
        """The rows at `indices`."""
        return KeypointRows(
            self.images[indices], self.keypoints[indices], self.visible[indices], self.silhouettes[indices]
        )

    @property
    def in_frame(self) -> np.ndarray:
        """bool (n, 17): the keypoint lies inside of the image, whether or not it can be seen."""
        h, w = self.images.shape[1:3]
        x, y = self.keypoints[..., 0], self.keypoints[..., 1]
        return (x >= 0) & (x < w) & (y >= 0) & (y < h)


def read_shard(path: Path) -> KeypointRows:
    """Read one shard; rows that show other than one person are left out.

    Raises:
        DetectorError: a truncated file, a missing array, or arrays of different lengths.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            images, keypoints, visible = data["images"], data["keypoints"], data["visible"]
            silhouettes = data["silhouettes"]
            people = data["people"] if "people" in data else np.ones(len(images), int)
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DetectorError(f"{path}: not a training shard: {error}") from error
    n = len(images)
    if keypoints.shape != (n, 17, 2) or visible.shape != (n, 17) or silhouettes.shape != images.shape[:3]:
        raise DetectorError(
            f"{path}: images {images.shape}, keypoints {keypoints.shape}, visible {visible.shape}, "
            f"silhouettes {silhouettes.shape} do not belong together"
        )
    # A point behind the camera projects to NaN; it is out of frame, and NaN would spread through masked sums.
    finite = np.nan_to_num(keypoints.astype(np.float32), nan=-1e4)
    rows = KeypointRows(images, finite, visible.astype(bool), silhouettes > 0)
    single = np.broadcast_to(people, (n,)) == 1
    return rows if single.all() else rows.take(single)


def concat(parts: list[KeypointRows]) -> KeypointRows:
    """One after the other."""
    return KeypointRows(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.keypoints for p in parts]),
        np.concatenate([p.visible for p in parts]),
        np.concatenate([p.silhouettes for p in parts]),
    )


def read_folder(folder: Path, pattern: str = "*.npz") -> tuple[KeypointRows, KeypointRows, list[str]]:
    """Rows to train on, rows held out, and the names of the shards.

    Held out are the last 256 rows of the last shard (in order of name), or a quarter of it where it is small.

    Raises:
        DetectorError: no shard matches, or one cannot be read.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise DetectorError(f"no training shards {pattern} in {folder}")
    parts = [read_shard(path) for path in paths]
    held = min(HELD_OUT_ROWS, max(1, len(parts[-1]) // 4))
    held_out = parts[-1].take(slice(len(parts[-1]) - held, None))
    parts[-1] = parts[-1].take(slice(0, len(parts[-1]) - held))
    return concat(parts), held_out, [path.stem for path in paths]
