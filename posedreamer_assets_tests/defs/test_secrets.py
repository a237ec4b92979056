"""Credentials and the failure hook's URL stay in the environment: no file of a home, error, tag or job holds them."""

import json
import traceback
from pathlib import Path

import dagster as dg
import pytest

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.defs.deployment import Deployment, deployment
from posedreamer_assets.defs.executors import carried
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
}


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
