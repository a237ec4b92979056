"""The order in which a run takes its stages, and what ends it."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from posedreamer_assets.cli import run
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import AlignmentError, PoseDreamerError, RecipeError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.stage import Stage
from posedreamer_assets.runtime.home import Home

PROFILE = load_profile("pocket", {"students.study": "pocket"})


def job_that_fails(monkeypatch: pytest.MonkeyPatch, home: Path, at: str, error: PoseDreamerError) -> run._Job:
    def run_stage(job: run._Job, stage: Stage) -> run.StageTiming:
        if stage.key == at:
            raise error
        return run.StageTiming(stage.key)

    monkeypatch.setattr(run._Job, "run_stage", run_stage)
    return run._Job(Home(home), PROFILE, False, run.Silent(), ExitStack())


def test_a_recipe_without_samples_leaves_students_out_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = job_that_fails(monkeypatch, tmp_path, "training_manifests", RecipeError("0 samples fit it"))
    timings, left_out = job.run_stages(graph_of(PROFILE).stages)
    made = [timing.stage for timing in timings]
    assert left_out == "0 samples fit it"
    assert "quality_report" in made and "hmr_benchmark" not in made
    assert "benchmark_images" in made and "user/benchmark_images" not in made, "nobody has asked for such test sets"


def test_any_other_error_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = job_that_fails(monkeypatch, tmp_path, "dpo_checkpoint", AlignmentError("no pairs"))
    with pytest.raises(AlignmentError, match="no pairs"):
        job.run_stages(graph_of(PROFILE).stages)


def test_a_mistake_in_a_study_is_told_before_anything_is_made(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("recipes: {free: {use: [{table: raw_generations}]}}\n")
    with pytest.raises(RecipeError, match="free"):
        run.run_main_job(Home(tmp_path / "home"), load_profile("pocket", {"students.study": str(study)}))
    assert not (tmp_path / "home").exists()
