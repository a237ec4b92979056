"""The text of long clips is read in blocks."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.poses.sources import bvh_blocks
from posedreamer_assets.poses.sources.bvh_text import parse_bvh
from posedreamer_assets_tests.poses.sources.rigs import lively, write_bvh


@pytest.mark.parametrize("block", [1, 7, 64, 5000])
def test_numbers_are_the_same_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=41))
    head, rows = path.read_text().split("Frame Time: 0.0333333\n")
    rows = re.sub(r"(\d) -", r"\1D0 -", rows).replace(" 2", "\n 2", 9)
    path.write_text(f"{head}Frame Time: 0.0333333\n{rows}")
    monkeypatch.setattr(bvh_blocks, "_BLOCK", block)
    assert np.array_equal(parse_bvh(path).motion.reshape(-1), [float(word.replace("D", "e")) for word in rows.split()])


def test_a_long_clip_takes_a_few_times_the_memory_of_its_text(tmp_path: Path) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=42))
    head, rows = path.read_text().split("Frame Time: 0.0333333\n")
    long = f"{head.replace('Frames: 12', 'Frames: 24000')}Frame Time: 0.0333333\n{rows * 2000}"
    path.write_text(long)
    tracemalloc.start()
    try:
        clip = parse_bvh(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(clip.motion) == 24000
    assert peak < 3 * len(long)
