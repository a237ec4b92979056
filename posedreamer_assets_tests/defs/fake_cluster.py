"""A Kubernetes API server of this computer, which runs the command of each pod as a process.

What a pod is given of its volumes, config maps and secrets lies in folders: an environment variable whose value is a path below
one of its mounts, as the container sees it, names the folder in its process. Images are not looked at, but for their environment.
There are two nodes, one of them with GPUs and tainted as they are: a pod that no node takes stays pending.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

ROOT = Path(__file__).parents[2]
GPU = "nvidia.com/gpu"
NAMESPACE = "default"
NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"  # RFC 1123, as the API server demands it
JOBS, PODS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs", f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass
class Pod:
    """A pod, its folder and, once a node has taken it, its process."""

    name: str
    spec: dict[str, Any]
    labels: dict[str, str]
    folder: Path
    node: str | None = None
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def container(self) -> dict[str, Any]:
        """The one container."""
        (container,) = self.spec["containers"]
        return container

    @property
    def phase(self) -> str:
        """As the API tells it."""
        if self.process is None:
            return "Pending"
        code = self.process.poll()
        return "Running" if code is None else "Failed" if code else "Succeeded"

    @property
    def log(self) -> str:
        """What its process has printed."""
        return (self.folder / "log").read_text() if self.process else ""

    def resource(self) -> dict[str, Any]:
        """As the API shows it."""
        metadata = {"name": self.name, "namespace": NAMESPACE, "labels": self.labels}
        return {"metadata": metadata, "spec": {**self.spec, "nodeName": self.node}, "status": {"phase": self.phase}}


class FakeCluster:
    """The API server, two nodes, and what was put into the cluster."""

    def __init__(self, folder: Path, image_environment: Mapping[str, str]) -> None:
        self.folder, self._image_environment = folder, dict(image_environment)
        self.config_maps: dict[str, dict[str, str]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.seen: list[Pod] = []  # also those that were deleted
        self.refused: list[str] = []  # requests that it does not know, or does not take
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": self}))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for pod in self.seen:
            _end(pod, grace_s=0)

    def kubeconfig(self) -> Path:
        """The file with which clients find it."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": url}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "current-context": "fake",
        }
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def create_job(self, job: dict[str, Any]) -> dict[str, Any]:
        """Keep the job and start its pod."""
        name, template = job["metadata"]["name"], job["spec"]["template"]
        labels = {**template["metadata"].get("labels", {}), "job-name": name}
        job["metadata"]["namespace"] = NAMESPACE
        self.jobs[name] = job
        self.start(f"{name}-x7k2p", template["spec"], labels)
        return job

    def start(self, name: str, spec: dict[str, Any], labels: dict[str, str]) -> Pod:
        """A pod and, where a node takes it, its process."""
        pod = Pod(name, spec, labels, self.folder / "pods" / name)
        self.pods[name] = pod
        self.seen.append(pod)
        pod.node = _node_for(spec)
        if pod.node:
            self._run(pod)
        return pod

    def status(self, name: str) -> dict[str, Any]:
        """The job with the status that its pods give it."""
        phases = [pod.phase for pod in self.pods.values() if pod.labels.get("job-name") == name]
        counts = {
            "active": phases.count("Running") + phases.count("Pending"),
            "succeeded": phases.count("Succeeded"),
            "failed": phases.count("Failed"),
        }
        return {**self.jobs[name], "status": counts}

    def delete_pod(self, name: str) -> dict[str, Any]:
        """End its process in the grace that a pod has, and forget it."""
        pod = self.pods.pop(name)
        grace = float(pod.spec.get("terminationGracePeriodSeconds", 30))
        threading.Thread(target=_end, args=(pod, grace), daemon=True).start()
        return pod.resource()

    def _run(self, pod: Pod) -> None:
        places = self._mount(pod)
        bin_folder = Path(sys.executable).parent
        given = {
            **self._image_environment,
            **{
                key: value
                for source in pod.container.get("envFrom") or []
                for key, value in self._source(source).items()
            },
            **{entry["name"]: self._value(entry) for entry in pod.container.get("env") or []},
        }
        pod.environment = {
            # Of this computer, what the image would have.
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(pod.folder),
            **{name: os.environ[name] for name in ("OMP_NUM_THREADS", "TMPDIR") if name in os.environ},
            **{name: _moved(value, places) for name, value in given.items()},
        }
        command = [*(pod.container.get("command") or []), *(pod.container.get("args") or [])]
        with (pod.folder / "log").open("wb") as log:
            pod.process = subprocess.Popen(
                command,
                env=pod.environment,
                cwd=pod.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all of a container's processes end with it
            )

    def _mount(self, pod: Pod) -> dict[str, Path]:
        """The folder of each path that a volume is mounted at, the deepest path first."""
        pod.folder.mkdir(parents=True)
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or []}
        mounts = sorted(pod.container.get("volumeMounts") or [], key=lambda mount: len(mount["mountPath"]))
        places: dict[str, Path] = {}
        for mount in mounts:
            found = self._volume(pod, volumes[mount["name"]])
            if "subPath" in mount:
                inside = Path(_moved(mount["mountPath"], places))
                shutil.copyfile(found / mount["subPath"], inside)
            else:
                places = {mount["mountPath"]: found, **places}
        return places

    def _volume(self, pod: Pod, volume: dict[str, Any]) -> Path:
        """The folder of a volume: shared by all pods where it is a claim, else the pod's own."""
        place = pod.folder / "volumes" / volume["name"]
        if claim := volume.get("persistentVolumeClaim"):
            place = self.folder / "claims" / claim["claimName"]
        place.mkdir(parents=True, exist_ok=True)
        if config_map := volume.get("configMap"):
            for name, text in self.config_maps[config_map["name"]].items():
                (place / name).write_text(text)
        return place

    def _source(self, source: dict[str, Any]) -> dict[str, str]:
        if "secretRef" in source:
            return self.secrets[source["secretRef"]["name"]]
        return self.config_maps[source["configMapRef"]["name"]]

    def _value(self, entry: dict[str, Any]) -> str:
        if reference := (entry.get("valueFrom") or {}).get("secretKeyRef"):
            return self.secrets[reference["name"]][reference["key"]]
        return str(entry.get("value") or "")


def _node_for(spec: dict[str, Any]) -> str | None:
    """`gpu` for who asks for GPUs and tolerates the taint of its node, `cpu` for who asks for none."""
    (container,) = spec["containers"]
    limits = (container.get("resources") or {}).get("limits") or {}
    if GPU not in limits:
        return "cpu"
    tolerated = any(one.get("key") == GPU and one.get("operator") == "Exists" for one in spec.get("tolerations") or [])
    return "gpu" if tolerated else None


def _moved(value: str, places: Mapping[str, Path]) -> str:
    for path, folder in places.items():
        if value == path or value.startswith(f"{path}/"):
            return f"{folder}{value[len(path) :]}"
    return value


def _end(pod: Pod, grace_s: float) -> None:
    """SIGTERM to the container's first process, then SIGKILL to all of them."""
    if pod.process is None:
        return
    pod.process.terminate()
    deadline = time.monotonic() + grace_s
    while pod.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(pod.process.pid, signal.SIGKILL)
    pod.process.wait()


class _Handler(BaseHTTPRequestHandler):
    """The part of the API that dagster-k8s asks."""

    cluster: FakeCluster

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.cluster.lock:
            code, found = self._found(method, urlsplit(self.path).path, json.loads(body or "{}"))
        text = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _found(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        cluster = self.cluster
        if (method, path) == ("POST", JOBS):
            name = body["metadata"]["name"]
            if not re.fullmatch(NAME, name) or len(name) > 63 or body["spec"].get("backoffLimit") is None:
                return self._refused(method, path, 422)
            return (409, {}) if name in cluster.jobs else (201, cluster.create_job(body))
        if (method, path) == ("GET", PODS):
            wanted = dict(one.split("=") for one in self._query("labelSelector"))
            pods = [pod for pod in cluster.pods.values() if wanted.items() <= pod.labels.items()]
            return 200, {"kind": "PodList", "items": [pod.resource() for pod in pods]}
        if job := re.fullmatch(rf"{JOBS}/({NAME})(/status)?", path):
            if job[1] not in cluster.jobs:
                return 404, {}
            if method == "GET":
                return 200, cluster.status(job[1])
            if method == "DELETE":  # pods stay, as they do where a client asks for no propagation
                return 200, cluster.jobs.pop(job[1])
        if (pod := re.fullmatch(rf"{PODS}/({NAME})", path)) and method == "DELETE":
            return (200, cluster.delete_pod(pod[1])) if pod[1] in cluster.pods else (404, {})
        return self._refused(method, path, 404)

    def _refused(self, method: str, path: str, code: int) -> tuple[int, dict[str, Any]]:
        self.cluster.refused.append(f"{method} {path}: {code}")
        return code, {}

    def _query(self, name: str) -> list[str]:
        return [one for value in parse_qs(urlsplit(self.path).query).get(name, []) for one in value.split(",")]
