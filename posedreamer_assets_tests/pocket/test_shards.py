"""Training shards: what is read, what is refused, and that one rule holds rows out for every model."""

from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.pocket.shards import (
    KeypointRows,
    ShardError,
    read_keypoint_folder,
    read_keypoints,
    read_painted,
    shard_paths,
)
from posedreamer_assets_tests.scoring.figures import stick_figures


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def test_a_shard_is_read_with_the_body_share_of_every_block(tiny_shards: Path) -> None:
    path = shard_paths(tiny_shards)[0]
    shard = read_painted(path)
    with np.load(path) as data:
        mask = data["silhouettes"] > 0
    assert len(shard) == 40 and shard.body_share.shape == (40, 4, 4)
    assert shard.body_share[3, 2, 1] == mask[3, 16:24, 8:16].mean(dtype=np.float32)


def test_no_model_learns_from_a_row_that_another_is_measured_on(tmp_path: Path) -> None:
    """Whenever each of them looked, and whichever shards it found."""
    for k in range(3):
        write(tmp_path / f"first-{k:04d}.npz", **stick_figures(70, k, 32))
    judged = read_keypoint_folder(tmp_path)[1]
    early = [read_painted(path) for path in shard_paths(tmp_path)[:2]]
    learnt = {image.tobytes() for shard in early for image in shard.take(~shard.held_out).images}
    measured = {image.tobytes() for image in judged.images}
    assert len(measured) == 3 * 2 and len(learnt) == 2 * 68 and not learnt & measured
    write(tmp_path / "first-0003.npz", **stick_figures(70, 9, 32))
    assert measured <= {image.tobytes() for image in read_keypoint_folder(tmp_path)[1].images}


def test_crowds_are_left_out_after_rows_were_held_out(tmp_path: Path) -> None:
    people = np.ones(64, int)
    people[[3, 62]] = 2
    data = stick_figures(64, 0, 32)
    write(tmp_path / "a.npz", **data, people=people)
    rows, held, names = read_keypoint_folder(tmp_path)
    assert (len(rows), len(held), names) == (61, 1, ["a"])
    np.testing.assert_array_equal(held.images[0], data["images"][63])


def test_shards_that_are_being_written_are_none(tiny_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(shard_paths(tiny_shards)[0].read_bytes())
    (tmp_path / "b.partial.npz").write_bytes(b"PK")
    assert [path.name for path in shard_paths(tmp_path)] == ["a.npz"]


def test_files_that_are_no_shards_are_refused(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no training shards"):
        shard_paths(tmp_path)
    image = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ShardError, match="controls"):
        read_painted(write(tmp_path / "partial.npz", images=image))
    (tmp_path / "cut.npz").write_bytes(shard_paths(tiny_shards)[0].read_bytes()[:500])
    for read in (read_painted, read_keypoints):
        with pytest.raises(ShardError, match=r"cut\.npz: not a training shard"):
            read(tmp_path / "cut.npz")
    with pytest.raises(ShardError, match="differ in length"):
        read_painted(write(tmp_path / "short.npz", images=image, controls=image, captions=np.array(["one"])))
    with pytest.raises(ShardError, match="1 rows cannot be divided"):
        read_painted(write(tmp_path / "one.npz", images=image[:1], controls=image[:1], captions=np.array(["a"])))


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    data = stick_figures(4, 0)
    with pytest.raises(ShardError, match="differ in length"):
        read_keypoints(write(tmp_path / "bad.npz", **{**data, "keypoints": data["keypoints"][:2]}))
    with pytest.raises(ShardError, match="do not belong together"):
        read_keypoints(write(tmp_path / "bad.npz", **{**data, "keypoints": data["keypoints"][:, :5]}))
    with pytest.raises(ShardError, match="controls"):
        read_painted(write(tmp_path / "bad.npz", **{**data, "controls": data["controls"][:, :64]}))


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    captions = np.array(["a", "b"], dtype=object)
    with pytest.raises(ShardError, match="pickles are never loaded"):
        read_painted(write(tmp_path / "pickled.npz", images=images, controls=images, captions=captions))


def test_points_behind_the_camera_are_out_of_frame(tmp_path: Path) -> None:
    data = stick_figures(4, 0)
    data["keypoints"][0, 3] = np.nan
    rows = read_keypoints(write(tmp_path / "a.npz", **data))
    assert np.isfinite(rows.keypoints).all()
    assert not rows.in_frame[0, 3]


def test_rows_are_taken_and_joined_field_by_field(tmp_path: Path) -> None:
    rows = read_keypoints(write(tmp_path / "a.npz", **stick_figures(6, 0)))
    joined = KeypointRows.concat([rows.take(slice(0, 2)), rows.take(np.array([2, 3, 4, 5]))])
    for name in ("images", "held_out", "keypoints", "visible", "silhouettes"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(rows, name))
