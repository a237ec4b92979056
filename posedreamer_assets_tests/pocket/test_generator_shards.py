"""Training shards: what is read and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.errors import BackendError
from posedreamer_assets.pocket.generator_shards import batches, read_shard, shard_paths, to_pixels, to_signed


def test_a_shard_is_read_with_the_body_share_of_every_block(tiny_shards: Path) -> None:
    path = shard_paths(tiny_shards)[0]
    shard = read_shard(path)
    with np.load(path) as data:
        mask = data["silhouettes"] > 0
    assert len(shard) == 40 and shard.name == "gen-0"
    assert shard.body_share.shape == (40, 4, 4)
    assert shard.body_share[3, 2, 1] == mask[3, 16:24, 8:16].mean(dtype=np.float32)


def test_pixels_survive_the_signed_range() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    signed = to_signed(pixels)
    assert signed.shape == (1, 3, 16, 16) and signed.min() == -1.0 and signed.max() == 1.0
    assert np.array_equal(to_pixels(signed), pixels)


def test_slices_cover_every_row_once() -> None:
    rows = np.arange(11)
    assert np.concatenate([rows[s] for s in batches(11, 4)]).tolist() == rows.tolist()
    assert list(batches(0, 4)) == []


def test_files_that_are_no_shards_are_refused(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no training shards"):
        shard_paths(tmp_path)
    np.savez(tmp_path / "partial.npz", images=np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(BackendError, match="controls"):
        read_shard(tmp_path / "partial.npz")
    (tmp_path / "cut.npz").write_bytes(shard_paths(tiny_shards)[0].read_bytes()[:500])
    with pytest.raises(BackendError, match=r"cut\.npz"):
        read_shard(tmp_path / "cut.npz")
    images = np.zeros((2, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "short.npz", images=images, controls=images, captions=np.array(["one"]))
    with pytest.raises(BackendError, match="differ in length"):
        read_shard(tmp_path / "short.npz")


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    images = np.zeros((1, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "pickled.npz", images=images, controls=images, captions=np.array(["a"], dtype=object))
    with pytest.raises(BackendError, match="allow_pickle"):
        read_shard(tmp_path / "pickled.npz")
