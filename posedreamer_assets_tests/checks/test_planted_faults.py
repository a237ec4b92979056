"""The shipped checks on real tables: silent on clean ones, and each planted fault is caught by the check named for it."""

from pathlib import Path

import pyarrow as pa
import pytest

from posedreamer_assets.checks import CHECKPOINT_ASSETS, load_checks
from posedreamer_assets.config import Profile
from posedreamer_assets.runtime.checking import check_store
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.arm_fields import ARM_TABLES
from posedreamer_assets.tables.fields import SCHEMAS, WITHOUT_SAMPLES
from posedreamer_assets.tables.images import decode, encode_png
from posedreamer_assets.tables.scene_fields import SCENE_TABLES
from posedreamer_assets.tables.student_fields import STUDENT_TABLES
from posedreamer_assets_tests.planted_faults.faults import FAULTS, Fault, hit_ids, with_column
from posedreamer_assets_tests.planted_faults.tables import (
    ALIGN,
    EARLIER,
    KEY,
    TABLES,
    check,
    failed,
    key_of,
    make_tables,
    small_profile,
    tables_of,
)

Made = tuple[LanceStore, Profile]
ROWS, SEED = 24, 3  # with this seed the row that faults hit shows a whole, asymmetric person


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    profile = small_profile(ROWS, SEED)
    return make_tables(tmp_path_factory.mktemp("tables"), profile), profile


@pytest.mark.parametrize(("table", "key"), [(t, k) for k in (EARLIER, KEY, ALIGN) for t in tables_of(k)])
def test_clean_tables_pass_all_checks_in_the_order_of_the_file(made: Made, table: str, key: str) -> None:
    store, profile = made
    outcomes = check(store, profile, table, key)
    assert {name: o.observed for name, o in failed(outcomes).items()} == {}
    assert [o.name for o in outcomes] == [c.name for c in load_checks()[table].checks]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.table}: {fault.name}")
def test_a_planted_fault_is_caught_by_the_check_named_for_it(made: Made, fault: Fault) -> None:
    store, profile = made
    key = key_of(fault.table)
    clean = store.read(fault.table, [key])
    rows = fault.plant(clean)
    asked = fault.check_in(clean)
    found = failed(check(store, profile, fault.table, key, rows, only=[asked]))
    assert asked in found
    if fault.names_row:
        assert hit_ids(clean, rows) & {*found[asked].failing_ids}


@pytest.mark.parametrize("turn", ["upside down", "mirrored", "both"])
def test_an_image_that_was_turned_does_not_fit_its_outline(made: Made, turn: str) -> None:
    """Every image of the partition is turned, not just one row of it."""
    store, profile = made
    rows = store.read("raw_generations", [KEY])
    flips = {"upside down": (-1, 1), "mirrored": (1, -1), "both": (-1, -1)}
    down, across = flips[turn]
    turned = [encode_png(decode(blob)[::down, ::across].copy()) for blob in rows.column("image").to_pylist()]
    rows = with_column(rows, "image", turned)
    name = "image_has_its_own_outline"
    found = failed(check(store, profile, "raw_generations", KEY, rows, only=[name]))[name]
    assert found.failed >= 0.9 * ROWS


def test_every_kind_that_a_table_of_samples_is_checked_by_has_a_fault_that_it_catches() -> None:
    """A kind that looks at one of several images (`pick`) has one for each image that it looks at."""
    not_of_here = (
        *WITHOUT_SAMPLES,
        *CHECKPOINT_ASSETS,
        *SCENE_TABLES,
        *STUDENT_TABLES,
        *ARM_TABLES,
    )  # studies plant their own
    kinds = {(t, c.name): (c.kind, c.args.get("pick")) for t, loaded in load_checks().items() for c in loaded.checks}
    assert {kinds[f.table, f.check] for f in FAULTS} >= {
        kind for (table, _), kind in kinds.items() if table not in not_of_here
    }
    assert len({(f.table, f.name) for f in FAULTS}) == len(FAULTS)
    assert {f.table for f in FAULTS} == {*SCHEMAS} - {*WITHOUT_SAMPLES, *SCENE_TABLES, *STUDENT_TABLES, *ARM_TABLES}


def test_rows_that_cannot_be_judged_do_not_stop_a_check(made: Made) -> None:
    """Everything null that may be null: checks report it rather than fail to run."""
    store, profile = made
    for table in TABLES:
        rows = store.read(table, [KEY])
        for field in rows.schema:
            if field.nullable and not field.name.endswith("_digest"):
                place = rows.schema.get_field_index(field.name)
                rows = rows.set_column(place, field, pa.nulls(rows.num_rows, field.type))
        assert failed(check(store, profile, table, KEY, rows))


@pytest.mark.parametrize("table", [*TABLES, "preference_pairs"])
def test_an_empty_partition_fails_its_row_count_and_covers_nothing(made: Made, table: str) -> None:
    store, profile = made
    key = key_of(table)
    found = failed(check(store, profile, table, key, store.read(table, [key]).slice(0, 0)))
    may_be_empty = next(c for c in load_checks()[table].checks if c.kind == "row_count").args["min"] == 0
    covering = {c.name for c in load_checks()[table].checks if c.kind == "covers"}
    assert {name for name, o in found.items() if o.blocking} == (
        covering if may_be_empty else covering | {"row_count__table"}
    )


def test_a_warning_fails_without_blocking(made: Made) -> None:
    (fault,) = (f for f in FAULTS if f.name == "all OKS too low")
    store, profile = made
    rows = fault.plant(store.read(fault.table, [KEY]))
    found = failed(check(store, profile, fault.table, KEY, rows, only=[fault.check]))[fault.check]
    assert (found.severity, found.blocking) == ("warn", False)
    assert "in 1 batches before" in found.observed


def test_a_store_is_checked_partition_by_partition(made: Made) -> None:
    store, profile = made
    found = [(stage.key, key) for stage, key, _ in check_store(store, profile, "rendered_scenes")]
    assert found == [("rendered_scenes", key) for key in (ALIGN, EARLIER, KEY)]


def test_seeds_are_not_judged_where_the_profile_is_not_known(made: Made) -> None:
    store, _ = made
    (result,) = check_store(store, small_profile(ROWS, seed=9), "pose_library", KEY)
    assert failed(result[2].outcomes) == {}


def test_rows_of_another_seed_are_told_by_their_seeds(made: Made, tmp_path: Path) -> None:
    store, _ = made
    found = failed(check(store, small_profile(ROWS, seed=9), "pose_library", KEY))
    assert list(found) == ["seeds_derived"]
    assert found["seeds_derived"].failed == ROWS
