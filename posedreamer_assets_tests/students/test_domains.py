"""What a study needs beside the rounds: images without alignment, and a domain's own poses; made once on the tiny study."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.errors import ConfigError, RecipeError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.pose_batches import plan_batches, recorded_batches
from posedreamer_assets.pipeline.rounds import has_pose_files, planned_keys, poses_of_batch
from posedreamer_assets.pipeline.student_study import check_study, domain_of, student_key, with_poses_of_domain
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.recipe_export import ManifestReader
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.students.study_files import parse_study
from posedreamer_assets.tables.keys import DOMAIN, group_of, is_reserved
from posedreamer_assets_tests.poses.test_folder import bvh
from posedreamer_assets_tests.runtime.small import passing
from posedreamer_assets_tests.students.small import STUDENTS, STUDY, make_stages, with_study

MORE = """\
  unaligned: {use: [{table: unaligned_generations}], same_poses_as: rendered}
  lunges:
    use: [{table: raw_generations}]
    size: 6
    replace: {share: 0.5, by: {table: raw_generations, rounds: [domain-lunge]}}
domains:
  lunge: {families: [lunge], batches: 2, size: 3}
"""
WITH_MORE = STUDY.replace("primary:", f"{MORE}primary:").replace("seeds: 2", "seeds: 1")
PAINTED = (
    "base/unaligned_generations",
    "domain/pose_library",
    "domain/control_maps",
    "domain/raw_generations",
    "domain/sample_scores",
    "domain/filtered_dataset",
)
OF_STUDY = tuple(
    name
    for one in STUDENTS
    for name in (
        one,
        *{
            "generated/benchmark_images": ["domain/benchmark_images"],
            "base/student_features": ["domain/student_features"],
        }.get(one, ()),
    )
)


@pytest.fixture(scope="module")
def domains(study: tuple[LanceStore, Profile], tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    place = tmp_path_factory.mktemp("domains")
    shutil.copytree(study[0].root, place / "storage")
    store, profile = LanceStore(str(place / "storage")), with_study(study[1], place, WITH_MORE)
    make_stages(store, profile, ("domain/pose_library", "domain/control_maps"))
    with mock.patch.object(suite, "run_checks", passing):  # of images of random weights
        make_stages(store, profile, PAINTED)
    make_stages(store, profile, OF_STUDY)
    return store, profile


def test_recipes_take_unaligned_images_and_a_domain(domains: tuple[LanceStore, Profile]) -> None:
    store, profile = domains
    snapshot = Snapshot(profile, store)
    for name in (*PAINTED, *OF_STUDY):
        stage = snapshot.graph[name]
        for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
            assert snapshot.is_fresh(stage, key), (name, key)
    rendered, unaligned, lunges = (
        store.read("training_manifests", [student_key(name, 0, 0)]).to_pylist()
        for name in ("rendered", "unaligned", "lunges")
    )
    assert {row["table"] for row in unaligned} == {"unaligned_generations"}
    assert {row["source_sample_id"] for row in unaligned} == {row["source_sample_id"] for row in rendered}
    of_domain = [row for row in lunges if row["source_sample_id"].startswith("domain-lunge-")]
    assert len(lunges) == 6 and len(of_domain) == 3
    assert {row["family"] for row in of_domain} == {"lunge"}
    figures = snapshot.checkpoint(snapshot.graph["hmr_benchmark"])
    assert figures is not None and {"unaligned", "lunges"} <= set(figures.metrics["recipes"])
    assert figures.metrics["test_sets"]["bench-domain-lunge"] == 5


def test_without_an_adapter_both_images_are_the_same(domains: tuple[LanceStore, Profile]) -> None:
    """The tiny study has no alignment: same poses, same noise, same verdicts."""
    store, _ = domains
    keys = sorted(store.partitions("unaligned_generations"))
    unaligned, aligned = (store.read(name, keys) for name in ("unaligned_generations", "raw_generations"))
    for name in ("sample_id", "image", "seed", "caption"):
        assert unaligned.column(name).to_pylist() == aligned.column(name).to_pylist()
    verdicts = store.read("filtered_dataset", keys)
    for name in ("oks", "render_oks", "keep", "reason"):
        assert unaligned.column(name).to_pylist() == verdicts.column(name).to_pylist()


def test_a_domain_is_of_its_families_and_enters_no_dataset(domains: tuple[LanceStore, Profile]) -> None:
    store, profile = domains
    keys = planned_keys(profile, (DOMAIN,))
    assert keys == ["domain-lunge-0000", "domain-lunge-0001"]
    assert [poses_of_batch(profile, key) for key in keys] == [3, 3]
    poses = store.read("pose_library", keys)
    assert poses.num_rows == 6 and set(poses.column("family").to_pylist()) == {"lunge"}
    assert set(store.read("raw_generations", keys).column("round").to_pylist()) == {DOMAIN}
    assert not {group_of(key) for key in store.partitions("dataset")} & {DOMAIN}
    tested = store.read("benchmark_images", ["bench-domain-lunge-0000"])
    assert set(tested.column("family").to_pylist()) == {"lunge"} and set(tested.column("domain").to_pylist()) == {
        "look"
    }
    groups = {*poses.column("provenance").to_pylist()}
    assert not groups & {*tested.column("pose_group").to_pylist()}


def test_a_domain_changes_nothing_that_was_there(
    study: tuple[LanceStore, Profile], domains: tuple[LanceStore, Profile]
) -> None:
    """Whoever adds a domain to a study keeps its images and test images."""
    store, profile = domains
    before, after = Snapshot(study[1], store), Snapshot(profile, store)
    for name in ("pose_library", "base/filtered_dataset", "benchmark_images", "generated/benchmark_images"):
        for key in after.partitions(after.graph[name]):
            assert after.input_digest(after.graph[name], key) == before.input_digest(before.graph[name], key)


def test_another_family_makes_its_domain_out_of_date_alone(domains: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    store, profile = domains
    changed = with_study(profile, tmp_path, WITH_MORE.replace("families: [lunge]", "families: [kick]"))
    snapshot = Snapshot(changed, store)
    assert not snapshot.is_fresh(snapshot.graph["domain/pose_library"], "domain-lunge-0000")
    assert not snapshot.is_fresh(snapshot.graph["domain/benchmark_images"], "bench-domain-lunge-0000")
    assert snapshot.is_fresh(snapshot.graph["base/unaligned_generations"], "procedural-0000")
    assert snapshot.is_fresh(snapshot.graph["benchmark_images"], "bench-looks-0000")


@pytest.mark.parametrize("recipe", ["unaligned", "lunges"])
def test_such_recipes_are_exported(domains: tuple[LanceStore, Profile], recipe: str) -> None:
    store, profile = domains
    reader = ManifestReader(store, profile, recipe)
    manifest = store.read("training_manifests", [student_key(recipe, 0, 0)]).to_pylist()
    by_table: Mapping[str, list[str]] = {
        table: [row["source_sample_id"] for row in manifest if row["table"] == table]
        for table in {row["table"] for row in manifest}
    }
    images = {
        name: data
        for batch in reader.batches(reader.index().column("image_id").to_pylist())
        for name, data in batch.images.items()
    }
    for table, ids in by_table.items():
        stored = store.take(table, ids, columns=["sample_id", "image"])
        assert [images[name] for name in ids] == stored.column("image").to_pylist()


def test_a_domain_of_files_has_its_own_folder(study: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    """Its batches are cut from that folder, whatever the profile's own poses come from."""
    (tmp_path / "dance").mkdir()
    for name in ("a", "b"):
        bvh(tmp_path / "dance" / f"{name}.bvh")
    text = WITH_MORE.replace("families: [lunge]", f"source: '{tmp_path / 'dance'}'")
    profile = with_study(study[1], tmp_path, text)
    store = LanceStore(str(tmp_path / "storage"))
    assert plan_batches(profile, store, ("hard",)) == []
    cut = plan_batches(profile, store)
    assert cut == ["domain-lunge-0000", "domain-lunge-0001"] and plan_batches(profile, store) == []
    assert {path for batch in recorded_batches(store).values() for path in batch.paths} == {"a.bvh", "b.bvh"}
    assert has_pose_files(profile, cut[0]) and not has_pose_files(profile, "procedural-0000")
    assert not has_pose_files(profile, "hard-0000")
    assert Snapshot(profile, store).pose_files(cut[0]) is not None
    domain = domain_of(profile, cut[0])
    assert domain is not None and not domain.procedural
    assert planned_keys(profile, ("bench-domain",)) == [], "the same clips must not be tested on"
    assert with_poses_of_domain(profile, cut[0]).poses.source == str(tmp_path / "dance")


def test_poses_of_test_clips_become_a_test_set(study: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    """Students are tested on poses of files that no batch draws from."""
    (tmp_path / "clips").mkdir()
    for seed in (3, 4):
        bvh(tmp_path / "clips" / f"{seed}.bvh", seed)
    store, profile = study
    students = replace(profile.students, test_poses=str(tmp_path / "clips"), test_clips=4)
    profile = replace(profile, students=students)
    check_study(profile)
    assert planned_keys(profile, ("bench-clips",)) == ["bench-clips-0000"]
    shutil.copytree(store.root, tmp_path / "storage")
    make_stages(LanceStore(str(tmp_path / "storage")), profile, ("clips/benchmark_images",))
    rows = LanceStore(str(tmp_path / "storage")).read("benchmark_images", ["bench-clips-0000"])
    assert rows.num_rows == 4 and set(rows.column("labels").to_pylist()) == {"body"}
    assert set(rows.column("pose_group").to_pylist()) == {"bench-clips/3.bvh", "bench-clips/4.bvh"}
    moved = replace(profile, students=replace(students, test_poses=str(tmp_path / "elsewhere")))
    with pytest.raises(ConfigError, match="elsewhere is no folder"):
        check_study(moved)
    text = WITH_MORE.replace("families: [lunge]", f"source: '{tmp_path}'")
    with pytest.raises(ConfigError, match="of domain lunge share files"):
        check_study(with_study(profile, tmp_path, text))


def test_clips_that_are_drawn_from_are_refused_as_test_clips(tmp_path: Path) -> None:
    settings = {"poses.source": str(tmp_path), "students.test_poses": str(tmp_path / "part")}
    with pytest.raises(ConfigError, match="share files; give clips that no batch draws from"):
        load_profile("pocket", settings)


def test_without_such_recipes_neither_is_in_the_graph(study: tuple[LanceStore, Profile]) -> None:
    _, profile = study
    assert not {stage.key for stage in graph_of(profile)} & {*PAINTED}
    assert planned_keys(profile, (DOMAIN, "bench-domain")) == []
    off = replace(profile, students=replace(profile.students, study="none"))
    with pytest.raises(RecipeError, match="no domain of that name"):
        with_poses_of_domain(off, "domain-lunge-0000")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "[domain-lunge]",
            "[domain-split]",
            r"mine:8: recipe 'lunges' takes domain-split, which is not under `domains`",
        ),
        ("families: [lunge]", "families: [lung]", r"mine:13: families: no pose family 'lung'; there are stand, walk"),
        ("families: [lunge]", "families: lunge", r"mine:13: families: expected a list of names, found 'lunge'"),
        ("batches: 2", "batches: 0", r"mine:13: batches: expected 1 or more, found 0"),
        ("batches: 2", "poses: 2", r"mine:13: unknown key 'poses'; known: source, families, batches, size"),
        (
            "families: [lunge]",
            "families: [lunge], source: dance",
            r"mine:13: families: a folder of pose files has none",
        ),
        ("  lunge: {families", "  Lunge: {families", r"mine:13: domain 'Lunge': expected a-z"),
        (
            "a: half, b: rendered",
            "a: half, b: rendered, test: bench-domain-split",
            r"bench-domain-split needs a domain of that",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(before: str, after: str, message: str) -> None:
    text = WITH_MORE.replace(before, after)
    assert text != WITH_MORE
    with pytest.raises(RecipeError, match=message):
        parse_study(text, "mine", "mine")


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("domain-yoga-0003", "domain"),
        ("bench-domain-yoga-0000", "bench-domain"),
        ("bench-clips-0000", "bench-clips"),
        ("bench-domains-0000", "bench"),
    ],
)
def test_keys_of_domains_are_of_no_round(key: str, group: str) -> None:
    assert group_of(key) == group
    assert is_reserved("domain")
