"""A clip is of one split, whatever its frames; alignment has splits of its own."""

from collections import Counter
from dataclasses import replace

import pytest

from posedreamer_assets.config import AlignmentConfig, load_profile
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.poses.splits import alignment_split_of, pose_group, split_of


def test_all_frames_and_people_of_a_clip_are_of_one_split() -> None:
    for k in range(400):
        clip = f"walks/clip {k}.bvh"
        frames = [f"{clip}#{frame}" for frame in (0, 17, 4711)] + [f"{clip}#2.17"]
        assert {pose_group(frame) for frame in frames} == {clip}
        assert len({split_of(frame, 0.05) for frame in frames}) == 1


def test_a_procedural_pose_is_a_group_of_its_own() -> None:
    first, other = (f"procedural/kick seed 0 procedural-0000/00000{i}" for i in (0, 1))
    assert pose_group(first) == first != pose_group(other)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_val_has_its_share_and_there_is_no_test(share: float) -> None:
    found = Counter(split_of(f"clip {k}#0", share) for k in range(8000))
    assert set(found) <= {"train", "val"}
    assert found["val"] / 8000 == pytest.approx(share, abs=0.01)


def test_a_larger_share_keeps_what_was_val() -> None:
    names = [f"clip {k}" for k in range(500)]
    small, large = ({n for n in names if split_of(n, share) == "val"} for share in (0.05, 0.2))
    assert small < large


def test_alignment_takes_its_shares_whatever_the_split_is() -> None:
    cfg = replace(AlignmentConfig(), test_share=0.5, val_share=0.1)
    names = [f"clip {k}#0" for k in range(8000)]
    both = Counter((split_of(n, 0.2), alignment_split_of(n, cfg)) for n in names)
    for split, of_split in (("train", 0.8), ("val", 0.2)):
        for own, share in (("test", 0.5), ("val", 0.1), ("train", 0.4)):
            assert both[split, own] / 8000 == pytest.approx(of_split * share, abs=0.02), "one says nothing of the other"


def test_a_share_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"poses\.val_share is 1; expected a share"):
        load_profile("pocket", {"poses.val_share": 1.0})
