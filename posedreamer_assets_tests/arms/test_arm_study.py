"""The second half of the study, tiny: nothing is made twice, what changed is made again, and the report has its tables."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.config import ARM_STUDY, Profile, arm_called, arm_names, load_profile
from posedreamer_assets.errors import ConfigError, StorageError, StudentError
from posedreamer_assets.metrics.mpii_ap import judge
from posedreamer_assets.pipeline import arm_samples, graph, graph_of
from posedreamer_assets.pipeline.arm_samples import edges_of, sources_of
from posedreamer_assets.pipeline.arm_study import arm_key, arm_of
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.pose2d_predictions import predicted_of
from posedreamer_assets.pipeline.pose2d_report import groups_in, truths_of, truths_of_scenes, without_ignored
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.report.html import Cell, Table
from posedreamer_assets.report.main_figures import main_figures
from posedreamer_assets.report.scenes import scenes_figures
from posedreamer_assets.report.trained_arms import PHOTOGRAPHS, STAND_IN, TITLES, arms_section, tables_of, title_of
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import group_of, is_reserved, of_groups
from posedreamer_assets_tests.arms.small import ARMS, DATA, TRAINED, make_stages, small_study
from posedreamer_assets_tests.scenes.conftest import STUDY

Trained = tuple[LanceStore, Profile]


def inputs_of(trained: Trained, name: str, key: str | None) -> Inputs:
    store, profile = trained
    snapshot = Snapshot(profile, store)
    return Inputs(snapshot.graph[name], profile, Listed(snapshot), Models(profile), key)


def current(profile: Profile, store: LanceStore, name: str) -> dict[str, bool]:
    """By arm, whether all its partitions of a stage are up to date."""
    snapshot = Snapshot(profile, store)
    stage = snapshot.graph[name]
    found: dict[str, bool] = {}
    for key in planned_keys(profile, stage.groups):
        arm = arm_of(key)[0].name
        found[arm] = found.get(arm, True) and snapshot.is_current(stage, key)
    return found


def test_everything_passed_its_checks_and_nothing_is_made_again(trained: Trained) -> None:
    store, profile = trained
    snapshot = Snapshot(profile, store)
    for name in TRAINED:
        stage = snapshot.graph[name]
        for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
            assert snapshot.is_current(stage, key), (name, key, snapshot.blocked_by(stage, key))
    assert make_stages(store, profile) == []


def test_the_same_network_again_has_the_same_row(trained: Trained) -> None:
    store, _ = trained
    for key in (arm_key("teacher-c", 1), arm_key("real-style", 0)):
        inputs = inputs_of(trained, "pose2d_students", key)
        again = inputs.stage.make(inputs).rows
        assert again is not None
        assert again.to_pylist() == store.read("pose2d_students", [key], SCHEMAS["pose2d_students"].names).to_pylist()


def test_arms_of_one_seed_number_start_from_one_seed_and_numbers_from_others(trained: Trained) -> None:
    store, _ = trained
    rows = store.read("pose2d_students", columns=["arm", "training_seed", "seed", "baseline_digest"]).to_pylist()
    assert {row["arm"] for row in rows} == {"baseline", *ARMS}
    assert len({row["seed"] for row in rows}) == len({row["training_seed"] for row in rows}) == 2
    assert len({row["baseline_digest"] for row in rows}) == 1


def test_a_new_batch_of_scenes_makes_those_out_of_date_that_are_trained_on_scenes_alone(
    trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained[0].root, tmp_path / "storage")
    store, profile = LanceStore(str(tmp_path / "storage")), trained[1]
    more = replace(profile, learning_to_train=replace(profile.learning_to_train, scene_batches=2))
    assert make_stages(store, more, [name for name in DATA if name.startswith("ds/")])
    found = current(more, store, "pose2d_students")
    on_scenes = {"ds", "real-ds", "uniform-c", "teacher-c"}
    assert {arm for arm, up_to_date in found.items() if not up_to_date} == on_scenes
    assert {arm for arm, up_to_date in current(more, store, "pose2d_predictions").items() if up_to_date} == {
        arm for arm in found if arm not in on_scenes
    }


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ({"teacher.alpha": 0.3}, {"uniform-c", "teacher-c"}),
        ({"style.min_pixels": 25}, {"real-style"}),
        ({f"{STUDY}.bootstrap": 50}, set()),
        ({f"{STUDY}.arms": ["real", "ds"]}, set()),
    ],
)
def test_a_setting_makes_out_of_date_what_depends_on_it(
    trained: Trained, setting: dict[str, object], changed: set[str]
) -> None:
    store, profile = trained
    other = load_profile("pocket", {**_settings_of(profile), **setting})
    # Styles are made again before students are asked for.
    found = {
        arm: Snapshot(other, store).input_digest(graph_of(other)["pose2d_students"], arm_key(arm, 0))
        != Snapshot(profile, store).input_digest(graph_of(profile)["pose2d_students"], arm_key(arm, 0))
        for arm in ("baseline", *other.learning_to_train.arms)
    }
    assert {arm for arm, differs in found.items() if differs} == changed
    report = [Snapshot(of, store).input_digest(graph_of(of)["pose2d_report"]) for of in (other, profile)]
    assert (report[0] != report[1]) == (setting.keys() <= {f"{STUDY}.bootstrap", f"{STUDY}.arms"} or changed != set())


def _settings_of(profile: Profile) -> dict[str, object]:
    from posedreamer_assets_tests.arms.small import SETTINGS

    return {**SETTINGS, "pose2d.baseline": profile.pose2d.baseline, "pose2d.steps": profile.pose2d.steps}


def test_other_weights_of_the_baseline_make_every_network_out_of_date(trained: Trained, tmp_path: Path) -> None:
    store, profile = trained
    other = small_study(tmp_path)
    weights = Path(str(other.pose2d.baseline)) / "model.safetensors"
    stage = graph_of(other)["pose2d_baseline"]
    same = Snapshot(other, store).input_digest(stage)
    assert same == Snapshot(profile, store).input_digest(stage), "the same bytes elsewhere"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert Snapshot(other, store).input_digest(stage) != same
    assert not any(current(other, store, "pose2d_students").values())


def test_held_out_scenes_are_of_their_own_and_make_no_network_out_of_date(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained[0].root, tmp_path / "storage")
    store, profile = LanceStore(str(tmp_path / "storage")), trained[1]
    scenes = store.read("scene_layouts", columns=["image_id", "body_pose"]).to_pylist()
    poses = {
        part: {tuple(row["body_pose"]) for row in scenes if row["image_id"].startswith(f"{part}-0")}
        for part in ("scenes", "scenes-test")
    }
    assert poses["scenes"] and poses["scenes-test"] and not poses["scenes"] & poses["scenes-test"]
    more = replace(profile, learning_to_train=replace(profile.learning_to_train, test_scene_batches=2))
    assert planned_keys(more, ("scene", "scene-test")) == ["scenes-0000", "scenes-test-0000", "scenes-test-0001"]
    assert make_stages(store, more, [name for name in DATA if name.startswith("ds/")])
    assert all(current(more, store, "pose2d_students").values())
    looking = {"baseline", "real", "ds", "real-ds"}
    assert {arm for arm, made in current(more, store, "pose2d_predictions").items() if not made} == looking


def test_what_is_to_be_found_in_a_scene_are_the_joints_of_people_who_are_seen(trained: Trained) -> None:
    store, _ = trained
    truths = truths_of_scenes(inputs_of(trained, "pose2d_report", None))
    rows = [row for row in store.read("scene_people").to_pylist() if row["image_id"].startswith("scenes-test")]
    assert set(truths) == {row["image_id"] for row in rows} and len(truths) == 6
    for name, truth in truths.items():
        own = sorted((row for row in rows if row["image_id"] == name), key=lambda row: row["person"])
        counted = [row for row in own if any(row["mpii_visible"])]
        assert truth.people.joints.reshape(len(counted), -1) == pytest.approx(np.array([r["mpii_2d"] for r in counted]))
        assert truth.people.known.tolist() == [row["mpii_in_frame"] for row in counted]
        assert truth.seen == pytest.approx([row["visible_ratio"] for row in counted], abs=1e-6)
        ignored = sum(row["pixels_visible"] for row in own if not any(row["mpii_visible"]))
        assert truth.ignored.sum() == ignored
    found = [r for r in store.read("pose2d_predictions").to_pylist() if r["scene_id"]]
    assert {row["arm"] for row in found} == {"baseline", "real", "ds", "real-ds"}
    assert {row["scene_id"] for row in found} == set(truths) and not any(row["photo_id"] for row in found)


def test_what_may_be_drawn_is_of_the_training_split_and_of_who_an_arm_names(trained: Trained) -> None:
    store, _ = trained
    split = {row["sample_id"]: row["split"] for row in store.read("annotated_photos").to_pylist()}
    photo_of = {row["sample_id"]: row["photo_id"] for row in store.read("scene_images").to_pylist()}
    origin = {f"{row['image_id']}/{row['person']:02d}": row["origin"] for row in store.read("scene_people").to_pylist()}
    for arm in ("real", "ds", "real-dm-masks", "real-style", "teacher-c"):
        sources = sources_of(inputs_of(trained, "pose2d_students", arm_key(arm, 0)), arm_of(arm_key(arm, 0))[0])
        for source in (sources.real, sources.synthetic):
            for name in source.ids if source else ():
                image = name.rpartition("/")[0]
                photo = photo_of.get(image, image) or image
                assert split.get(photo, "train") == "train"
                if source is sources.synthetic:
                    assert origin[name] == ("synthetic" if arm in ("ds", "teacher-c") else "photo")
        assert (sources.real is None) == (arm == "ds")
        assert (sources.edges is not None) == (arm == "teacher-c")


def test_labels_of_what_is_drawn_are_those_of_the_table(trained: Trained) -> None:
    store, _ = trained
    sources = sources_of(inputs_of(trained, "pose2d_students", arm_key("ds", 0)), arm_of(arm_key("ds", 0))[0])
    assert sources.synthetic is not None
    rows = {f"{r['image_id']}/{r['person']:02d}": r for r in store.read("scene_people", ["scenes-0000"]).to_pylist()}
    for name, (picture, person) in zip(sources.synthetic.ids, sources.synthetic.people, strict=True):
        shown = sources.synthetic.pictures[int(picture)]
        row = rows[name]
        assert not row["cropped"] and any(row["mpii_visible"])
        assert shown.joints[person].ravel() == pytest.approx(row["mpii_2d"], abs=1e-4)
        assert shown.head_px[person] == pytest.approx(row["head_size_px"])
        assert shown.instances is not None and shown.image.shape[:2] == shown.instances.shape
        assert (shown.instances == person + 1).sum() == row["pixels_visible"]
    groups = sources_of(
        inputs_of(trained, "pose2d_students", arm_key("teacher-c", 0)), arm_of(arm_key("teacher-c", 0))[0]
    )
    assert groups.synthetic is not None and groups.synthetic.groups is not None and groups.edges is not None
    pitch = [rows[name]["cam_pitch_deg"] for name in groups.synthetic.ids]
    assert groups.synthetic.groups.tolist() == [int(value >= groups.edges[0]) for value in pitch]


def test_groups_of_distance_are_even_up_to_the_width_of_a_scene_and_those_of_pitch_follow_the_spread() -> None:
    profile = load_profile("pocket", {"teacher.groups": 4, "crowds.size": 320})
    assert edges_of(np.array([3.0]), arm_called("teacher-md"), profile).tolist() == [80.0, 160.0, 240.0]
    values = np.linspace(0, 45, 400)
    drawn_in = np.rad2deg(np.var(np.deg2rad(values)))
    wanted = np.linspace(drawn_in, 45 - drawn_in, 3, endpoint=False)
    assert edges_of(values, arm_called("teacher-c"), profile) == pytest.approx(wanted)


def test_a_stage_reads_nothing_that_its_arm_does_not_name(trained: Trained) -> None:
    with pytest.raises(StorageError, match="does not declare"):
        inputs_of(trained, "pose2d_students", arm_key("real", 0)).rows("scene_people")
    keys = inputs_of(trained, "pose2d_students", arm_key("real-style", 0)).keys("scene_people")
    assert keys == ["photos-0000"]


def test_arms_are_named_in_the_profile_and_none_leaves_the_data(tmp_path: Path) -> None:
    profile = small_study(tmp_path)
    assert profile.studies == (STUDY, ARM_STUDY)
    assert load_profile("pocket").learning_to_train.arms == arm_names()
    data = load_profile("pocket", {f"{STUDY}.enabled": True, f"{STUDY}.arms": []})
    assert data.studies == (STUDY,) and not {*TRAINED} & {stage.key for stage in graph_of(data)}
    assert planned_keys(data, ("arm", "teacher")) == []
    with pytest.raises(ConfigError, match="no arm 'real-d'; there are real, ds"):
        load_profile("pocket", {f"{STUDY}.arms": ["real-d"]})
    with pytest.raises(ConfigError, match="names an arm twice"):
        load_profile("pocket", {f"{STUDY}.arms": ["ds", "ds"]})
    with pytest.raises(ConfigError, match="seeds is 0"):
        load_profile("pocket", {f"{STUDY}.seeds": 0})


def test_keys_of_networks_are_groups_of_their_own() -> None:
    assert {group_of(arm_key(arm, 0)) for arm in ("baseline", "real", "ds", "real-style-masks", "uniform-c")} == {"arm"}
    assert {group_of(arm_key(arm, 2)) for arm in ("teacher-c", "teacher-md")} == {"teacher"}
    assert is_reserved("arm") and is_reserved("arm-real") and group_of("arms-0000") == "base"
    with pytest.raises(KeyError):
        arm_of("arm-other-0000")


def test_every_column_has_an_origin_of_a_declared_column(trained: Trained) -> None:
    for name in TRAINED:
        stage = graph(2, (STUDY, ARM_STUDY))[name]
        declared: dict[str, set[str]] = {}
        for reads in stage.reads:
            declared.setdefault(reads.table, {"sample_id"}).update(reads.columns)
        for column, found in stage.origins(trained[1]).items():
            assert column in SCHEMAS[stage.table or ""].names
            assert len(set(found)) == len(found) > 0
            for table, origin in found:
                assert origin in declared[table], (name, column, table, origin)


def test_predictions_are_of_every_test_photograph_and_keep_what_was_found(trained: Trained) -> None:
    store, _ = trained
    photos = {r["sample_id"] for r in store.read("annotated_photos").to_pylist() if r["split"] == "test"}
    for row in store.read("pose2d_predictions", [arm_key("ds", 1)]).to_pylist():
        if row["scene_id"] is None:
            photos.remove(row["photo_id"])
        found = predicted_of(row)
        assert found.joints.shape == (row["people_found"], 16, 2) and found.found.shape == found.scores.shape
    assert not photos


def test_people_who_are_found_where_nobody_is_annotated_are_left_out_by_most_of_their_joints() -> None:
    ignored = np.zeros((40, 40), bool)
    ignored[:, 20:] = True
    joints = np.tile(np.array([30.0, 10.0]), (2, 16, 1))
    joints[1, :8] = 5.0, 500.0  # half of them elsewhere, outside of the picture
    from posedreamer_assets.metrics.mpii_ap import Predicted

    found = without_ignored(Predicted(joints, np.ones((2, 16), bool), np.ones((2, 16))), ignored)
    assert len(found.joints) == 1 and found.joints[0, 0, 0] == 5.0


def test_groups_are_found_and_judged_apart_and_who_is_in_none_is_not(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained[0].root, tmp_path / "storage")
    store, profile = LanceStore(str(tmp_path / "storage")), trained[1]
    rows = store.read("photo_people", ["photos-0000"])
    persons = rows.column("person").to_pylist()
    groups = pa.array([min(person, 1) if person < 3 else -1 for person in persons], pa.int32())
    changed = rows.set_column(rows.column_names.index("judged_group"), "judged_group", groups)
    store.replace_partition("photo_people", "photos-0000", changed, input_digest="groups")

    class AsItLies(Listed):
        def keys(self, table: str, groups: Sequence[str]) -> list[str]:
            return of_groups(self.snapshot.table(table), groups)

    def inputs(name: str, key: str | None) -> Inputs:
        return Inputs(graph_of(profile)[name], profile, AsItLies(Snapshot(profile, store)), Models(profile), key)

    of = inputs("pose2d_predictions", arm_key("ds", 0))
    made = of.stage.make(of).rows
    assert made is not None
    truths = truths_of(inputs("pose2d_report", None))
    judged = [number for number, person in enumerate(persons) if person < 3]
    assert 0 < sum(len(one.seen) for one in truths.values()) <= len(judged) < len(persons)
    in_groups = [one.people.group for one in truths.values() if one.people.group is not None]
    assert len(in_groups) == len(truths) and groups_in(truths.values()) == sum(len({*of.tolist()}) for of in in_groups)
    for row in made.to_pylist():
        found = predicted_of(row)
        if row["photo_id"] is None:
            assert found.group is None
            continue
        assert found.group is not None and len(found.group) == len(found) and set(found.group.tolist()) <= {0, 1}
        judge(truths[row["photo_id"]].people, found)


def test_an_arm_without_predictions_makes_no_report(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained[0].root, tmp_path / "storage")
    store = LanceStore(str(tmp_path / "storage"))
    store.delete_partition("pose2d_predictions", arm_key("ds", 1))
    inputs = replace(inputs_of((store, trained[1]), "pose2d_report", None), folder=tmp_path)
    with pytest.raises(StudentError, match=r"1 networks .* arm-ds-0001 among them"):
        inputs.stage.make(inputs)


def test_the_report_has_tables_with_intervals_and_calls_a_stand_in_a_stand_in(trained: Trained) -> None:
    store, profile = trained
    snapshot = Snapshot(profile, store)
    section = arms_section(snapshot)
    assert section is not None and section.title == STAND_IN == "Simulated study"
    found = snapshot.checkpoint(snapshot.graph["pose2d_report"])
    assert found is not None
    figures = json.loads(json.dumps(dict(found.metrics)))
    assert set(figures["arms"]) == {"baseline", *ARMS} and figures["kind"] == "stand_in"
    assert [(one["a"], one["b"]) for one in figures["contrasts"]][:2] == [("ds", "real"), ("real-ds", "real")]
    assert sum(one["people"] for one in figures["seen"]) == figures["people"]
    words = " ".join(str(block) for block in section.blocks)
    assert "stand-in" in words and "95 %" in section.intro and "real photographs" not in words.lower()
    assert figures["arms"]["real"]["minus"].keys() == {"baseline"}
    assert set(figures["scenes"]["arms"]) == {"baseline", "real", "ds", "real-ds"} and figures["scenes"]["scenes"] == 6
    assert figures["scenes"]["arms"]["ds"]["minus"].keys() == {"real", "baseline"}
    first, scenes, second, *_ = (one for one in tables_of(figures) if isinstance(one, Table))
    assert (first.title, second.title) == (TITLES[1], TITLES[2]) and first.columns == second.columns
    assert scenes.columns == first.columns[:-1] and "6 scenes that nothing was trained on" in scenes.caption
    assert [row[0].text for row in scenes.rows if isinstance(row[0], Cell)] == ["baseline", "real", "ds", "real-ds"]
    assert {len(row) for row in scenes.rows} == {len(scenes.columns)}
    assert title_of({**figures, "kind": "mpii"}) == PHOTOGRAPHS
    assert len(tables_of({**figures, "kind": "mpii"})) == len(tables_of(figures)) - 1, "no note on stand-ins"


def test_a_profile_without_the_study_has_no_section(trained: Trained) -> None:
    store, profile = trained
    off = replace(profile, learning_to_train=replace(profile.learning_to_train, enabled=False))
    assert arms_section(Snapshot(off, store)) is None


def test_counts_of_what_there_is_to_learn_from_are_those_of_the_tables(trained: Trained) -> None:
    store, profile = trained
    figures = scenes_figures(Snapshot(profile, store))
    drawn = store.read("scene_layouts", ["scenes-0000"], ["image_id", "people_drawn"]).to_pylist()
    images = {row["image_id"]: row["people_drawn"] for row in drawn}
    assert figures["ds"] == {
        "images": len(images), "people_drawn": sum(images.values()), "people_placed": len(drawn), "annotated": 0,
    }  # fmt: skip
    origins = store.read("scene_people", ["photos-0000"], ["origin"]).column("origin").to_pylist()
    assert figures["dm"]["annotated"] == origins.count("photo") > 0
    nothing = {"poses": 0, "crowds": {**figures, "backgrounds": {"kept": 2, "has_people": 3, "unreadable": 1}}}
    lines = {label: (value, note) for label, value, note in main_figures(nothing)}
    assert lines["backgrounds kept"] == ("2", "of 6: 3 has_people, 1 unreadable")
    assert lines["scenes"][0] == str(len(images)) and "annotated" in lines["mixtures"][1]
    assert scenes_figures(Snapshot(load_profile("pocket"), store)) == {}


@pytest.mark.parametrize("arm", ["real-ds", "real-dm-masks", "real-style"])
def test_files_for_which_there_is_no_room_are_read_when_they_are_drawn(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    inputs = inputs_of(trained, "pose2d_students", arm_key(arm, 0))
    held = sources_of(inputs, arm_of(inputs.key)[0])
    monkeypatch.setattr(arm_samples, "_AT_ONCE", 1)
    monkeypatch.setattr(arm_samples, "_HELD_BYTES", 1)
    read = sources_of(inputs, arm_of(inputs.key)[0])
    for one, other in zip((held.real, held.synthetic), (read.real, read.synthetic), strict=True):
        assert one is not None and other is not None and one.ids == other.ids
        for a, b in zip(one.pictures, other.pictures, strict=True):
            assert np.array_equal(a.image, b.image) and np.array_equal(a.joints, b.joints)
            assert np.array_equal(np.nan_to_num(a.head_px), np.nan_to_num(b.head_px))
            assert (a.instances is None) == (b.instances is None)
    assert read.synthetic is not None and len(read.synthetic.pictures) > 1, "there is room for the first alone"


def test_an_arm_that_was_killed_goes_on_from_what_it_left(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posedreamer_assets.people2d import learn

    inputs = replace(inputs_of(trained, "pose2d_students", arm_key("real-ds", 0)), unfinished=tmp_path / "left")
    monkeypatch.setattr(learn, "_SAVED_EVERY", 0.0)
    steps: list[int] = []

    class Killed(Exception):
        pass

    def counted(self: "learn._Arm", share: float, step: Callable[..., float] = learn._Arm.step) -> float:
        steps.append(self.progress.step)
        if steps.count(3) == 1 and self.progress.step == 3:
            raise Killed
        return step(self, share)

    monkeypatch.setattr(learn._Arm, "step", counted)
    with pytest.raises(Killed):
        inputs.stage.make(inputs)
    made = inputs.stage.make(inputs).rows
    assert steps == [0, 1, 2, 3, 3]
    assert made is not None
    assert made.to_pylist() == trained[0].read("pose2d_students", [inputs.key], made.schema.names).to_pylist()


def test_without_photographs_to_test_on_nothing_is_trained(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_samples, "photos_of_split", lambda inputs, split: [])
    for stage in ("pose2d_students", "pose2d_predictions"):
        inputs = inputs_of(trained, stage, arm_key("real", 0))
        with pytest.raises(StudentError, match=r"no photograph is of the split test \(photos\.test_share 0\.5\)"):
            inputs.stage.make(inputs)
