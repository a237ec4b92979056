"""What `posedreamer export` writes is read again: the same pixels of the same bodies."""

from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.shards import Options, export
from posedreamer_assets.export.subject import Subject
from posedreamer_assets.poses.sources import is_pose_file, read_folder
from posedreamer_assets_tests.export.rows import TableReader, world

READABLE = {"bedlam": "bedlam", "humandata": "humandata"}
"""Formats whose labels are arrays -> the kind of the reader."""


@pytest.mark.parametrize("name", list(READABLE))
def test_an_export_is_read_again(tmp_path: Path, name: str) -> None:
    truth, body = world(), load_body()
    export(TableReader(truth), Subject.load(None), FORMATS[name], tmp_path, Options(shard_size=3, pickles=False))
    clips, errors = read_folder(tmp_path, stride_s=0.0, seed=0)
    assert not errors
    assert {clip.kind for clip in clips} == {READABLE[name]}
    found = []
    for clip in clips:
        assert clip.cameras is not None
        pixels = clip.cameras.project(body.joints(clip.params))
        lowest = body.forward(clip.params).vertices[..., 1].min(axis=1)
        assert np.abs(lowest).max() < 1e-3
        found += [(clip.params.take([i]), pixels[i]) for i in range(len(clip))]
    expected = truth.cameras.project(body.joints(truth.params))
    assert len(found) == len(expected)
    taken = set()
    for params, pixels in found:  # shards go by split: which sample it is shows in its pixels
        sample = int(np.argmin(np.abs(expected - pixels).max(axis=(1, 2))))
        taken.add(sample)
        assert np.abs(expected[sample] - pixels).max() < 0.1
        wanted = truth.params.take([sample])
        for part in ("body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose", "betas", "expression"):
            assert np.allclose(getattr(params, part), getattr(wanted, part), atol=1e-4), part
    assert taken == set(range(len(expected)))


@pytest.mark.parametrize("name", sorted(set(FORMATS) - set(READABLE) - {"hmr2"}))
def test_exports_without_arrays_hold_no_pose_file(tmp_path: Path, name: str) -> None:
    export(TableReader(world()), Subject.load(None), FORMATS[name], tmp_path, Options(shard_size=3))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and is_pose_file(path.name)]
