"""Stand-ins for photographs as npz shards: what the 2D pose baseline learns from, and what it is measured on.

Images are kept as JPEG, so that a shard holds what a run's photographs do.
"""

from pathlib import Path

import numpy as np

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.errors import ArrayFileError
from posedreamer_assets.people2d.samples import Picture, Source
from posedreamer_assets.plain_arrays import open_npz
from posedreamer_assets.pocket.shards import ShardError
from posedreamer_assets.scenes.stand_in import stand_in_photo
from posedreamer_assets.tables.images import decode_rgb

# No run draws these: its photographs have other ids, whatever its seed.
TRAIN, TEST = "pose2d-train", "pose2d-test"
_ARRAYS = ("data", "bytes", "people", "joints", "known", "head_px", "ignore", "size")
_SEEDS = {TRAIN: 20_191, TEST: 20_192}


def photo_shard(folder: Path, split: str, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{split}-{number:03d}.npz"


def build_photo_shard(body: BodyModel, folder: Path, split: str, number: int, photos: int, size: int) -> Path:
    """Render a shard unless it is there; written whole or not at all.

    Raises:
        RenderError: no OpenGL on this machine.
    """
    path = photo_shard(folder, split, number)
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    seed = _SEEDS[split]
    drawn = [stand_in_photo(body, f"{split}-{number:03d}/{k:06d}", seed, size) for k in range(photos)]
    part = path.with_suffix(".partial.npz")
    np.savez(
        part,
        data=np.frombuffer(b"".join(photo.data for photo in drawn), np.uint8),
        bytes=np.array([len(photo.data) for photo in drawn]),
        people=np.array([len(photo.people) for photo in drawn]),
        joints=np.concatenate([photo.people.mpii for photo in drawn]).astype(np.float32),
        known=np.concatenate([photo.people.mpii_labelled for photo in drawn]),
        head_px=np.concatenate([photo.people.head_px for photo in drawn]).astype(np.float32),
        ignore=np.packbits(np.stack([photo.ignore for photo in drawn])),
        size=np.array(size),
    )
    part.replace(path)
    return path


def read_photo_shard(path: Path) -> list[Picture]:
    """The photographs of a shard.

    Raises:
        ShardError: no shard, or a damaged one.
    """
    try:
        with open_npz(path) as file:
            arrays = {name: file[name] for name in _ARRAYS}
    except (KeyError, ArrayFileError, OSError) as error:
        raise ShardError(f"{path}: no shard of stand-ins: {error}") from error
    size, count = int(arrays["size"]), len(arrays["bytes"])
    files = np.split(arrays["data"], np.cumsum(arrays["bytes"])[:-1])
    ignore = np.unpackbits(arrays["ignore"])[: count * size * size].reshape(count, size, size).astype(bool)
    ends = np.cumsum(arrays["people"])
    pictures = []
    for k, (end, people) in enumerate(zip(ends, arrays["people"], strict=True)):
        rows = slice(end - people, end)
        pictures.append(
            Picture(
                decode_rgb(files[k].tobytes()),
                arrays["joints"][rows].astype(float),
                arrays["known"][rows],
                np.zeros(int(people), bool),
                arrays["head_px"][rows].astype(float),
                ignore[k] if ignore[k].any() else None,
            )
        )
    return pictures


def source_of(pictures: list[Picture]) -> Source:
    """Everybody with four labelled joints or more."""
    rows = [(k, p) for k, picture in enumerate(pictures) for p in np.flatnonzero(picture.known.sum(axis=1) >= 4)]
    people = np.array(rows, int).reshape(-1, 2)
    return Source(pictures, people, None, tuple(f"{k:06d}/{p:02d}" for k, p in people))
