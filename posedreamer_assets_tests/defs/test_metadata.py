"""What Dagster's pages are told of every asset: columns, their lineage, places, and figures that can be plotted."""

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from posedreamer_assets.defs.lineage import column_lineage, column_origins
from posedreamer_assets.pipeline.facts import facts, flat_figures
from posedreamer_assets.pipeline.graph import ORDER, STAGES, Stage
from posedreamer_assets.tables.columns import MEANINGS, OF_TABLE

from posedreamer_assets.definitions import defs
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets_tests.planted_faults.tables import ALIGN, KEY, make_tables, small_profile

TABLES = [stage for stage in ORDER if stage.table in SCHEMAS]
GRAPH = defs.resolve_asset_graph()
UNITS = {
    "radians", "degrees", "metres", "millimetres", "pixels", "standard deviations", "0 to 1", "PNG", "8 bit", "seed",
    "unit", "number", "denoising steps", "people", "delta e", "3 x 3", "which of", "whether",
}  # fmt: skip
named = pytest.mark.parametrize("stage", TABLES, ids=lambda stage: stage.key)


@named
def test_a_table_shows_its_columns_with_types_and_meanings(stage: Stage) -> None:
    metadata = GRAPH.get(dg.AssetKey(stage.key.split("/"))).metadata
    assert metadata["dagster/table_name"] == stage.table
    columns = metadata["dagster/column_schema"].columns
    own = [column for column in columns if column.name not in ("row_digest", "input_digest")]
    assert [column.name for column in own] == SCHEMAS[stage.table].names
    assert all(column.description and column.type for column in columns)
    assert not any(set("<>*_`") & set(column.description) - set("_") for column in columns), "shown as Markdown"
    assert {c.name for c in own if not c.constraints.nullable} == {
        f.name for f in SCHEMAS[stage.table] if not f.nullable
    }


def test_a_columns_description_says_where_it_comes_from() -> None:
    columns = GRAPH.get(dg.AssetKey(["hard", "filtered_dataset"])).metadata["dagster/column_schema"].columns
    texts = {column.name: column.description for column in columns}
    assert texts["focal_px"].endswith("From hard_samples (focal_px).")
    assert texts["keep"].endswith("From hard/sample_scores (oks, people, head_error_deg).")
    assert "From" not in texts["row_digest"]
    columns = GRAPH.get(dg.AssetKey(["base", "control_maps"])).metadata["dagster/column_schema"].columns
    assert "From pose_library (18 columns)." in {c.name: c.description for c in columns}["control"]


@named
def test_a_number_is_given_with_its_unit(stage: Stage) -> None:
    for field in SCHEMAS[stage.table]:
        kind = field.type.value_type if pa.types.is_fixed_size_list(field.type) else field.type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            text = (OF_TABLE.get((stage.table, field.name)) or MEANINGS[field.name]).lower()
            assert any(unit.lower() in text for unit in UNITS), f"{field.name}: {text}"


def test_no_meaning_is_left_of_a_column_that_is_gone() -> None:
    names = {name for stage in TABLES for name in SCHEMAS[stage.table].names} | {"row_digest", "input_digest"}
    assert set(MEANINGS) == names
    assert all(column in SCHEMAS[table].names for table, column in OF_TABLE)


@named
def test_lineage_names_columns_of_assets_that_the_asset_reads(stage: Stage) -> None:
    read = {*stage.reads, *(name for name, _ in stage.reads_all)}
    origins = column_origins(stage.key)
    assert bool(origins) == bool(read), "what reads tables has lineage"
    for column, found in origins.items():
        assert column in SCHEMAS[stage.table].names
        assert len(set(found)) == len(found) > 0
        for asset, name in found:
            assert asset in read and name in SCHEMAS[STAGES[asset].table].names
    shown = column_lineage(stage.key)
    assert set(shown.deps_by_column if shown else {}) == set(origins)


def test_lineage_of_an_image_names_the_control_map_that_the_generator_was_given() -> None:
    for asset, image in (("hard/raw_generations", "image"), ("preference_pairs", "candidate_images")):
        (maps,) = (name for name, column in column_origins(asset)[image] if column == "control")
        assert (maps, "depth") in column_origins(asset, "depth")[image]
        assert (maps, "control") not in column_origins(asset, "depth")[image]


@named
def test_every_table_that_is_read_at_the_same_partition_is_the_origin_of_a_column(stage: Stage) -> None:
    assert (
        set(stage.reads) == {asset for found in column_origins(stage.key).values() for asset, _ in found}
        or not stage.reads
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LanceStore:
    return make_tables(tmp_path_factory.mktemp("tables"), small_profile(4), (KEY, ALIGN))


def test_a_column_that_is_said_to_be_copied_holds_what_its_origin_holds(store: LanceStore) -> None:
    compared = 0
    for stage in TABLES:
        key = ALIGN if stage.key == "preference_pairs" else KEY
        if stage.key.startswith("hard") or not store.partition(stage.table, key):
            continue
        rows = store.read(stage.table, [key])
        for column, found in column_origins(stage.key).items():
            copied = [asset for asset, name in found if name == column and asset in stage.reads]
            if len(found) > 1 or not copied:
                continue
            origin = store.read(STAGES[copied[0]].table, [key], columns=["sample_id", column]).to_pylist()
            values = {row["sample_id"]: row[column] for row in origin}
            assert rows.column(column).to_pylist() == [values[i] for i in rows.column("sample_id").to_pylist()], column
            compared += 1
    assert compared > 40


def test_figures_of_a_table_have_the_same_names_whatever_its_rows_are(store: LanceStore) -> None:
    for stage in TABLES:
        key = ALIGN if stage.key == "preference_pairs" else KEY
        if stage.key.startswith("hard") or not store.partition(stage.table, key):
            continue
        rows = store.read(stage.table, [key])
        names = set(facts(stage.table, rows))
        assert len(names) > 1 or stage.key in ("base/raw_generations", "dataset"), stage.key
        measured = {
            name for name in names if "head_error" not in name and "colour_error" not in name and "_of_" not in name
        }
        assert measured <= set(facts(stage.table, rows.slice(0, 1)))


def test_figures_of_verdicts_are_what_their_rows_say() -> None:
    reasons = ["kept", "low_oks", "kept", "crowded", "low_oks"]
    rows = pa.table({"reason": reasons, "oks": [0.9, 0.1, 0.8, 0.7, None]})
    found = facts("hard_filtered_dataset", rows)
    assert found["kept"] == 2 and found["pass_rate"] == 0.4
    assert {name: found[f"rejected_{name}"] for name in ("no_person", "crowded", "low_oks", "head_pose")} == {
        "no_person": 0, "crowded": 1, "low_oks": 2, "head_pose": 0,
    }  # fmt: skip
    assert found["rejected_low_oks_rate"] == 0.4
    assert found["mean_oks"] == pytest.approx(0.625) and found["mean_oks_of_kept"] == pytest.approx(0.85)
    assert found["bytes"] == rows.nbytes


def test_what_could_not_be_measured_has_no_figure() -> None:
    rows = pa.table({"reason": ["no_person"], "oks": pa.array([None], pa.float32())})
    found = facts("base_filtered_dataset", rows)
    assert "mean_oks" not in found and found["pass_rate"] == 0


def test_nested_figures_become_single_ones() -> None:
    given = {
        "name": "x",
        "oks": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 9},
        "fid": {"value": 3.0, "low": 2.0, "high": 4.0, "replicates": 5},
        "judge": {"name": "j", "renders": {"mean": 1.0, "ci95": [np.nan, 1.0]}},
        "splits": {"train": 3},
        "notes": ["a"],
        "lost": float("nan"),
    }
    assert flat_figures(given) == {
        "name": "x", "oks": 0.5, "oks_low": 0.4, "oks_high": 0.6, "fid": 3.0, "fid_low": 2.0, "fid_high": 4.0,
        "judge/name": "j", "judge/renders": 1.0, "judge/renders_high": 1.0, "splits/train": 3,
    }  # fmt: skip
