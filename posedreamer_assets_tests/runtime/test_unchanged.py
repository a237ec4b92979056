"""What is unchanged is skipped: one changed pose file makes exactly what is below it again, down to dataset and report.

The whole graph runs with three rounds, with a generator of random weights on images of 32 pixels, and with data checks that
pass: what the images show is not the question here.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.pose_batches import recorded_batches
from posedreamer_assets.runtime.freshness import Snapshot, checkpoint_digest
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.upkeep import remove_superseded
from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets_tests.diffusion.conftest import save_tiny_parts
from posedreamer_assets_tests.poses.sources.test_amass import smplx_arrays, standing
from posedreamer_assets_tests.runtime.small import SMALL, passing

pytestmark = pytest.mark.slow

ROUND = ("control_maps", "raw_generations", "sample_scores", "filtered_dataset", "dataset")
HARD = ("hard", "hard2")
STAGES = graph(3)


def profile(place: Path, **settings: object) -> Profile:
    places = {"poses.source": str(place / "mocap"), "generator.model_path": str(place / "generator")}
    return load_profile("pocket", {**SMALL, **places, **settings})


def write_clip(path: Path, seed: int) -> None:
    np.savez(path, **smplx_arrays(standing(seed)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Path]]:
    """A home in which everything is made, and the folder with its poses and its generator."""
    place = tmp_path_factory.mktemp("unchanged")
    (place / "mocap").mkdir()
    for seed in range(4):
        write_clip(place / "mocap" / f"clip{seed}.npz", seed)
    save_tiny_parts(place / "generator")
    home = Home(place / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "run_checks", passing)
        run_main_job(home, profile(place))
        yield home, place


def runs_of(home: Home) -> dict[str, set[str]]:
    """The runs that Dagster knows to have made each result: by asset, with its partition where it has some."""
    found: dict[str, set[str]] = {}
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        for stage in STAGES:
            records = instance.fetch_materializations(dg.AssetKey(stage.key.split("/")), limit=100).records
            for record in records:
                place = f"{stage.key}[{record.partition_key}]" if record.partition_key else stage.key
                found.setdefault(place, set()).add(record.run_id)
    return found


def contents(home: Home) -> dict[str, str]:
    """Content digest of every stored partition and checkpoint."""
    store = LanceStore(str(home.storage))
    found = {}
    for stage in STAGES:
        if not stage.partitioned:
            info = store.checkpoint(stage.checkpoint_name)
            assert info is not None
            found[stage.key] = checkpoint_digest(info)
    for table in {stage.table for stage in STAGES if stage.table}:
        found |= {f"{table}[{key}]": info.content_digest for key, info in store.partitions(table).items()}
    return found


# Three rounds


def test_every_round_is_made_of_its_own_poses(made: tuple[Home, Path]) -> None:
    home, _ = made
    store = LanceStore(str(home.storage))
    for table in ("pose_library", "control_maps", *ROUND[1:]):
        keys = {key: info.rows for key, info in store.partitions(table).items() if not key.startswith("align")}
        assert keys == {"mocap-0000": 9, "mocap-0001": 9, "hard-0000": 2, "hard2-0000": 2}, table
    rows = store.read("dataset", columns=["sample_id", "round"]).to_pylist()
    assert {row["sample_id"].split("/")[0]: row["round"] for row in rows} == {
        "mocap-0000": "base", "mocap-0001": "base", "hard-0000": "hard", "hard2-0000": "hard2",
    }  # fmt: skip
    release = store.checkpoint("dataset_release")
    assert release is not None and release.metrics["rounds"] == {"base": 18, "hard": 2, "hard2": 2}


def test_a_difficulty_model_has_learnt_from_the_scores_of_all_rounds_before_it(
    made: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from posedreamer_assets.curriculum import difficulty
    from posedreamer_assets.runtime.make import make

    home, place = made
    store, fitted = LanceStore(str(home.storage)), {}
    fit = difficulty.fit_difficulty

    def noted(features: np.ndarray, target: np.ndarray, *more: object) -> object:
        fitted[name] = np.sort(target)
        return fit(features, target, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(difficulty, "fit_difficulty", noted)
    oks = {row["sample_id"]: row["oks"] for row in store.read("sample_scores").to_pylist()}
    for name, keys in (("hard", ("mocap",)), ("hard2", ("mocap", "hard-"))):
        make(Snapshot(profile(place), store), STAGES[f"{name}/difficulty_model"], force=True)
        expected = [value for sample, value in oks.items() if sample.startswith(keys) and value is not None]
        assert fitted[name] == pytest.approx(np.sort(expected)), name


def test_upkeep_keeps_what_only_a_third_round_uses(made: tuple[Home, Path]) -> None:
    home, _ = made
    store = LanceStore(str(home.storage))
    adapter = store.checkpoint("dpo_checkpoint")
    assert adapter is not None
    place = adapter.path
    rows = store.read("raw_generations", ["hard2-0000"]).drop_columns(["row_digest", "input_digest"])
    assert set(rows.column("adapter").to_pylist()) == {adapter.digest}
    other = LanceStore(str(home.path / "copy"))

    def trained(value: str) -> str:
        def write(folder: Path) -> dict[str, str]:
            (folder / "adapter.txt").write_text(value)
            return {"method": value}

        return other.write_checkpoint("dpo_checkpoint", value, write, input_digest=value).place

    used, unused, newest = (trained(name) for name in ("used", "unused", "newest"))
    column = rows.schema.get_field_index("adapter")
    named = rows.set_column(column, rows.schema.field(column), pa.array(["used"] * rows.num_rows))
    other.replace_partition("raw_generations", "hard2-0000", named, input_digest="x")
    removed = remove_superseded(other, Plan(keep=timedelta(0), checkpoints=0))
    assert removed.folders == (unused,)
    assert (home.path / "copy" / used).is_dir() and (home.path / "copy" / newest).is_dir() and place.is_dir()


# One changed file


def test_a_changed_pose_file_makes_its_descendants_again_and_nothing_else(made: tuple[Home, Path]) -> None:
    home, place = made
    batches = recorded_batches(LanceStore(str(home.storage)))
    (changed,) = batches["mocap-0001"].paths
    assert [key for key, batch in batches.items() if changed in batch.paths] == ["mocap-0001"]
    before, stored = runs_of(home), contents(home)
    write_clip(place / "mocap" / changed, seed=9)
    run_main_job(home, profile(place))
    after, now = runs_of(home), contents(home)
    other_verdicts = [name for name in HARD if now[key := f"filtered_dataset[{name}-0000]"] != stored[key]]
    assert {name for name in after if after[name] != before.get(name)} == {
        "pose_library[mocap-0001]",
        "rendered_scenes[mocap-0001]",
        *(f"base/{asset}[mocap-0001]" for asset in ROUND),
        *(f"{name}/difficulty_model" for name in HARD),
        *(f"{name}/hard_samples[{name}-0000]" for name in HARD),
        *(f"{name}/{asset}[{name}-0000]" for name in HARD for asset in ROUND if asset != "dataset"),
        *(f"{name}/dataset[{name}-0000]" for name in other_verdicts),
        "dataset_release",
        "quality_report",
    }
    same = {name for name, digest in now.items() if stored[name] == digest}
    above_or_beside = {name for name in stored if name.endswith(("[mocap-0000]", "[align-mocap-0000]"))}
    drawn_alike = {name for name in stored if "[hard" in name}  # made again; the same poses may be the hardest
    assert same - drawn_alike == above_or_beside | {"body_model", "control_checkpoint", "dpo_checkpoint"}
    assert "dataset[mocap-0000]" in same


def test_files_that_were_only_written_again_make_nothing(made: tuple[Home, Path]) -> None:
    home, place = made
    before = runs_of(home)
    for path in (place / "mocap").iterdir():
        path.write_bytes(path.read_bytes())
    summary = run_main_job(home, profile(place))
    assert [t.stage for t in summary.timings if t.made] == []
    assert runs_of(home) == before
    assert [t.stage for t in summary.timings] == [stage.key for stage in STAGES]


def test_a_round_without_any_kept_image_is_up_to_date(made: tuple[Home, Path]) -> None:
    home, place = made
    strict = profile(place, **{"curation.min_oks": 1.5})
    chosen = [*(f"{name}/{asset}" for name in ("base", *HARD) for asset in ROUND[-2:]), "dataset_release"]
    run_main_job(home, strict, only=chosen)
    snapshot = Snapshot(strict, LanceStore(str(home.storage)))
    for name in ("base", *HARD):
        stage = STAGES[f"{name}/dataset"]
        assert {key: one.rows for key, one in snapshot.partitions(stage).items()} == dict.fromkeys(
            snapshot.partitions(STAGES[f"{name}/filtered_dataset"]), 0
        )
        assert all(snapshot.is_current(stage, key) for key in snapshot.partitions(stage))
    assert not any(t.made for t in run_main_job(home, strict, only=chosen).timings), "it is not made for ever"
    release = snapshot.store.checkpoint("dataset_release")
    assert release is not None and release.metrics["kept"] == 0
    run_main_job(home, profile(place))
    assert (
        Snapshot(profile(place), LanceStore(str(home.storage))).partitions(STAGES["hard2/dataset"])["hard2-0000"].rows
        == 2
    )
