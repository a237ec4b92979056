"""deploy/helm on a cluster that is fake but for its processes: a run as the UI launches it, its steps as pods, and their end."""

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.defs.fake_cluster import NAMESPACE, FakeCluster, Pod
from posedreamer_assets_tests.runtime.test_side_by_side import LAUNCH, TERMINATE

pytest.importorskip("dagster_k8s", reason="dagster-k8s is not installed: pip install 'posedreamer-assets[k8s]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

DEPLOY = Path(__file__).parents[2] / "deploy"
LOCATION, KEY = "posedreamer-assets", "procedural-0000"
PATIENCE_S = 600
DAGSTER_HOME = "/opt/dagster/dagster_home"  # the chart's
TOKEN, AWS_KEY, PASSWORD = "hf_s3cr3t", "aws-s3cr3t", "postgres-s3cr3t"


def profile(**settings: object) -> Profile:
    sizes = {"poses.batch_size": 3, "poses.batches": 1, "poses.align_batches": 0, "alignment.method": "none"}
    return load_profile("pocket", {**sizes, **settings})


def values(storage: Path) -> dict[str, Any]:
    """deploy/helm/values.yaml with a store on this computer."""
    found = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
    (code,) = found["dagster-user-deployments"]["deployments"]
    for variable in code["env"]:
        if variable["name"] == "POSEDREAMER_STORAGE":
            variable["value"] = str(storage)
    return found


def container_context(code: dict[str, Any]) -> dict[str, Any]:
    """What the chart tells Dagster of a code location's pods (dagsterUserDeployments.k8sContainerContext)."""
    context = {
        "image_pull_policy": code["image"]["pullPolicy"],
        "env_config_maps": [f"dagster-{code['name']}-user-env"],
        "env_secrets": [secret["name"] for secret in code["envSecrets"]],
        "volume_mounts": code["volumeMounts"],
        "volumes": code["volumes"],
        "namespace": NAMESPACE,
        "service_account_name": "dagster-user-deployments",
        "env": code["env"],
        "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
    }
    return {"k8s": context | ({"resources": code["resources"]} if "resources" in code else {})}


def code_location(code: dict[str, Any], port: int) -> dict[str, Any]:
    """The code location's pod as the chart's deployment-user.yaml makes it, but for the port and the address."""
    assert code["includeConfigInLaunchedRuns"]["enabled"]
    context = container_context(code)
    password = {"name": "dagster-postgresql-secret", "key": "postgresql-password"}
    container = {
        "name": "dagster-user-deployments",
        "args": ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port), *code["dagsterApiGrpcArgs"]],
        "env": [
            {"name": "DAGSTER_CURRENT_IMAGE", "value": f"{code['image']['repository']}:{code['image']['tag']}"},
            {"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": password}},
            {"name": "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT", "value": json.dumps(context)},
            *code["env"],
        ],
        "envFrom": [
            {"configMapRef": {"name": "dagster-user-deployments-shared-env"}},
            {"configMapRef": {"name": f"dagster-{code['name']}-user-env"}},
            *({"secretRef": secret} for secret in code["envSecrets"]),
        ],
        "resources": code["resources"],
        "volumeMounts": code["volumeMounts"],
    }
    return {"containers": [container], "volumes": code["volumes"]}


def instance_settings(found: dict[str, Any], cluster: FakeCluster) -> dict[str, Any]:
    """The instance that the chart makes of the values, with SQLite, no daemon, and the cluster's address from a file."""
    launcher = found["runLauncher"]["config"]["k8sRunLauncher"]
    config = {
        "load_incluster_config": False,
        "kubeconfig_file": str(cluster.kubeconfig()),
        "job_namespace": NAMESPACE,
        "image_pull_policy": launcher["imagePullPolicy"],
        "service_account_name": "dagster",
        "dagster_home": DAGSTER_HOME,
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": "dagster-postgresql-secret",
        **({"resources": launcher["resources"]} if "resources" in launcher else {}),
        "run_k8s_config": {
            "job_spec_config": {
                "ttl_seconds_after_finished": launcher["runK8sConfig"]["jobSpecConfig"]["ttlSecondsAfterFinished"]
            }
        },
    }
    return {
        "storage": {"sqlite": {"base_dir": str(cluster.folder / "database")}},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": config},
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
        "telemetry": {"enabled": False},
        **found["additionalInstanceConfig"],
    }


@dataclass
class Deployed:
    """Dagster's web server, and the cluster behind it."""

    cluster: FakeCluster
    process: WorkspaceProcessContext
    home: Home  # of this computer, on the same store

    def ask(self, query: str, variables: dict[str, Any]) -> Any:
        answer = execute_dagster_graphql(self.process.create_request_context(), query, variables)
        assert answer.errors is None, answer.errors
        (result,) = answer.data.values()
        return result

    def launch(self, *assets: str) -> str:
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }
        tags = [{"key": "dagster/partition", "value": KEY}]
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        launched = self.ask(LAUNCH, {"params": params})
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def wait(self, run_id: str) -> dg.DagsterRunStatus:
        """Until the run has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            run = self.process.instance.get_run_by_id(run_id)
            assert run is not None
            if run.is_finished:
                return run.status
            assert all(pod.node for pod in self.pods(run_id)), "a pod that no node takes"
            time.sleep(0.2)
        raise AssertionError(f"run {run_id} did not end")

    def wait_for_step(self, run_id: str) -> None:
        """Until a step is at work."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START):
                # Dagster's exception is lost where it is raised in a destructor: those of its own log run at the start.
                time.sleep(1.0)
                return
            time.sleep(0.1)
        raise AssertionError(f"no step was started: {self.said(run_id)}")

    def codes(self, run_id: str) -> list[int | None]:
        """With which codes the processes of a run's pods end."""
        return [pod.process.wait(60) if pod.process else None for pod in self.pods(run_id)]

    def said(self, run_id: str) -> str:
        """What the pods of a run printed."""
        return "\n".join(f"{pod.name}: {pod.log[-3000:]}" for pod in self.pods(run_id))

    def pods(self, run_id: str) -> list[Pod]:
        """All pods that a run had, its own first."""
        return [pod for pod in self.cluster.seen if pod.labels.get("dagster/run-id") == run_id]

    def steps(self, run_id: str) -> dict[str, Pod]:
        """Pods by the step that they made."""
        return {pod.labels["dagster/op"]: pod for pod in self.pods(run_id) if "dagster/op" in pod.labels}


def image_environment() -> dict[str, str]:
    """What deploy/Dockerfile sets."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return dict(pair.split("=") for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE) for pair in line.split())


def wait_for_port(pod: Pod, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert pod.phase == "Running", pod.log[-3000:]
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the code location does not listen")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("kubernetes")
    home = Home(folder / "home")
    run_main_job(home, profile(), only=("body_model", "control_checkpoint", "dpo_checkpoint", "pose_library"))
    found = values(home.storage)
    (code,) = found["dagster-user-deployments"]["deployments"]
    with FakeCluster(folder, image_environment()) as cluster:
        cluster.config_maps = {
            "posedreamer-profile": {"profile.yaml": home.profile_path.read_text()},
            "dagster-user-deployments-shared-env": {"DAGSTER_HOME": DAGSTER_HOME},
            f"dagster-{code['name']}-user-env": {},
        }
        cluster.secrets = {
            "posedreamer-aws": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": AWS_KEY},
            "posedreamer-huggingface": {"HF_TOKEN": TOKEN},
            "dagster-postgresql-secret": {"postgresql-password": PASSWORD},
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pod = cluster.start(f"dagster-{code['name']}", code_location(code, port), {})
        wait_for_port(pod, port)
        instance_home = folder / "instance"
        instance_home.mkdir()
        (instance_home / "dagster.yaml").write_text(yaml.safe_dump(instance_settings(found, cluster)))
        target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name=LOCATION)
        with dg.DagsterInstance.from_config(str(instance_home)) as instance:
            register(instance, graph_of(profile()), [KEY])
            with WorkspaceProcessContext(instance, target) as process:
                yield Deployed(cluster, process, home)


def test_a_run_and_its_steps_are_pods_with_profile_gpu_models_and_secrets(deployed: Deployed) -> None:
    run_id = deployed.launch("base/control_maps", "base/raw_generations")
    assert deployed.wait(run_id) == dg.DagsterRunStatus.SUCCESS, deployed.said(run_id)
    steps = deployed.steps(run_id)
    assert set(steps) == {"base__control_maps", "base__raw_generations"}, "checks are no pods"
    assert deployed.codes(run_id) == [0, 0, 0]
    # Rows are those of the config map's profile, as this computer's own run finds them.
    snapshot = Snapshot(profile(), deployed.home.store())
    assert snapshot.is_current(snapshot.graph["base/raw_generations"], KEY)
    assert deployed.home.store().read("raw_generations", keys=[KEY], columns=["sample_id"]).num_rows == 3
    # A GPU, its toleration and the memory of weights for the step that paints alone; the rest for every pod.
    paints, draws = steps["base__raw_generations"], steps["base__control_maps"]
    assert (paints.node, draws.node) == ("gpu", "cpu")
    assert paints.container["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "64Gi"}
    assert paints.container["resources"]["requests"]["memory"] == "64Gi"
    assert draws.container["resources"]["limits"] == {"memory": "16Gi"}
    assert "tolerations" not in draws.spec
    run_pod, *_ = deployed.pods(run_id)
    models = deployed.cluster.folder / "claims" / "posedreamer-models"
    for pod in (run_pod, paints, draws):
        assert pod.environment["POSEDREAMER_EXECUTOR"] == "k8s"
        assert pod.environment["POSEDREAMER_STORAGE"] == str(deployed.home.storage)
        assert pod.environment["HF_HOME"] == str(models / "huggingface")
        assert pod.environment["HF_TOKEN"] == TOKEN
        assert pod.environment["AWS_SECRET_ACCESS_KEY"] == AWS_KEY
        assert (Path(pod.environment["POSEDREAMER_HOME"]) / "profile.yaml").exists()
    assert len({pod.environment["POSEDREAMER_HOME"] for pod in (run_pod, paints, draws)}) == 3
    asked = json.dumps([pod.spec for pod in deployed.cluster.seen])
    assert not [secret for secret in (TOKEN, AWS_KEY, PASSWORD) if secret in asked], "pods refer to secrets"
    assert deployed.cluster.refused == []


def test_a_terminated_run_ends_the_pods_of_its_steps(deployed: Deployed) -> None:
    before = deployed.home.store().read("pose_library", keys=[KEY]).to_pylist()
    # So many poses that the step is at work for much longer than a termination takes.
    deployed.home.prepare(profile(**{"poses.batch_size": 6000}))
    deployed.cluster.config_maps["posedreamer-profile"] = {"profile.yaml": deployed.home.profile_path.read_text()}
    run_id = deployed.launch("pose_library")
    deployed.wait_for_step(run_id)
    (step,) = deployed.steps(run_id).values()
    assert step.phase == "Running"
    assert deployed.ask(TERMINATE, {"id": run_id})["__typename"] == "TerminateRunSuccess"
    assert deployed.wait(run_id) == dg.DagsterRunStatus.CANCELED, deployed.said(run_id)
    assert None not in deployed.codes(run_id)
    assert not [job for job in deployed.cluster.jobs.values() if job["metadata"]["labels"]["dagster/run-id"] == run_id]
    assert not [pod for pod in deployed.cluster.pods.values() if pod.labels.get("dagster/run-id") == run_id]
    assert deployed.home.store().read("pose_library", keys=[KEY]).to_pylist() == before
    assert deployed.cluster.refused == []
