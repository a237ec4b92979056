"""Executors and the deployment examples, validated as far as that goes without their clusters."""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
import sqlalchemy
import yaml
from dagster._config import validate_config
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandler
from dagster._core.instance.config import dagster_instance_config_schema

from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.checks_here import CHECKS_TAG, ChecksHere, with_checks_here
from posedreamer_assets.defs.deployment import EXECUTORS, SECRETS, Deployment
from posedreamer_assets.defs.executors import executor, step_tags
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.render.gl import DEBIAN_PACKAGES
from posedreamer_assets.runtime.home import Home

# Libraries of clusters warn of their own futures while they are imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

DEFS = build(Deployment(), graph(3))
DEPLOY = Path(__file__).parents[2] / "deploy"
GPU_STAGES = ("preference_pairs", "dpo_checkpoint", "raw_generations", "sample_scores")
SERVICES = {"code": 4000, "webserver": 3000, "daemon": None}


def read(name: str) -> Any:
    text = (DEPLOY / name).read_text()
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def tags_of(key: str) -> dict[str, str]:
    """The tags that an executor sees on the step of an asset."""
    asset = DEFS.resolve_asset_graph().get(dg.AssetKey(key.split("/")))
    return dict(asset.assets_def.op.tags)


# Executors


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_can_be_chosen(name: str) -> None:
    if name in ("ray", "k8s", "ecs"):
        pytest.importorskip({"ray": "dagster_ray", "k8s": "dagster_k8s", "ecs": "dagster_aws"}[name])
    assert isinstance(executor(name), dg.ExecutorDefinition)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)
    with pytest.raises(ConfigError, match=r"pip install 'posedreamer-assets\[k8s\]'"):
        executor("k8s")


def test_gpu_steps_and_no_others_ask_for_a_gpu_and_share_the_pool() -> None:
    found = DEFS.resolve_asset_graph()
    for stage in graph(3):
        on_gpu = stage.name in GPU_STAGES
        tags = tags_of(stage.key)
        assert ("dagster-k8s/config" in tags, "ecs/container_overrides" in tags, "dagster-ray/config" in tags) == (
            (on_gpu,) * 3
        ), stage.key
        assert found.get(dg.AssetKey(stage.key.split("/"))).assets_def.op.pool == ("gpu" if on_gpu else None)


def test_gpus_per_step_follow_the_deployment() -> None:
    for gpus, expected in ((0, {}), (2, {"num_gpus": 2})):
        tags = step_tags("gpu", Deployment(gpus=gpus))
        assert json.loads(tags.get("dagster-ray/config", "{}")) == expected
    tags = step_tags("gpu", Deployment(gpus=2, ray_resource="accelerator_type:H100"))
    assert json.loads(tags["dagster-ray/config"]) == {"resources": {"accelerator_type:H100": 2}}
    assert step_tags(None, Deployment()) == {}


def test_a_step_that_only_paints_needs_no_gpu_where_actors_paint() -> None:
    for engine, asked in (("inline", True), ("processes", True), ("ray", False)):
        tags = [step_tags("gpu", Deployment(engine=engine), only_paints=paints) for paints in (True, False)]
        assert [bool(one) for one in tags] == [asked, True]
    assert [stage.key for stage in graph(2) if stage.only_paints] == ["base/raw_generations", "hard/raw_generations"]


def test_a_gpu_step_may_use_the_memory_that_weights_need() -> None:
    tags = step_tags("gpu", Deployment(gpu_memory_gib=64))
    resources = tags["dagster-k8s/config"]["container_config"]["resources"]
    assert (resources["limits"]["memory"], resources["requests"]["memory"]) == ("64Gi", "64Gi")
    assert tags["ecs/memory"] == "65536"
    assert "ecs/memory" not in step_tags("gpu", Deployment())


def test_settings_of_the_engine_are_the_operator_s_and_are_refused_where_they_are_none() -> None:
    given = {"POSEDREAMER_ENGINE": "processes", "POSEDREAMER_WORKERS": "4", "POSEDREAMER_IDLE_S": "30"}
    found = Deployment.from_environment(given)
    assert (found.engine, found.workers, found.chunk, found.idle_s) == ("processes", "4", 64, 30.0)
    assert EngineSettings.from_environment(given).workers_of(8) == 4
    assert EngineSettings().workers_of(0) == 1 and EngineSettings().workers_of(8) == 8
    wrong = {"ENGINE": "threads", "WORKERS": "0", "CHUNK": "0", "IDLE_S": "0", "GPUS": "some"}
    for name, value in wrong.items():
        with pytest.raises(ConfigError, match=f"POSEDREAMER_{name}={value}"):
            Deployment.from_environment({f"POSEDREAMER_{name}": value})


# Checks beside the run


@dataclass
class Cluster(StepHandler):
    """Notes what it is given."""

    given: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "Cluster"

    def launch_step(self, step_handler_context: Any) -> Iterator[dg.DagsterEvent]:
        self.given.append("launch")
        return iter(())

    def check_step_health(self, step_handler_context: Any) -> CheckStepHealthResult:
        self.given.append("health")
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: Any) -> Iterator[dg.DagsterEvent]:
        self.given.append("terminate")
        return iter(())


def context_of(key: str, command: list[str], tags: dict[str, str]) -> Any:
    """What a handler is given of a step."""
    context = mock.Mock(step_tags={key: tags})
    context.execute_step_args.step_keys_to_execute = [key]
    context.execute_step_args.get_command_args.return_value = command
    context.execute_step_args.get_command_env.return_value = [{"name": "GIVEN", "value": "3"}]
    return context


def test_checks_are_processes_beside_the_run_and_other_steps_go_to_the_cluster() -> None:
    cluster = Cluster()
    handler = ChecksHere(cluster)
    step = context_of("base__control_maps", [], {})
    list(handler.launch_step(step))
    assert handler.check_step_health(step).is_healthy
    list(handler.terminate_step(step))
    assert cluster.given == ["launch", "health", "terminate"]
    command = [
        sys.executable,
        "-c",
        "import os, time; code = int(os.environ['GIVEN']); time.sleep(99 * (code == 4)); exit(code)",
    ]
    checks = context_of("base_control_maps_checks", command, {CHECKS_TAG: "base/control_maps"})
    assert not handler.check_step_health(checks).is_healthy  # of a run that is no more
    with mock.patch.object(dg.DagsterEvent, "step_worker_starting"):
        list(handler.launch_step(checks))
        handler._checks["base_control_maps_checks"].wait()
        assert "ended with code 3" in (handler.check_step_health(checks).unhealthy_reason or "")
        checks.execute_step_args.get_command_env.return_value = [{"name": "GIVEN", "value": "4"}]
        list(handler.launch_step(checks))
    assert handler.check_step_health(checks).is_healthy
    list(handler.terminate_step(checks))
    assert handler._checks["base_control_maps_checks"].wait() < 0
    assert len(cluster.given) == 3


def test_executors_of_clusters_keep_checks_beside_the_run() -> None:
    made = StepDelegatingExecutor(Cluster(), RetryMode.DISABLED)
    definition = dg.ExecutorDefinition(name="cluster", executor_creation_fn=lambda context: made)
    create = with_checks_here(definition).executor_creation_fn
    assert create is not None and create(mock.Mock()) is made
    assert made._step_handler.name == "Cluster, checks beside the run"
    checks = [check for check in DEFS.asset_checks or () if isinstance(check, dg.AssetChecksDefinition)]
    assert checks and all(CHECKS_TAG in check.op.tags for check in checks)


# Kubernetes


def pod_of(key: str) -> dict[str, Any]:
    """The pod that the Kubernetes executor makes for a step, as the API server would get it."""
    pytest.importorskip("dagster_k8s")
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_user_defined_k8s_config
    from kubernetes.client import ApiClient

    config = DagsterK8sJobConfig(job_image="posedreamer:0.2.0", dagster_home="/opt/dagster")
    user = get_user_defined_k8s_config({k: v for k, v in tags_of(key).items() if k.startswith("dagster-k8s")})
    job = construct_dagster_k8s_job(config, ["dagster", "api", "execute_step"], "step", user)
    rendered: Any = ApiClient().sanitize_for_serialization(job)
    return rendered["spec"]["template"]["spec"]


def test_a_gpu_step_is_a_pod_with_a_gpu_limit() -> None:
    pod = pod_of("base/raw_generations")
    (container,) = pod["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (plain,) = pod_of("base/control_maps")["containers"]
    assert "nvidia.com/gpu" not in json.dumps(plain)


def test_helm_values_name_things_that_the_chart_and_the_launcher_know() -> None:
    pytest.importorskip("dagster_k8s")
    from dagster_k8s.job import USER_DEFINED_K8S_JOB_CONFIG_SCHEMA

    values = read("helm/values.yaml")
    known = {
        "dagster-user-deployments",
        "runLauncher",
        "dagsterDaemon",
        "additionalInstanceConfig",
        "postgresql",
        "telemetry",
    }
    assert set(values) <= known
    (code,) = values["dagster-user-deployments"]["deployments"]
    check_variables({item["name"]: item["value"] for item in code["env"]}, executor="k8s")
    assert [secret["name"] for secret in code["envSecrets"]] == ["posedreamer-aws", "posedreamer-huggingface"]
    places = {volume["name"]: volume["mountPath"] for volume in code["volumeMounts"]}
    check_models({item["name"]: item["value"] for item in code["env"]}, places["models"])
    (claim,) = [v["persistentVolumeClaim"]["claimName"] for v in code["volumes"] if v["name"] == "models"]
    assert read("helm/models.yaml")["metadata"]["name"] == claim
    mounted = {volume["name"] for volume in code["volumeMounts"]}
    assert mounted == {volume["name"] for volume in code["volumes"]}
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    user = {
        "job_spec_config": {
            "ttl_seconds_after_finished": launcher["runK8sConfig"]["jobSpecConfig"]["ttlSecondsAfterFinished"]
        }
    }
    assert validate_config(USER_DEFINED_K8S_JOB_CONFIG_SCHEMA, user).success
    check_instance(values["additionalInstanceConfig"])


# AWS


def test_task_definitions_are_what_ecs_accepts() -> None:
    session = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    shape = session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    for name, port in SERVICES.items():
        task = read(f"ecs/{name}.json")
        report = ParamValidator().validate(task, shape)
        assert not report.has_errors(), report.generate_report()
        (container,) = task["containerDefinitions"]
        assert [m["containerPort"] for m in container.get("portMappings", [])] == ([port] if port else [])
        variables = {item["name"]: item["value"] for item in container["environment"]}
        check_variables(variables, executor="ecs")
        launcher = read("ecs/dagster.yaml")["run_launcher"]["config"]
        assert launcher["container_name"] == container["name"]
        assert {s["name"] for s in container["secrets"]} == {"HF_TOKEN", *asked_for(read("ecs/dagster.yaml"))}
        (mount,), (volume,) = container["mountPoints"], task["volumes"]
        assert mount["sourceVolume"] == volume["name"]
        check_models(variables, mount["containerPath"])


def test_the_image_of_ecs_has_the_profile_where_the_home_is() -> None:
    dockerfile = (DEPLOY / "ecs" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE)
    container = read("ecs/code.json")["containerDefinitions"][0]
    images = {read(f"ecs/{name}.json")["containerDefinitions"][0]["image"] for name in SERVICES}
    assert images == {*re.findall(r"docker build -t (\S+) deploy/ecs", dockerfile)}, (
        "tasks run the image with the profile"
    )
    home = Home(Path(next(item["value"] for item in container["environment"] if item["name"] == "POSEDREAMER_HOME")))
    assert f"profile.yaml {home.profile_path}" in copied


@pytest.mark.parametrize("name", ["ray", "k8s", "ecs"])
def test_a_home_without_a_profile_is_refused_on_a_cluster(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    assert home.profile() == load_profile("pocket")
    monkeypatch.setenv("POSEDREAMER_EXECUTOR", name)
    with pytest.raises(ConfigError, match=f"POSEDREAMER_EXECUTOR={name} mount the profile there.*POSEDREAMER_PROFILE"):
        home.profile()
    monkeypatch.setenv("POSEDREAMER_PROFILE", "sdxl")
    assert home.profile() == load_profile("sdxl")
    home.prepare(load_profile("flux"))
    assert home.profile() == load_profile("flux")


def test_a_gpu_step_is_an_ecs_task_with_a_gpu() -> None:
    session = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    overrides = json.loads(tags_of("base/raw_generations")["ecs/container_overrides"])
    assert overrides == {"resourceRequirements": [{"type": "GPU", "value": "1"}]}
    shape = session.get_session().get_service_model("ecs").operation_model("RunTask").input_shape
    step = {"name": "posedreamer", "command": ["dagster"], **overrides}
    task = {"taskDefinition": "posedreamer-code", "overrides": {"containerOverrides": [step]}}
    report = ParamValidator().validate(
        task | read("ecs/dagster.yaml")["run_launcher"]["config"]["run_task_kwargs"], shape
    )
    assert not report.has_errors(), report.generate_report()


# Instances, compose


@pytest.mark.parametrize("name", ["compose/dagster.yaml", "ecs/dagster.yaml"])
def test_instance_settings_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(name)
    for variable in asked_for(settings):
        monkeypatch.setenv(variable, "x")
    check_instance(settings)
    for part in ("run_launcher", "compute_logs"):
        check_class(settings.get(part))


@pytest.mark.parametrize("name", ["compose/dagster.yaml", "ecs/dagster.yaml", "helm/values.yaml"])
def test_the_database_s_driver_is_installed(name: str) -> None:
    dagster_postgres = pytest.importorskip("dagster_postgres.utils")
    settings = read(name)
    scheme = (
        settings.get("postgresql", {}).get("postgresqlScheme")
        or settings["storage"]["postgres"]["postgres_db"]["scheme"]
    )
    url = dagster_postgres.get_conn_string("user", "word", "host", "name", scheme=scheme)
    assert sqlalchemy.create_engine(url).dialect.driver == "psycopg2"


def test_the_home_s_own_settings_are_valid(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    check_instance(yaml.safe_load((home.dagster / "dagster.yaml").read_text()))


def test_the_build_sees_what_it_needs_and_nothing_else() -> None:
    taken = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    links = {path.readlink().name for path in (DEPLOY.parent / "posedreamer_assets").iterdir() if path.is_symlink()}
    package = {"posedreamer_assets", *links, "pyproject.toml", project["readme"], *project["license-files"]}
    assert taken == package | {"constraints.txt"}


def test_image_setup_and_errors_name_the_same_packages_of_the_system() -> None:
    installed = re.findall(r"--no-install-recommends (.+) .$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    by_make = re.findall(r"^SYSTEM_PACKAGES := (.+)$", (DEPLOY.parent / "Makefile").read_text(), re.MULTILINE)
    assert installed == by_make == [f"{DEBIAN_PACKAGES} libgomp1"]


def test_compose_services_fit_together() -> None:
    compose = read("compose/docker-compose.yaml")
    services = compose["services"]
    assert set(services) == {"postgres", *SERVICES}
    (place,) = read("compose/workspace.yaml")["load_from"]
    assert place["grpc_server"]["host"] in services
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"EXPOSE {place['grpc_server']['port']}" in dockerfile
    check_variables({k: v for k, v in services["code"]["environment"].items() if "${" not in v}, executor="in_process")
    volumes = {mount.split(":")[0] for s in services.values() for mount in s.get("volumes", [])}
    assert {name for name in volumes if not name.startswith((".", "$"))} == set(compose["volumes"])
    for mount in {m for m in volumes if m.startswith("./")}:
        assert (DEPLOY / "compose" / mount).exists(), mount
    for name in SERVICES:
        given = {*services[name]["environment"]}
        assert asked_for(read("compose/dagster.yaml")) <= given
    assert set(read("compose/gpu.yaml")["services"]) <= set(services)
    extras = set(re.findall(r"EXTRAS: (\w+)", (DEPLOY / "compose" / "docker-compose.yaml").read_text()))
    assert extras == {"postgres"}


def check_variables(given: dict[str, str], *, executor: str) -> None:
    """Every POSEDREAMER_ variable is one that the project reads, and has a value that it takes."""
    ours = {name: value for name, value in given.items() if name.startswith("POSEDREAMER_")}
    others = {"POSEDREAMER_HOME", "POSEDREAMER_STORAGE"}
    assert not {*given} & {"HF_TOKEN", *SECRETS}
    known = {f"POSEDREAMER_{name.upper()}" for name in Deployment.__dataclass_fields__}
    assert set(ours) <= known | others
    assert Deployment.from_environment(ours).executor == executor


def check_models(given: dict[str, str], mount: str) -> None:
    """What is downloaded from a hub lies on the volume of models, and a GPU step may hold it in its memory."""
    assert Path(given["HF_HOME"]).is_relative_to(mount)
    assert int(given["POSEDREAMER_GPU_MEMORY_GIB"]) >= 64


def asked_for(settings: dict[str, Any]) -> set[str]:
    """Environment variables that instance settings read."""
    return set(re.findall(r"\"env\": \"(\w+)\"", json.dumps(settings)))


def check_instance(settings: dict[str, Any]) -> None:
    """Dagster's own schema of dagster.yaml takes the settings."""
    result = validate_config(dagster_instance_config_schema(), settings)
    assert result.success, result.errors


def check_class(part: dict[str, Any] | None) -> None:
    """The configuration of a launcher or log manager fits its class."""
    if part is None:
        return
    module = pytest.importorskip(part["module"])
    result = validate_config(getattr(module, part["class"]).config_type(), part["config"])
    assert result.success, result.errors
