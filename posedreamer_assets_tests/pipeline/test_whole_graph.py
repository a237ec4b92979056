"""The whole graph on the shipped pocket models, at the smallest size at which every stage has something to do."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from posedreamer_assets.checks import suite
from posedreamer_assets.cli.run import Summary, run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.pipeline import Stage, graph
from posedreamer_assets.pipeline.stage import POSES
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.keys import group_of, of_groups
from posedreamer_assets_tests.runtime.small import passing

SMALL = {
    "poses.batch_size": 8,
    "poses.batches": 2,
    "poses.align_batches": 1,
    "scenes.supersample": 1,
    "generator.steps": 2,
    "alignment.candidate_strengths": [1.0, 1.0],
    "alignment.val_share": 0.4,
    "alignment.test_share": 0.35,
    "alignment.min_gap": 0.0,
    "alignment.min_winner": 0.0,
    "alignment.steps": 2,
    "alignment.eval_every": 1,
    "alignment.batch_size": 2,
    "alignment.test_draws": 2,
    "curation.min_oks": 0.0,
    "curation.max_people": 9,
    "curation.max_head_error_deg": 180.0,
    "curriculum.pool_size": 24,
    "curriculum.rounds": [{"batches": 1, "size": 4}],
    "curriculum.min_distance": 0.1,
    "curriculum.boost_rounds": 10,
    "curriculum.folds": 2,
    "quality.bootstrap": 20,
}
STAGES = graph(2)
MADE_BEFORE_HARD_ROUNDS = STAGES.stages[: STAGES.stages.index(STAGES["hard/difficulty_model"])]


def profile(**settings: object) -> Profile:
    return load_profile("pocket", {**SMALL, **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Summary]:
    home = Home(tmp_path_factory.mktemp("whole"))
    return home, run_main_job(home, profile())


@pytest.mark.slow
def test_every_stage_is_made_and_reported(run: tuple[Home, Summary]) -> None:
    _, summary = run
    assert [t.stage for t in summary.timings] == [stage.key for stage in STAGES]
    assert all(t.made for t in summary.timings)
    figures = json.loads(Path(summary.summary_json).read_text())
    assert figures["images_made"] == 2 * 8 + 4
    assert figures["kept"] + sum(figures["rejected"].values()) == figures["images_made"]
    assert sum(g["kept"] for g in figures["kept_by_skin_tone"]["groups"].values()) == figures["kept"]
    assert {"oks_before", "oks_after", "error_reduction"} <= figures["dpo"].keys()
    assert figures["quality"]["fid_2048"]["value"] > 0
    page = Path(summary.report).read_text()
    assert page.count("data:image/") > 10
    assert "http://" not in page.replace("http://www.w3.org", "")


def latest(home: Home, stage: Stage) -> dict[str | None, dict[str, Any]]:
    """Metadata of the newest materialisation of each partition."""
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home.dagster))) as instance:
        asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(stage.key.split("/")))
        records = instance.fetch_materializations(asked, limit=100, ascending=True).records
    events = [record.asset_materialization for record in records]
    return {event.partition: dict(event.metadata) for event in events if event is not None}


def figures_in(metadata: dict[str, Any]) -> set[str]:
    numbers = (dg.IntMetadataValue, dg.FloatMetadataValue)
    return {name for name, value in metadata.items() if isinstance(value, numbers)}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES.stages, ids=lambda stage: stage.key)
def test_a_materialisation_says_where_its_result_lies_and_what_is_known_of_it(
    run: tuple[Home, Summary], stage: Stage
) -> None:
    home, _ = run
    for key, metadata in latest(home, stage).items():
        place = metadata["dagster/uri"].value
        assert Path(place).exists() and place.startswith(str(home.storage))
        assert Path(metadata["data_docs"].path or "").is_file()
        assert Path(metadata["report"].path or "").is_file()
        assert {"digest", "seconds"} <= set(metadata)
        if stage.table is not None:
            rows = LanceStore(str(home.storage)).read(stage.table, [key] if key else None, ["sample_id"]).num_rows
            assert metadata["dagster/row_count"].value == rows
            assert f"{stage.table} {key}" in metadata["gallery"].value
            assert str(metadata["thumbnails"].value).startswith("![samples](data:image/jpeg;base64,")
            assert ("dagster/column_lineage" in metadata) == bool(stage.origins(profile()))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.partitioned], ids=lambda stage: stage.key)
def test_figures_have_the_same_names_in_every_partition(run: tuple[Home, Summary], stage: Stage) -> None:
    """Else Dagster's plots over partitions have holes. What could not be measured is left out."""
    home, _ = run
    found = {key: figures_in(metadata) for key, metadata in latest(home, stage).items()}
    everywhere = set.intersection(*found.values())
    assert {"dagster/row_count", "seconds", "bytes"} <= everywhere
    sparse = ("mean_oks_of_kept", "mean_head_error_deg", "mean_top_colour_error")
    assert all(not names - everywhere - {*sparse} for names in found.values())
    assert len(everywhere) > 5 or stage.name in ("raw_generations", "rendered_scenes", "dataset")


@pytest.mark.slow
def test_a_second_run_makes_nothing(run: tuple[Home, Summary]) -> None:
    home, _ = run
    again = run_main_job(home, profile())
    assert not any(t.made for t in again.timings)


@pytest.mark.slow
def test_another_order_and_other_batch_sizes_give_identical_images_and_rows(
    run: tuple[Home, Summary], tmp_path: Path
) -> None:
    """Everything up to the verdicts, partitions backwards; the adapter is made again too."""
    home, _ = run
    other = Home(tmp_path)
    other.prepare(profile(**{"generator.batch_size": 3, "ranker.batch_size": 5, "judge.batch_size": 7}))
    with Runner(other) as runner, mock.patch.object(suite, "run_checks", passing):  # those of the first run looked
        for stage in MADE_BEFORE_HARD_ROUNDS:
            for key in reversed(keys_of(home, stage)) if stage.partitioned else [None]:
                runner.execute(stage, key)
    for stage in MADE_BEFORE_HARD_ROUNDS:
        if stage.table:
            assert digests(other, stage.table) == of_those(home, stage.table), stage.key


def keys_of(home: Home, stage: Stage) -> list[str]:
    return of_groups(digests(home, str(stage.table)), stage.groups)


def of_those(home: Home, table: str) -> dict[str, str]:
    """Of the partitions that are made before hard rounds."""
    return {key: found for key, found in digests(home, table).items() if group_of(key) in POSES}


def digests(home: Home, table: str) -> dict[str, str]:
    return {key: info.content_digest for key, info in LanceStore(str(home.storage)).partitions(table).items()}
