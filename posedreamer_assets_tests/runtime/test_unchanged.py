"""What is unchanged is skipped: one changed pose file makes exactly what is below it again, down to dataset and report.

The whole graph runs, with a generator of random weights on images of 32 pixels, and with data checks that pass: what the
images show is not the question here.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.checks import Around, CheckOutcome, load_table_checks
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import run_main_job
from posedreamer_assets.pipeline.graph import ORDER, STAGES, checkpoint_digest
from posedreamer_assets.pipeline.pose_batches import recorded_batches
from posedreamer_assets.runtime import checking as check_runs
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.diffusion.conftest import SIDE, save_tiny_parts
from posedreamer_assets_tests.poses.sources.test_amass import smplx_arrays, standing

pytestmark = pytest.mark.slow

SMALL = {
    "image.width": SIDE,
    "image.height": SIDE,
    "poses.batch_size": 9,
    "poses.batches": 2,
    "poses.align_batches": 1,
    "poses.files_per_batch": 1,
    "poses.frame_stride_s": 0.01,
    "scenes.supersample": 1,
    "generator.steps": 1,
    "alignment.candidate_strengths": [1.0, 1.0],
    "alignment.min_gap": 0.0,
    "alignment.min_winner": 0.0,
    "alignment.val_share": 0.5,
    "alignment.test_share": 0.35,
    "alignment.test_draws": 1,
    "alignment.steps": 1,
    "alignment.eval_every": 1,
    "alignment.batch_size": 2,
    "curation.min_oks": 0.0,
    "curation.max_people": 99,
    "curation.max_head_error_deg": 180.0,
    "curriculum.pool_size": 9,
    "curriculum.hard_batch_size": 2,
    "curriculum.min_distance": 0.0,
    "curriculum.boost_rounds": 2,
    "curriculum.folds": 2,
    "quality.bootstrap": 2,
    "quality.neighbours": 1,
}
ROUND = ("control_maps", "raw_generations", "sample_scores", "filtered_dataset")


def profile(place: Path) -> Profile:
    return load_profile(
        "pocket",
        {**SMALL, "poses.source": str(place / "mocap"), "generator.model_path": str(place / "generator")},
    )


def write_clip(path: Path, seed: int) -> None:
    np.savez(path, **smplx_arrays(standing(seed)))


def passing(asset: str, rows: pa.Table, around: Around) -> list[CheckOutcome]:
    """Every check of an asset as passed."""
    return [CheckOutcome(c.name, True, c.severity, c.description, "", ()) for c in load_table_checks(asset).checks]


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
        patch.setattr(check_runs, "run_checks", passing)
        run_main_job(home, profile(place))
        yield home, place


def runs_of(home: Home) -> dict[str, set[str]]:
    """The runs that Dagster knows to have made each result: by asset, with its partition where it has some."""
    found: dict[str, set[str]] = {}
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        for stage in ORDER:
            records = instance.fetch_materializations(dg.AssetKey(stage.key.split("/")), limit=100).records
            for record in records:
                place = f"{stage.key}[{record.partition_key}]" if record.partition_key else stage.key
                found.setdefault(place, set()).add(record.run_id)
    return found


def contents(home: Home) -> dict[str, str]:
    """Content digest of every stored partition and checkpoint."""
    store = LanceStore(str(home.storage))
    found = {}
    for stage in ORDER:
        if stage.group is None:
            info = store.checkpoint(stage.table)
            assert info is not None
            found[stage.key] = checkpoint_digest(info)
    for table in [*(stage.table for stage in ORDER if stage.group), "dataset"]:
        found |= {f"{table}[{key}]": info.content_digest for key, info in store.partitions(table).items()}
    return found


def test_a_changed_pose_file_makes_its_descendants_again_and_nothing_else(made: tuple[Home, Path]) -> None:
    home, place = made
    batches = recorded_batches(LanceStore(str(home.storage)))
    (changed,) = batches["mocap-0001"].paths
    assert [key for key, batch in batches.items() if changed in batch.paths] == ["mocap-0001"]
    before, stored = runs_of(home), contents(home)
    write_clip(place / "mocap" / changed, seed=9)
    run_main_job(home, profile(place))
    after = runs_of(home)
    assert {name for name in after if after[name] != before.get(name)} == {
        "pose_library[mocap-0001]",
        "rendered_scenes[mocap-0001]",
        *(f"base/{asset}[mocap-0001]" for asset in ROUND),
        "difficulty_model",
        "hard_samples[hard-0000]",
        *(f"hard/{asset}[hard-0000]" for asset in ROUND),
        "dataset",
        "quality_report",
    }
    same = {name for name, digest in contents(home).items() if stored[name] == digest}
    above_or_beside = {name for name in stored if name.endswith(("[mocap-0000]", "[align-mocap-0000]"))}
    drawn_alike = {name for name in stored if "[hard-" in name}  # made again; the same poses may be the hardest
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
    assert {t.stage for t in summary.timings} == set(STAGES)
