"""What Dagster's pages are told of every asset: columns, their lineage, places, and figures that can be plotted."""

import math

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.metadata import column_lineage, plain
from posedreamer_assets.pipeline import Stage, graph
from posedreamer_assets.pipeline.figures import flat_figures
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import BOOKKEEPING, SCHEMAS, TABLES, columns_of, names_of
from posedreamer_assets.tables.keys import of_groups
from posedreamer_assets_tests.runtime.small import make_every_table

STAGES = graph(3)
WITH_TABLES = [stage for stage in STAGES if stage.table]
OWN = names_of(BOOKKEEPING)
DEFAULT, DEPTH = Profile(), load_profile("pocket", {"generator.control": "depth"})
GRAPH = build(Deployment(), STAGES).resolve_asset_graph()
UNITS = {
    "radians", "degrees", "metres", "millimetres", "pixels", "standard deviations", "0 to 1", "PNG", "8 bit", "seed",
    "unit", "number", "bytes", "nanoseconds", "which part", "denoising steps", "people", "delta e", "3 x 3", "which of",
    "whether",
}  # fmt: skip
named = pytest.mark.parametrize("stage", WITH_TABLES, ids=lambda stage: stage.key)


@named
def test_a_table_shows_its_columns_with_types_and_meanings(stage: Stage) -> None:
    metadata = GRAPH.get(dg.AssetKey(stage.key.split("/"))).metadata
    assert stage.table is not None and metadata["dagster/table_name"] == stage.table
    columns = metadata["dagster/column_schema"].columns
    own = [column for column in columns if column.name not in OWN]
    assert [column.name for column in own] == SCHEMAS[stage.table].names
    assert all(column.description and column.type for column in columns)
    assert not any(set("<>*_`") & set(column.description) - set("_") for column in columns), "shown as Markdown"
    assert {c.name for c in own if not c.constraints.nullable} == {
        f.name for f in SCHEMAS[stage.table] if not f.nullable
    }


def test_a_columns_description_says_where_it_comes_from() -> None:
    columns = GRAPH.get(dg.AssetKey(["hard", "filtered_dataset"])).metadata["dagster/column_schema"].columns
    texts = {column.name: column.description for column in columns}
    assert texts["focal_px"].endswith("From pose_library (focal_px).")
    assert "From sample_scores (people, render_oks, oks, head_error_deg)" in texts["keep"]
    assert "From" not in texts["row_digest"]
    columns = GRAPH.get(dg.AssetKey(["base", "control_maps"])).metadata["dagster/column_schema"].columns
    assert "From pose_library (18 columns)." in {c.name: c.description for c in columns}["control"]


@pytest.mark.parametrize("table", TABLES)
def test_a_number_is_given_with_its_unit(table: str) -> None:
    for column in columns_of(table):
        kind = column.type.value_type if pa.types.is_fixed_size_list(column.type) else column.type
        assert column.meaning.endswith("."), column.name
        if table != "check_results" and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            text = column.meaning.lower()
            assert any(unit.lower() in text for unit in UNITS), f"{column.name}: {text}"


def test_a_column_of_one_name_has_one_type_everywhere() -> None:
    types: dict[str, pa.DataType] = {}
    for table in TABLES:
        for column in columns_of(table):
            assert types.setdefault(column.name, column.type) == column.type, (table, column.name)


# Origins


@pytest.mark.parametrize("profile", [DEFAULT, DEPTH], ids=["mesh", "depth"])
@named
def test_origins_name_columns_that_the_stage_declares_to_read(stage: Stage, profile: Profile) -> None:
    as_run = stage.under(stage, profile)
    declared = {reads.table: {*reads.columns, "sample_id", *OWN} for reads in as_run.reads}
    carried = {"sample_id", "partition_key", "image_id", "person"}
    origins = stage.origins(profile)
    assert bool(origins) == bool(declared), "what reads tables has lineage"
    for column, found in origins.items():
        assert column in SCHEMAS[str(stage.table)].names
        assert len(set(found)) == len(found) > 0
        for table, name in found:
            assert name in declared[table] | carried, f"{column}: {table}.{name} is not read"


@named
def test_every_table_that_is_read_at_the_same_partition_is_the_origin_of_a_column(stage: Stage) -> None:
    read = {reads.table for reads in stage.reads if reads.groups is None}
    origins = {table for found in stage.origins(DEFAULT).values() for table, _ in found}
    shown_alone = {"raw_generations"} if stage.name == "dataset" else set()  # pictures of what is kept
    assert origins == read - shown_alone


@named
def test_lineage_names_the_assets_that_write_the_origins(stage: Stage) -> None:
    node = GRAPH.get(dg.AssetKey(stage.key.split("/")))
    shown = column_lineage(STAGES, stage, DEFAULT)
    origins = stage.origins(DEFAULT)
    assert set(shown.deps_by_column if shown else {}) == set(origins)
    for column, deps in shown.deps_by_column.items() if shown else ():
        assert deps and {dep.asset_key for dep in deps} <= node.parent_keys
        tables = {(STAGES[dep.asset_key.to_user_string()].table, dep.column_name) for dep in deps}
        assert tables == set(origins[column])


def test_lineage_within_a_round_names_that_round_s_assets() -> None:
    shown = column_lineage(STAGES, STAGES["hard2/filtered_dataset"], DEFAULT)
    assert shown is not None
    assert [dep.asset_key.to_user_string() for dep in shown.deps_by_column["keypoints_2d"]] == ["hard2/control_maps"]
    assert [dep.asset_key.to_user_string() for dep in shown.deps_by_column["caption"]] == ["hard2/hard_samples"]


def test_lineage_of_an_image_names_the_control_map_that_the_generator_was_given() -> None:
    for asset, image in (("hard/raw_generations", "image"), ("preference_pairs", "candidate_images")):
        for profile, given, other in ((DEFAULT, "control", "depth"), (DEPTH, "depth", "control")):
            found = STAGES[asset].origins(profile)[image]
            assert ("control_maps", given) in found and ("control_maps", other) not in found


# Real rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    return make_every_table(tmp_path_factory.mktemp("tables"))


def test_a_column_that_is_said_to_be_copied_holds_what_its_origin_holds(made: tuple[LanceStore, Profile]) -> None:
    store, profile = made
    compared = {stage.key: 0 for stage in graph(2)}
    for stage in graph(2):
        keys = of_groups(store.partitions(stage.table), stage.groups) if stage.table else []
        for column, found in stage.origins(profile).items():
            ((table, name), *more) = found
            if more or name != column or not keys:
                continue
            columns = list(dict.fromkeys(("sample_id", column)))
            rows = store.read(str(stage.table), keys, columns=columns)
            origin = store.read(table, keys, columns=columns).to_pylist()
            values = {row["sample_id"]: row[column] for row in origin}
            assert rows.column(column).to_pylist() == [values[i] for i in rows.column("sample_id").to_pylist()], column
            compared[stage.key] += 1
    assert sum(compared.values()) > 100
    without = {key for key, count in compared.items() if count == 0 and graph(2)[key].table}
    assert without == {"pose_library", "hard/hard_samples"}, "which read no table"


def test_figures_of_a_table_have_the_same_names_whatever_its_rows_are(made: tuple[LanceStore, Profile]) -> None:
    """Else Dagster's plots over partitions have holes."""
    store, profile = made
    for stage in graph(2):
        if stage.table is None:
            continue
        rows = store.read(stage.table, of_groups(store.partitions(stage.table), stage.groups))
        names = set(stage.figures(rows, profile))
        assert len(names) > 1 or stage.name in ("raw_generations", "dataset", "rendered_scenes"), stage.key
        assert names == set(stage.figures(rows.slice(0, 1), profile)), stage.key
        if stage.table not in ("pose_library", "control_maps"):
            assert names == set(stage.figures(rows.slice(0, 0), profile)), stage.key


def verdicts(reasons: list[str], oks: list[float | None]) -> dict[str, float]:
    rows = pa.table({"reason": reasons, "oks": pa.array(oks, pa.float32())})
    return dict(STAGES["hard/filtered_dataset"].figures(rows, DEFAULT))


def test_figures_of_verdicts_are_what_their_rows_say() -> None:
    found = verdicts(["kept", "low_oks", "kept", "crowded", "low_oks"], [0.9, 0.1, 0.8, 0.7, None])
    assert found["kept"] == 2 and found["pass_rate"] == 0.4
    assert {name: found[f"rejected_{name}"] for name in ("no_person", "crowded", "low_oks", "head_pose")} == {
        "no_person": 0, "crowded": 1, "low_oks": 2, "head_pose": 0,
    }  # fmt: skip
    assert found["rejected_low_oks_rate"] == 0.4
    assert found["mean_oks"] == pytest.approx(0.625) and found["mean_oks_of_kept"] == pytest.approx(0.85)


def test_what_could_not_be_measured_is_not_a_number_which_dagster_does_not_plot() -> None:
    found = verdicts(["no_person"], [None])
    assert math.isnan(found["mean_oks"]) and found["pass_rate"] == 0
    assert isinstance(plain(0.5), float)


@pytest.mark.parametrize(("most", "expected"), [(1, 0.5), (2, 0.25), (3, 0.0)])
def test_what_is_crowded_is_what_the_filter_rejects_as_crowded(most: int, expected: float) -> None:
    names = SCHEMAS["sample_scores"].names
    values = {"people": [0, 1, 2, 3], "oks": [0.5] * 4}
    rows = pa.table(
        {name: pa.array(values.get(name, [None] * 4), SCHEMAS["sample_scores"].field(name).type) for name in names}
    )
    profile = load_profile("pocket", {"curation.max_people": most})
    assert STAGES["base/sample_scores"].figures(rows, profile)["crowded_share"] == expected


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
