"""Training shards: npz files of rendered images, their control images and captions."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posedreamer_assets.errors import BackendError

KEYS = ("images", "controls", "captions")


@dataclass(frozen=True)
class Shard:
    """Rows of one file: images and control images uint8 (n, h, w, 3), captions, body share of every 8 x 8 block."""

    name: str
    images: np.ndarray
    controls: np.ndarray
    captions: list[str]
    body_share: np.ndarray  # float32 (n, h/8, w/8)

    def __len__(self) -> int:
        return len(self.images)


def shard_paths(folder: Path) -> list[Path]:
    """The npz files of a folder, sorted by name.

    Raises:
        BackendError: there is none.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise BackendError(f"no training shards (*.npz) in {folder}")
    return paths


def read_shard(path: Path) -> Shard:
    """Read one shard.

    Raises:
        BackendError: a truncated file, a missing array, or arrays of different lengths.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {key: data[key] for key in (*KEYS, "silhouettes") if key in data or key in KEYS}
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BackendError(f"{path}: not a training shard: {error}") from error
    images, controls = arrays["images"], arrays["controls"]
    if images.shape != controls.shape or len(images) != len(arrays["captions"]):
        raise BackendError(f"{path}: images {images.shape}, controls {controls.shape}, captions differ in length")
    mask = arrays.get("silhouettes", controls.max(-1))
    return Shard(path.stem, images, controls, [str(c) for c in arrays["captions"]], _block_mean(mask > 0, 8))


def _block_mean(mask: np.ndarray, block: int) -> np.ndarray:
    n, h, w = mask.shape
    return mask.reshape(n, h // block, block, w // block, block).mean((2, 4), dtype=np.float32)


def to_signed(images: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """uint8 pixels to the [-1, 1] that autoencoders take."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()


def to_pixels(images: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """[-1, 1] to uint8 pixels, rounded and clipped."""
    return images.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def batches(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices that cover n rows."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
