"""Credentials and the failure hook's URL stay in the environment: no file of a home, error, tag or job holds them."""

import base64
import json
import sys
import traceback
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc.types import ExecuteStepArgs

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.defs.deployment import Deployment, deployment
from posedreamer_assets.defs.executors import carried, executor, step_tags
from posedreamer_assets.defs.notifications import failure_sensor, tell
from posedreamer_assets.errors import CheckError, ConfigError
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.runtime.small import KEY, POSES, captions_lost, small_profile

WORD = "s3cr3tw0rd"
VARIABLES = {
    "POSEDREAMER_FAILURE_HOOK": f"http://127.0.0.1:9/services/{WORD}",
    "AWS_SECRET_ACCESS_KEY": WORD,
    "AWS_SESSION_TOKEN": f"token-{WORD}",
    "HF_TOKEN": f"hf_{WORD}",
    "DAGSTER_CLOUD_API_TOKEN": WORD,
    "POSTGRES_PASSWORD": WORD,
}
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch):
    """All of them in the environment."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    deployment.cache_clear()
    yield
    monkeypatch.undo()
    deployment.cache_clear()


def _said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        (f"http://127.0.0.1:9/{WORD}", ConnectionError),
        (f"http://127.0.0.1:9/ {WORD}", ConnectionError),
        (f"https:///{WORD}", ConnectionError),
        (f"http://[{WORD}/", ConnectionError),
        (f"HTTPS://hooks.example.com/{WORD}", ConfigError),
        (f"hooks.example.com/{WORD}", ConfigError),
    ],
)
def test_no_error_of_a_hook_names_its_url(hook: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="POSEDREAMER_FAILURE_HOOK") as error:
        tell(hook, {"text": "x"})
    assert WORD not in _said(error.value)


def test_a_deployment_is_shown_without_its_hook(secrets: None) -> None:
    assert deployment().failure_hook == VARIABLES["POSEDREAMER_FAILURE_HOOK"]
    assert WORD not in repr(deployment())


def test_ray_jobs_are_given_no_secret() -> None:
    places = {"POSEDREAMER_STORAGE": "s3://bucket/root", "DAGSTER_HOME": "/home/dagster"}
    assert carried({**VARIABLES, **places, "PATH": "/bin"}) == ["DAGSTER_HOME", "POSEDREAMER_STORAGE"]


def step_arguments(folder: Path, settings: str) -> ExecuteStepArgs:
    """What an executor is given to start a step of a run on an instance of deploy/."""
    (folder / "dagster.yaml").write_text((DEPLOY / settings / "dagster.yaml").read_text())
    repository = RepositoryPythonOrigin(
        sys.executable, ModuleCodePointer("posedreamer_assets.definitions", "defs"), container_image="posedreamer"
    )
    origin = JobPythonOrigin(job_name="__ASSET_JOB", repository_origin=repository)
    return ExecuteStepArgs(
        job_origin=origin,
        run_id="8776d09a-e893-4b19-9b49-09f501d326d3",
        step_keys_to_execute=["base__raw_generations"],
        instance_ref=InstanceRef.from_dir(str(folder)),
    )


def unpacked(value: str) -> str:
    """The text of a variable, also of one that Dagster compresses."""
    try:
        return zlib.decompress(base64.b64decode(value, validate=True)).decode()
    except (ValueError, zlib.error):
        return value


@pytest.mark.parametrize("settings", ["compose", "ecs"])
def test_steps_elsewhere_are_told_where_the_database_s_password_is_and_not_which(
    secrets: None, tmp_path: Path, settings: str
) -> None:
    (given,) = step_arguments(tmp_path, settings).get_command_env()
    assert "POSTGRES_PASSWORD" in unpacked(given["value"])
    assert WORD not in unpacked(given["value"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_secret_is_in_what_ray_shows_of_a_step(
    secrets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor as the project configures it, with a job server that only notes what it is given."""
    pytest.importorskip("dagster_ray", reason="dagster-ray is not installed: pip install 'posedreamer-assets[ray]'")
    monkeypatch.setenv("POSEDREAMER_STORAGE", "s3://bucket/root")
    server = mock.Mock()
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda *_, **__: server)
    ray = executor("ray")
    config: Any = ray.apply_config_mapping({"config": {}}).value
    assert ray.executor_creation_fn is not None
    made = ray.executor_creation_fn(mock.Mock(executor_config=config["config"]))
    assert isinstance(made, StepDelegatingExecutor)
    step = mock.Mock(step_tags={"base__raw_generations": step_tags("gpu", Deployment())})
    step.execute_step_args = step_arguments(tmp_path, "compose")
    step.dagster_run.job_name = "__ASSET_JOB"
    with mock.patch.object(dg.DagsterEvent, "step_worker_starting"):
        list(made._step_handler.launch_step(step))
    job = server.submit_job.call_args.kwargs
    variables = job["runtime_env"]["env_vars"]
    assert variables["POSEDREAMER_STORAGE"] == "s3://bucket/root"
    assert job["entrypoint_num_gpus"] == 1
    shown = {name: unpacked(value) for name, value in variables.items()}
    assert any("instance_ref" in value for value in shown.values()), "Dagster's own arguments were read"
    assert not {*VARIABLES} & {*shown}
    assert WORD not in str(shown) + str({name: value for name, value in job.items() if name != "runtime_env"})


def test_a_run_that_fails_leaves_no_secret_in_its_home(
    secrets: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    profile = small_profile()
    with captions_lost(KEY), pytest.raises(CheckError) as error:
        run_main_job(home, profile, only=("body_model", POSES))
    run_main_job(home, profile, only=("body_model", POSES))
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        (failed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        (record,) = instance.get_records_for_run(failed.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
        event = record.event_log_entry.dagster_event
        assert event is not None
        context = dg.build_run_status_sensor_context("run_failures", event, instance, failed).for_run_failure()
        with pytest.raises(Exception, match="did not take a message") as told:
            failure_sensor(Deployment(failure_hook=VARIABLES["POSEDREAMER_FAILURE_HOOK"]))(context)
    assert WORD not in _said(error.value) + _said(told.value)
    assert WORD not in json.dumps([failed.tags, failed.run_config], default=str)
    out, err = capfd.readouterr()
    assert WORD not in out + err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files), "Dagster's event log is among them"
    assert [path for path in files if WORD.encode() in path.read_bytes()] == []
