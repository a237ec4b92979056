"""Rounds and partition keys: what a profile asks for, and to which round a key belongs."""

from pathlib import Path

import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys, planned_of, poses_of_batch, rounds, source_name
from posedreamer_assets.pipeline.stage import POSES
from posedreamer_assets.tables.keys import group_of, image_of, is_reserved, of_groups, person_id, round_name

THREE = {"curriculum.rounds": [{"batches": 2, "size": 5}, {"batches": 1, "size": 7}]}


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("procedural-0003", "base"),
        ("align-procedural-0000", "align"),
        ("hard-0001", "hard"),
        ("hard2-0001", "hard2"),
        ("hard10-0001", "hard10"),
        ("hardwood-0001", "base"),
        ("hard-wood-0001", "base"),
        ("poses-hard-0001", "base"),
        ("alignment-0001", "base"),
    ],
)
def test_a_key_belongs_to_the_group_that_its_source_names(key: str, group: str) -> None:
    assert group_of(key) == group
    assert of_groups([key], [group]) == [key] and of_groups([key], {"base", "align", "hard"} - {group}) == []


def test_alignment_and_base_batches_are_disjoint() -> None:
    profile = load_profile("pocket")
    assert not set(planned_keys(profile, ("base",))) & set(planned_keys(profile, ("align",)))
    assert set(planned_keys(profile, POSES)) == {*planned_keys(profile, ("base",)), *planned_keys(profile, ("align",))}


def test_every_round_has_its_own_keys_and_its_own_size() -> None:
    profile = load_profile("pocket", THREE)
    assert planned_keys(profile, ("hard", "hard2")) == ["hard-0000", "hard-0001", "hard2-0000"]
    assert [poses_of_batch(profile, key) for key in ("procedural-0000", "hard-0001", "hard2-0000")] == [96, 5, 7]
    assert planned_keys(profile, ("hard3",)) == [], "no such round is asked for"


def test_keys_of_a_group_are_of_that_group() -> None:
    profile = load_profile("pocket", THREE)
    for group in ("base", "align", "hard", "hard2"):
        keys = planned_keys(profile, (group,))
        assert keys and {group_of(key) for key in keys} == {group}


def test_a_round_learns_from_all_rounds_before_it() -> None:
    assert [(one.name, one.learns_from) for one in rounds(4)] == [
        ("base", ()),
        ("hard", ("base",)),
        ("hard2", ("base", "hard")),
        ("hard3", ("base", "hard", "hard2")),
    ]
    assert [round_name(number) for number in range(4)] == [one.name for one in rounds(4)]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My Mocap (v2)", "my-mocap-v2"),
        ("hard", "poses-hard"),
        ("hard2", "poses-hard2"),
        ("align-x", "poses-align-x"),
        ("procedural", "poses-procedural"),
        ("日本", "poses"),
    ],
)
def test_a_folder_name_becomes_a_source_that_no_other_group_claims(tmp_path: Path, folder: str, name: str) -> None:
    found = source_name(load_profile("pocket", {"poses.source": str(tmp_path / folder)}))
    assert found == name
    assert not is_reserved(found) and group_of(f"{found}-0000") == "base"


def test_a_person_is_named_after_the_image_and_the_first_one_as_the_image() -> None:
    image = "procedural-0003/000012"
    assert person_id(image, 0) == image
    assert person_id(image, 3) == f"{image}/03"
    assert image_of(person_id(image, 3)) == image_of(image) == image


def test_of_renders_the_first_base_batches_alone_can_be_asked_for() -> None:
    every, few = load_profile("pocket"), load_profile("pocket", {"scenes.reference_batches": 2})
    key = "base/sample_scores"
    for profile, renders in ((every, planned_keys(every, POSES)), (few, planned_keys(few, ("base",))[:2])):
        found = graph_of(profile)
        assert planned_of(profile, found["rendered_scenes"]) == renders
        assert planned_of(profile, found[key]) == planned_keys(profile, ("base",))
    tables = {name: [reads.table for reads in graph_of(of)[key].reads] for name, of in (("every", every), ("few", few))}
    assert tables["every"] == [*tables["few"], "rendered_scenes"]
    assert "rendered_scenes" in {reads.table for reads in graph_of(few)["quality_report"].reads}
    assert {graph_of(of)["rendered_scenes"].starts for of in (every, few)} == {"flow", "request"}
