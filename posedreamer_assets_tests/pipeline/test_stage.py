"""What a stage is given to read: what it declares, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa
import pytest

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.errors import StorageError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage
from posedreamer_assets.tables.fields import SCHEMAS


@dataclass
class Noting:
    """A reader that has every table, and notes what it is asked for."""

    asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        self.asked.append((table, tuple(keys), tuple(columns)))
        return pa.table({name: [] for name in columns})

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        return self.rows(table, ids, columns)

    def keys(self, table: str, groups: Sequence[str]) -> list[str]:
        return [f"{group}-0000" for group in groups]

    def contents(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        return {key: f"{table} of {key}" for key in keys}

    def checkpoint(self, key: str) -> Any:
        return f"checkpoint {key}"


STAGE = Stage(
    "base/made_up",
    "One row per test.",
    lambda inputs: Made(),
    "1",
    groups=("base",),
    reads=(Reads("control_maps", ("bbox", "depth")), Reads("sample_scores", ("oks",), ("base", "hard"))),
    checkpoints=("body_model",),
)


@pytest.fixture
def inputs() -> Inputs:
    return Inputs(STAGE, Profile(), Noting(), cast(Any, None), "base-0007")


def asked(inputs: Inputs) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return cast(Noting, inputs.reader).asked


def test_declared_rows_are_read_of_the_partition_or_of_all_of_the_groups(inputs: Inputs) -> None:
    inputs.rows("control_maps")
    inputs.rows("control_maps", ("depth",))
    inputs.rows("sample_scores")
    inputs.take("control_maps", ["base-0007/000001"], ("bbox",))
    assert asked(inputs) == [
        ("control_maps", ("base-0007",), ("sample_id", "bbox", "depth")),
        ("control_maps", ("base-0007",), ("sample_id", "depth")),
        ("sample_scores", ("base-0000", "hard-0000"), ("sample_id", "oks")),
        ("control_maps", ("base-0007/000001",), ("sample_id", "bbox")),
    ]
    assert inputs.contents("control_maps") == {"base-0007": "control_maps of base-0007"}
    assert inputs.checkpoint("body_model") == "checkpoint body_model"


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda i: i.rows("raw_generations"), "base/made_up reads table raw_generations, which it does not declare"),
        (lambda i: i.take("raw_generations", ["a"]), "reads table raw_generations, which it does not declare"),
        (lambda i: i.keys("pose_library"), "reads table pose_library, which it does not declare"),
        (lambda i: i.contents("pose_library"), "reads table pose_library, which it does not declare"),
        (lambda i: i.rows("control_maps", ("normals",)), "reads column normals of table control_maps, which it does"),
        (lambda i: i.rows("control_maps", ("bbox", "oks")), "reads column oks of table control_maps"),
        (lambda i: i.take("sample_scores", ["a"], ("people",)), "reads column people of table sample_scores"),
        (lambda i: i.checkpoint("dpo_checkpoint"), "reads checkpoint dpo_checkpoint, which it does not declare"),
    ],
)
def test_what_is_not_declared_cannot_be_read(inputs: Inputs, read: Any, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        read(inputs)
    assert asked(inputs) == []


def test_a_table_without_a_partition_that_is_up_to_date_is_named(inputs: Inputs) -> None:
    nothing = replace(STAGE, reads=(Reads("sample_scores", ("oks",), ()),))
    with pytest.raises(StorageError, match="base/made_up needs sample_scores, which has no up-to-date partition"):
        replace(inputs, stage=nothing).rows("sample_scores")


PROFILES: Mapping[str, Profile] = {
    "mesh": Profile(),
    "depth": load_profile("pocket", {"generator.control": "depth"}),
    "unaligned": load_profile("pocket", {"alignment.method": "none"}),
}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
@pytest.mark.parametrize("stage", graph(3).stages, ids=lambda stage: stage.key)
def test_a_stage_declares_columns_of_tables_that_earlier_stages_write(stage: Stage, profile: Profile) -> None:
    of = graph(3)
    earlier = of.stages[: of.stages.index(stage)]
    as_run = stage.under(stage, profile)
    for reads in as_run.reads:
        stored = {*SCHEMAS[reads.table].names, "row_digest"}
        assert set(reads.columns) <= stored, set(reads.columns) - stored
        for group in reads.groups or stage.groups:
            (writer,) = of.writers(reads.table, (group,))
            assert writer in earlier, f"{reads.table} of {group}"
    assert {*as_run.checkpoints} <= {one.key for one in earlier if not one.partitioned}
    assert set(as_run.checkpoints) <= set(stage.checkpoints), "what Dagster knows as dependencies"
    assert {reads.table for reads in as_run.reads} <= {reads.table for reads in stage.reads}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_no_two_stages_write_the_same_partitions(count: int) -> None:
    of = graph(count)
    written = [(stage.table, group) for stage in of if stage.table for group in stage.groups]
    assert len(written) == len(set(written))
    assert len({stage.key for stage in of}) == len(of.stages)
    assert len({stage.stored_as for stage in of if not stage.table}) == sum(not stage.table for stage in of)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_difficulty_model_reads_the_scores_of_all_rounds_before_its_own(number: int) -> None:
    names = ["base", "hard", "hard2", "hard3"]
    of = graph(4)
    model = of[f"{names[number]}/difficulty_model"]
    upstream = {stage.key for stage, _ in of.upstream(model)}
    assert {key for key in upstream if key.endswith("sample_scores")} == {
        f"{name}/sample_scores" for name in names[:number]
    }
    assert f"{names[number]}/difficulty_model" in of[f"{names[number]}/hard_samples"].checkpoints


def test_the_release_and_the_report_read_every_round() -> None:
    of = graph(4)
    for key, table in (("dataset_release", "dataset"), ("quality_report", "filtered_dataset")):
        read = {stage.key for stage, _ in of.upstream(of[key]) if stage.table == table}
        assert read == {f"{one.name}/{table}" for one in of.rounds}
