"""What starts runs by itself, and what happens when one fails: schedule, conditions, retries, notifications."""

import http.server
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.defs import retries
from posedreamer_assets.defs.automation import IMPORT, condition_of, flow_of, union_of
from posedreamer_assets.defs.deployment import Deployment, deployment
from posedreamer_assets.defs.growth import growth_schedule, keys_of_tick, next_keys
from posedreamer_assets.defs.notifications import tell
from posedreamer_assets.defs.resources import ProfileResource
from posedreamer_assets.errors import ConfigError, PoseFileError, StorageError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.runtime.home import Home


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch):
    """Sets variables of the deployment for one test."""

    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"POSEDREAMER_{name}", value)
        deployment.cache_clear()

    yield set_variables
    monkeypatch.undo()
    deployment.cache_clear()


# Deployment


def test_variables_are_read_by_their_kind() -> None:
    given = {
        "POSEDREAMER_EXECUTOR": "ray",
        "POSEDREAMER_AUTOMATION": "on",
        "POSEDREAMER_WATCH": "/a, s3://b/c",
        "POSEDREAMER_RETRY_WAIT_S": "0.5",
        "POSEDREAMER_GPUS": "",
    }
    assert Deployment.from_environment(given) == Deployment(
        executor="ray", automation=True, watch=("/a", "s3://b/c"), retry_wait_s=0.5
    )


@pytest.mark.parametrize(
    ("name", "value"), [("EXECUTOR", "slurm"), ("AUTOMATION", "maybe"), ("GPUS", "two"), ("PARTITIONS_PER_RUN", "0")]
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"POSEDREAMER_{name}={value}: expected"):
        Deployment.from_environment({f"POSEDREAMER_{name}": value})


# Growth


def test_growth_goes_on_after_what_is_known_and_planned() -> None:
    profile = load_profile("pocket", {"poses.batch_size": 100, "poses.batches": 2})
    assert next_keys(profile, [], 250) == ["procedural-0002", "procedural-0003", "procedural-0004"]
    known = ["procedural-0007", "align-procedural-0030", "mocap-0099"]
    assert next_keys(profile, known, 100) == ["procedural-0008"]


def test_a_tick_of_growth_that_is_evaluated_twice_adds_its_batches_once() -> None:
    profile = load_profile("pocket", {"poses.batch_size": 100, "poses.batches": 1})
    with dg.DagsterInstance.ephemeral() as instance:
        first = keys_of_tick(instance, profile, "2026-11-21", 200)
        instance.add_dynamic_partitions("pose_batches", first)
        assert keys_of_tick(instance, profile, "2026-11-21", 200) == first
        assert not set(keys_of_tick(instance, profile, "2026-11-22", 200)) & set(first)


def test_the_schedule_registers_the_batches_that_it_asks_for(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare(load_profile("pocket", {"poses.batch_size": 100, "poses.batches": 1}))
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        context = dg.build_schedule_context(
            instance,
            scheduled_execution_time=datetime(2026, 11, 21, tzinfo=UTC),
            resources={"profile": ProfileResource(home=str(tmp_path))},
        )
        with context:
            requests: Any = growth_schedule(Deployment(poses_per_day=200))(context)
        keys = ["procedural-0001", "procedural-0002"]
        assert [request.partition_key for request in requests] == keys
        assert [request.run_key for request in requests] == keys
        for group in ("pose_batches", "base_batches"):
            assert sorted(instance.get_dynamic_partitions(group)) == keys
        assert instance.get_dynamic_partitions("align_batches") == []


# Conditions


def test_batches_flow_and_models_wait() -> None:
    of = graph(3)
    found = {stage.key: condition_of(of, stage, Deployment()) for stage in of}
    waiting = {"pose_library", "dpo_checkpoint", "hard/difficulty_model", "hard2/difficulty_model", "quality_report"}
    assert {key for key, condition in found.items() if condition is None} == waiting
    assert {key for key, condition in found.items() if condition is IMPORT} == {"body_model", "control_checkpoint"}
    assert {key for key, condition in found.items() if condition == union_of(of)} == {"dataset_release"}
    assert {key for key, condition in found.items() if condition == flow_of(of)} == {
        stage.key for stage in of if stage.partitioned and stage.key != "pose_library"
    }


def test_checkpoints_and_reports_follow_a_cron_where_one_is_set() -> None:
    of = graph(3)
    for key in ("dpo_checkpoint", "hard/difficulty_model", "hard2/difficulty_model", "quality_report"):
        condition = condition_of(of, of[key], Deployment(refresh_cron="0 3 * * 0"))
        assert condition is not None and condition.get_label() == "on_cron(0 3 * * 0)"


# Retries


class Throttled(Exception):
    """As botocore's ClientError says it."""

    response: ClassVar = {"Error": {"Code": "SlowDown"}}


def chained(outer: Exception, inner: Exception) -> Exception:
    try:
        raise outer from inner
    except type(outer) as error:
        return error


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError("reset by peer"), True),
        (TimeoutError(), True),
        (OSError(116, "Stale file handle"), True),
        (OSError("LanceError(IO): Generic S3 error: Server returned 503 Slow Down"), True),
        (Throttled(), True),
        (chained(StorageError("could not write rows"), OSError("error sending request for url")), True),
        (FileNotFoundError(2, "No such file"), False),
        (PermissionError(13, "Permission denied"), False),
        (OSError(28, "No space left on device"), False),
        (StorageError("unknown table"), False),
        (PoseFileError("a.bvh", "nan", "frame 3"), False),
        (ValueError("timed out is only a word here"), False),
        (MemoryError(), False),
    ],
)
def test_only_faults_that_may_pass_are_transient(error: Exception, transient: bool) -> None:
    assert retries.is_transient(error) is transient


def test_waits_double_up_to_a_limit(deploy: Any) -> None:
    deploy(RETRY_WAIT_S="2")
    assert [retries.wait_s(n) for n in (0, 1, 2, 20)] == [2, 4, 8, retries.LONGEST_WAIT_S]


@pytest.mark.parametrize(("error", "attempts"), [(ConnectionError("lost"), 3), (ValueError("a bug"), 1)])
def test_a_step_is_tried_again_after_a_transient_fault_alone(deploy: Any, error: Exception, attempts: int) -> None:
    deploy(RETRY_WAIT_S="0.01", MAX_RETRIES="5")
    seen: list[int] = []

    @dg.asset
    def flaky(context: dg.AssetExecutionContext) -> None:
        with retries.retrying(context.retry_number):
            seen.append(context.retry_number)
            if len(seen) < 3:
                raise error

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([flaky], instance=instance, raise_on_error=False)
    assert seen == list(range(attempts))
    assert result.success is (attempts == 3)


# Notifications

TOLD: list[dict[str, Any]] = []


def test_a_failure_is_posted_to_a_url() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            TOLD.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        tell(f"http://127.0.0.1:{server.server_port}/hook", {"text": "run failed"})
        thread.join()
    assert TOLD.pop() == {"text": "run failed"}


def test_a_failure_is_given_to_a_function() -> None:
    tell("posedreamer_assets_tests.defs.hooks:remember", {"text": "run failed"})
    from posedreamer_assets_tests.defs.hooks import REMEMBERED

    assert REMEMBERED.pop() == {"text": "run failed"}


@pytest.mark.parametrize(
    ("hook", "word"), [("posedreamer_assets", "expected an http"), ("posedreamer_assets:nothing", "no such function")]
)
def test_a_hook_that_is_neither_is_an_error(hook: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        tell(hook, {})
