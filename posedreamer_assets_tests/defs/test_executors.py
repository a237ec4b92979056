"""Executors and the deployment examples, validated as far as that goes without their clusters."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema

from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import EXECUTORS, Deployment
from posedreamer_assets.defs.executors import executor, step_tags
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import graph
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


# Kubernetes


def pod_of(key: str) -> dict[str, Any]:
    """The pod that the Kubernetes executor makes for a step, as the API server would get it."""
    pytest.importorskip("dagster_k8s")
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_user_defined_k8s_config
    from kubernetes.client import ApiClient

    config = DagsterK8sJobConfig(job_image="posedreamer:0.1.0", dagster_home="/opt/dagster")
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
        assert {s["name"] for s in container["secrets"]} == asked_for(read("ecs/dagster.yaml"))


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


def test_the_home_s_own_settings_are_valid(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    check_instance(yaml.safe_load((home.dagster / "dagster.yaml").read_text()))


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
    extras = set(re.findall(r"EXTRAS: (\w+)", (DEPLOY / "compose" / "docker-compose.yaml").read_text()))
    assert extras == {"postgres"}


def check_variables(given: dict[str, str], *, executor: str) -> None:
    """Every POSEDREAMER_ variable is one that the project reads, and has a value that it takes."""
    ours = {name: value for name, value in given.items() if name.startswith("POSEDREAMER_")}
    others = {"POSEDREAMER_HOME", "POSEDREAMER_STORAGE"}
    known = {f"POSEDREAMER_{name.upper()}" for name in Deployment.__dataclass_fields__}
    assert set(ours) <= known | others
    assert Deployment.from_environment(ours).executor == executor


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
