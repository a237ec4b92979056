"""Making a stage: of the version that was listed, of the body that the profile names, and of rows that passed their checks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.model import FREE_BODY_PATH
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.errors import CheckError, StorageError
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage
from posedreamer_assets.runtime.checking import check_asset
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import Listed, make
from posedreamer_assets.runtime.outcomes import EMPTY, known_outcomes, note_empty
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.columns import BODY, CAMERA
from posedreamer_assets.tables.fields import SCHEMAS, names_of
from posedreamer_assets_tests.runtime.small import KEY, MAPS, OTHER, POSES, captions_lost, make_one, small_profile

PROFILE = small_profile()
ALL_POSES = Stage("reads_all", "One.", lambda inputs: Made(), "1", reads=(Reads(POSES, ("caption",), ("base",)),))


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    """With a body and one batch of poses, checked."""
    made = LanceStore(str(tmp_path / "storage"))
    make_one(made, PROFILE, "body_model")
    make_one(made, PROFILE, POSES, KEY)
    return made


def content(store: LanceStore, table: str, key: str) -> str:
    found = store.partition(table, key)
    assert found is not None
    return found.content_digest


# One version


def test_rows_that_were_replaced_after_the_listing_are_not_read(store: LanceStore) -> None:
    stale = Snapshot(PROFILE, store)
    stage = stale.graph[MAPS]
    expected = make(stale, stage, KEY).content
    listed = Snapshot(PROFILE, store)
    assert listed.is_fresh(stage, KEY)
    others = store.read(POSES, [KEY]).drop_columns(["row_digest", "input_digest"])
    for name in names_of((*BODY, *CAMERA)):  # whole people change places: each is still one that the checks let pass
        place = others.schema.get_field_index(name)
        others = others.set_column(place, others.schema.field(place), others.column(name).take([1, 0]))
    store.replace_partition(POSES, KEY, others, input_digest="of other poses")
    assert make(listed, stage, KEY, force=True).content == expected
    newest = Snapshot(PROFILE, store)
    assert newest.stored(stage, KEY) and not newest.is_fresh(stage, KEY), (
        "what was made from former rows is out of date"
    )
    assert make(newest, stage, KEY, force=True).content != expected, "the new rows do make other maps"


def test_every_way_of_reading_is_of_the_version_that_was_listed(store: LanceStore) -> None:
    listed = Snapshot(PROFILE, store)
    before = store.read(POSES, [KEY], columns=["sample_id", "caption"])
    contents = listed.table(POSES)[KEY].content
    version = store.version(POSES)
    rows = store.read(POSES, [KEY]).drop_columns(["row_digest", "input_digest"])
    place = rows.schema.get_field_index("caption")
    changed = rows.set_column(place, rows.schema.field(place), rows.column("caption").take([1, 0]))
    store.replace_partition(POSES, KEY, changed, input_digest="other")
    assert store.read(POSES, [KEY], columns=["sample_id", "caption"]) != before
    reader, ids = Listed(listed), before.column("sample_id").to_pylist()
    assert reader.rows(POSES, [KEY], ["sample_id", "caption"]) == before
    assert reader.take(POSES, ids[::-1], ["caption"]).column(0).to_pylist() == before.column(1).to_pylist()[::-1]
    assert reader.contents(POSES, [KEY]) == {KEY: contents}
    assert listed.versions_read(ALL_POSES) == {POSES: version} != {POSES: store.version(POSES)}


# One body


def other_body(path: Path) -> Path:
    """The free body, a hundredth larger."""
    with np.load(FREE_BODY_PATH, allow_pickle=False) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    np.savez(path, **{**changed, "v_template": changed["v_template"] * 1.01})
    return path


def test_rows_of_another_body_are_not_made_before_that_body_is(store: LanceStore, tmp_path: Path) -> None:
    profile = small_profile(**{"body.model_path": str(other_body(tmp_path / "SMPLX_OTHER.npz"))})
    former = Snapshot(PROFILE, store).input_digest(Snapshot(PROFILE, store).graph[POSES], KEY)
    before = content(store, POSES, KEY)
    for name in (POSES, MAPS):
        with pytest.raises(StorageError, match=rf"{name} reads body_model, which was imported from another file"):
            make_one(store, profile, name, KEY)
    assert content(store, POSES, KEY) == before
    make_one(store, profile, "body_model")
    snapshot = Snapshot(profile, store)
    assert snapshot.input_digest(snapshot.graph[POSES], KEY) != former
    assert not snapshot.is_current(snapshot.graph[POSES], KEY)
    make_one(store, profile, POSES, KEY)
    assert content(store, POSES, KEY) != before
    with pytest.raises(StorageError, match=rf"{MAPS} reads body_model"):
        make_one(store, PROFILE, MAPS, KEY)  # who still has the former profile


def test_a_body_file_that_is_written_over_is_noticed(store: LanceStore, tmp_path: Path) -> None:
    path = tmp_path / "SMPLX_OWN.npz"
    path.write_bytes(FREE_BODY_PATH.read_bytes())
    profile = small_profile(**{"body.model_path": str(path)})
    make_one(store, profile, "body_model")
    make_one(store, profile, POSES, KEY)
    other_body(path)
    with pytest.raises(StorageError, match="materialise body_model first"):
        make_one(store, profile, MAPS, KEY)


# Bad rows


def test_bad_rows_are_refused_by_every_stage_below_them(store: LanceStore) -> None:
    make_one(store, PROFILE, MAPS, KEY)
    with captions_lost(KEY):
        make(Snapshot(PROFILE, store), Snapshot(PROFILE, store).graph[POSES], KEY, force=True)
    assert check_asset(store, Snapshot(PROFILE, store).graph[POSES], KEY, PROFILE).bad == ["caption_not_blank"]
    below = [s.key for s in Snapshot(PROFILE, store).graph if "base" in s.groups and s.key != POSES]
    assert len(below) == 6
    for name in below:  # also by those that do not read the poses themselves
        with pytest.raises(CheckError, match=rf"{name} must not be made from pose_library\[{KEY}\], which failed"):
            make_one(store, PROFILE, name, KEY)


def test_a_second_home_on_the_same_storage_refuses_bad_rows(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("one", "other")]
    for home in homes:
        home.keep_in(str(tmp_path / "shared"))
        home.prepare(PROFILE)
    with Runner(homes[0]) as first, captions_lost(KEY):
        first.execute(first.graph["body_model"], None)
        with pytest.raises(CheckError, match="caption_not_blank"):
            first.execute(first.graph[POSES], KEY)
    with Runner(homes[1]) as second:
        with pytest.raises(
            CheckError, match=rf"must not be made from pose_library\[{KEY}\], which failed caption_not_"
        ):
            second.execute(second.graph[MAPS], KEY)
        second.execute(second.graph[POSES], KEY)
        second.execute(second.graph[MAPS], KEY)
    snapshot = Snapshot(PROFILE, homes[0].store())
    assert snapshot.is_current(snapshot.graph[MAPS], KEY)


def test_rows_that_nobody_looked_at_are_not_up_to_date_and_are_only_checked(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare(PROFILE)
    store = home.store()
    chosen = ("body_model", POSES, MAPS)
    make_one(store, PROFILE, "body_model")
    for key in (KEY, OTHER):
        make_one(store, PROFILE, POSES, key)
    make_one(store, PROFILE, MAPS, KEY)
    make_one(store, PROFILE, MAPS, OTHER, checked=False)
    snapshot = Snapshot(PROFILE, store)
    stage = snapshot.graph[MAPS]
    assert snapshot.is_fresh(stage, OTHER) and not snapshot.is_current(stage, OTHER)
    assert snapshot.current_keys("control_maps", ("base",)) == [KEY], "a stage that reads all leaves it out"
    assert set(snapshot.blocked_by(stage, OTHER)) and not snapshot.failed(stage, OTHER)
    versions = store.version("control_maps"), store.version(POSES)
    summary = run_main_job(home, PROFILE, only=chosen)
    assert {t.stage: (t.made, t.up_to_date) for t in summary.timings}[MAPS] == (1, 1)
    assert (store.version("control_maps"), store.version(POSES)) == versions, "no row is made again"
    assert Snapshot(PROFILE, store).is_current(stage, OTHER)
    assert not any(t.made for t in run_main_job(home, PROFILE, only=chosen).timings)


def test_a_stage_has_rows_checked_that_nobody_looked_at_before_it_reads_them(store: LanceStore) -> None:
    with captions_lost(OTHER):
        make_one(store, PROFILE, POSES, OTHER, checked=False)
    assert (POSES, OTHER) not in known_outcomes(store)
    with pytest.raises(CheckError, match=rf"must not be made from pose_library\[{OTHER}\], which failed caption_not"):
        make_one(store, PROFILE, MAPS, OTHER)
    assert store.partition("control_maps", OTHER) is None
    assert known_outcomes(store)[POSES, OTHER].failed == ("caption_not_blank",)
    make_one(store, PROFILE, MAPS, KEY)


def test_outcomes_say_nothing_of_rows_that_were_written_since(store: LanceStore) -> None:
    stage = Snapshot(PROFILE, store).graph[POSES]
    assert Snapshot(PROFILE, store).is_current(stage, KEY)
    rows = store.read(POSES, [KEY]).drop_columns(["row_digest", "input_digest"])
    input_digest = Snapshot(PROFILE, store).input_digest(stage, KEY)
    store.replace_partition(POSES, KEY, rows.slice(0, 1), input_digest=input_digest)
    after = Snapshot(PROFILE, store)
    assert after.is_fresh(stage, KEY) and after.known(stage, KEY) is None and not after.is_current(stage, KEY)


def test_unchanged_rows_are_left_and_bad_ones_made_again(store: LanceStore) -> None:
    version = store.version(POSES)
    assert make_one(store, PROFILE, POSES, KEY).skipped and store.version(POSES) == version
    with captions_lost(OTHER):
        make_one(store, PROFILE, POSES, OTHER)
    again = make_one(store, PROFILE, POSES, OTHER)
    assert not again.skipped
    snapshot = Snapshot(PROFILE, store)
    assert snapshot.is_current(snapshot.graph[POSES], OTHER)


# Partitions without rows


def test_a_partition_without_rows_is_known_until_rows_take_its_place(store: LanceStore) -> None:
    snapshot = Snapshot(PROFILE, store)
    stage = snapshot.graph[POSES]
    wanted = snapshot.input_digest(stage, OTHER)
    store.replace_partition(POSES, OTHER, SCHEMAS[POSES].empty_table(), input_digest=wanted)
    assert Snapshot(PROFILE, store).stored(stage, OTHER) is None, "a kill came before it was noted"
    note_empty(store, POSES, OTHER, wanted)
    empty = Snapshot(PROFILE, store)
    found = empty.stored(stage, OTHER)
    assert found is not None and (found.rows, found.content) == (0, EMPTY)
    assert empty.is_fresh(stage, OTHER) and not empty.is_current(stage, OTHER), "its checks have not been run"
    assert Listed(empty).rows(POSES, [OTHER], ["sample_id"]).num_rows == 0
    assert Listed(empty).rows(POSES, [KEY, OTHER], ["sample_id"]).num_rows == 2
    check_asset(store, stage, OTHER, PROFILE)
    checked = Snapshot(PROFILE, store)
    assert checked.failed(stage, OTHER), "poses must have rows"
    make_one(store, PROFILE, POSES, OTHER)
    assert Snapshot(PROFILE, store).partitions(stage)[OTHER].rows == 2
    assert Snapshot(PROFILE, store).is_current(stage, OTHER)


# A stage that is killed


def test_what_an_unfinished_stage_kept_is_there_again_until_it_is_done(store: LanceStore) -> None:
    found: list[list[str]] = []

    def work(inputs: Inputs) -> Made:
        assert inputs.unfinished is not None
        inputs.unfinished.mkdir(parents=True, exist_ok=True)
        found.append([file.name for file in inputs.unfinished.iterdir()])
        (inputs.unfinished / "state.pt").write_bytes(b"half")
        if len(found) < 3:
            raise KeyboardInterrupt
        (inputs.place / "result").write_bytes(b"whole")
        return Made()

    stage = Stage("slow_work", "One.", work, "1")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            make(Snapshot(PROFILE, store), stage)
    kept = store.checkpoint_folders.local / "unfinished" / "slow_work"
    assert found == [[], ["state.pt"]] and len(list(kept.iterdir())) == 1
    make(Snapshot(PROFILE, store), replace(stage, version="2"))
    assert found[2] == [], "that of other inputs is not gone on with"
    assert list(kept.iterdir()) == [], "nor is it kept, nor what has been finished"


def test_what_a_partition_kept_is_its_own_until_it_is_made(store: LanceStore) -> None:
    make_one(store, PROFILE, POSES, OTHER)
    plain, seen = Snapshot(PROFILE, store).graph[MAPS], []

    def work(inputs: Inputs) -> Made:
        assert inputs.unfinished is not None
        inputs.unfinished.mkdir(parents=True, exist_ok=True)
        seen.append([file.name for file in inputs.unfinished.iterdir()])
        (inputs.unfinished / inputs.key).write_bytes(b"half")
        if len(seen) == 1:
            raise KeyboardInterrupt
        return plain.make(inputs)

    stage = replace(plain, make=work)
    with pytest.raises(KeyboardInterrupt):
        make(Snapshot(PROFILE, store), stage, KEY)
    make(Snapshot(PROFILE, store), stage, OTHER)
    make(Snapshot(PROFILE, store), stage, KEY)
    assert seen == [[], [], [KEY]]
    assert not [path for path in (store.checkpoint_folders.local / "unfinished").rglob("*") if path.is_file()]
