"""A step that cannot be made ends at once, in one line, whoever launched it."""

from pathlib import Path

import dagster as dg
import pytest

from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.local.runner import Runner, run_config
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.refusals import refuse_unmakeable
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.runtime.small import small_profile

DEFS = build(Deployment(), graph(2))
NO_POSES = {"poses.batches": 0, "poses.align_batches": 1}
NO_WEIGHTS = {"generator.backend": "sdxl", "generator.model_path": "/nowhere/at/all", "alignment.method": "none"}
NO_JUDGE = {"poses.align_batches": 1, "judge.kind": "onnx", "judge.path": "/nowhere/judge.onnx"}


@pytest.mark.parametrize(
    ("asset", "settings", "told"),
    [
        ("dpo_checkpoint", NO_POSES, "poses.batches is 0"),
        ("control_checkpoint", NO_WEIGHTS, "/nowhere/at/all"),
        ("dpo_checkpoint", NO_JUDGE, "judge.path: nothing at /nowhere/judge.onnx"),
    ],
)
def test_a_step_of_the_ui_is_refused_in_one_line_without_another_attempt(
    tmp_path: Path, asset: str, settings: dict[str, object], told: str
) -> None:
    home = Home(tmp_path)
    home.prepare(small_profile(**settings))
    with Runner(home) as runner:
        result = DEFS.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=runner.instance,
            asset_selection=[dg.AssetKey(asset)],
            run_config=run_config(home),
            raise_on_error=False,
        )
    kinds = [event.event_type_value for event in result.all_events]
    assert kinds.count("STEP_FAILURE") == 1
    assert not {"STEP_RESTARTED", "STEP_UP_FOR_RETRY"} & set(kinds)
    (failure,) = (e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    data = failure.step_failure_data.user_failure_data
    assert data is not None and data.description is not None
    assert data.description.startswith(f"{asset}: ") and told in data.description
    assert "\n" not in data.description


def test_the_command_line_gets_the_same_line_as_an_error_of_its_own(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare(small_profile(**NO_POSES))
    with Runner(home) as runner, pytest.raises(ConfigError, match=r"dpo_checkpoint: poses\.batches is 0"):
        runner.execute(runner.graph["dpo_checkpoint"], None)


def test_stages_need_their_own_models_alone() -> None:
    one = graph(2)
    refuse_unmakeable(small_profile(**NO_WEIGHTS), one["rendered_scenes"])
    refuse_unmakeable(small_profile(**NO_JUDGE), one["base/raw_generations"])


def test_stages_that_do_not_align_need_nothing_to_align_with() -> None:
    profile = small_profile(**NO_POSES)
    refuse_unmakeable(profile, graph(2)["rendered_scenes"])
    with pytest.raises(ConfigError):
        refuse_unmakeable(profile, graph(2)["dpo_checkpoint"])
