"""Tries Dockerfile and Compose file on this computer's Docker: builds, runs the graph, and launches a run in Compose.

    python3 deploy/try_docker.py [--base IMAGE] [--postgres IMAGE] [--port 3999] [--gpu] [--keep]

1. The image is built by Compose, from --base in the place of python:3.11-slim. Its pip asks the index of PIP_INDEX_URL and
   PIP_EXTRA_INDEX_URL, where they are set; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu leaves CUDA out.
2. In the image: `posedreamer --help`, `posedreamer doctor`, and `posedreamer run` of eight poses with the shipped pocket models.
3. The image of deploy/ecs is built on it, and must run the profile that was put beside its Dockerfile; the common image must
   refuse to run on ECS without one.
4. Postgres, code location, web server and daemon come up. The code location must be loaded, and a run that is launched as the
   UI does it, and taken from the queue by the daemon, must make another batch from poses to verdicts, with its data checks.
5. All is taken down: containers, networks, volumes and, without --keep, the image.

It has a Compose project, an image and a port of its own, and touches no other deployment. Needs Docker and `docker compose`,
version 2. Where no registry of images is in reach, deploy/stand_ins.sh makes both.
Prints what it did and how long it took; exit code 1 where something failed.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "compose"
NAME = "posedreamer-try"
KEY = "procedural-0001"  # the batch after the one that `posedreamer run` makes
ASSETS = (
    "pose_library",
    "base/control_maps",
    "rendered_scenes",
    "base/raw_generations",
    "base/sample_scores",
    "base/filtered_dataset",
)
RUN = (
    "posedreamer run --batches 1 --poses-per-batch 8 --study none --set poses.align_batches=0 --set alignment.method=none"
    " --set curriculum.rounds=[]"
)
ANSWER_S, READY_S, RUN_S = 300, 600, 1800  # how long to wait, on a busy computer as well
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } }
} } } }
"""
PARTITION = """
mutation Add($set: String!, $key: String!, $selector: RepositorySelector!) {
  addDynamicPartition(partitionsDefName: $set, partitionKey: $key, repositorySelector: $selector) {
    __typename ... on PythonError { message }
  }
}
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
ROWS = f"""
from posedreamer_assets.runtime.home import Home
store = Home.find().store()
print([store.read(name.split("/")[-1], columns=["sample_id"], keys=["{KEY}"]).num_rows for name in {ASSETS}])
"""


@dataclass
class Compose:
    """The Compose project of this try."""

    command: list[str]
    environment: dict[str, str]

    def __call__(self, *arguments: str, capture: bool = False) -> str:
        """What it prints, where that is asked for.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
        )
        return done.stdout or ""

    def in_image(self, command: str, capture: bool = False) -> str:
        """A command in a new container of the code location, with the home's volume and without Postgres."""
        return self("run", "--rm", "--no-deps", "-T", "code", "sh", "-c", command, capture=capture)


@dataclass(frozen=True)
class WebServer:
    """Dagster's, asked as a browser asks it."""

    port: int

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        """The one answer to a query."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            found = json.load(answer)
        if found.get("errors"):
            raise SystemExit(f"GraphQL: {found['errors']}")
        (result,) = found["data"].values()
        return result

    def wait_until_loaded(self) -> list[dict[str, Any]]:
        """The code locations, once all are loaded."""
        entries: list[dict[str, Any]] = []
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with suppress(urllib.error.URLError, ConnectionError):  # it does not listen yet
                entries = self.ask(LOCATIONS)["locationEntries"]
                if entries and all(entry["loadStatus"] == "LOADED" for entry in entries):
                    break
            time.sleep(1)
        for entry in entries:
            outcome = entry["locationOrLoadError"] or {}
            if outcome.get("__typename") != "RepositoryLocation":
                raise SystemExit(f"code location {entry['name']}: {outcome.get('message', entry['loadStatus'])}")
        if not entries:
            raise SystemExit(f"port {self.port} did not answer with code locations for {READY_S} s")
        return entries

    def launch(self, location: str) -> str:
        """Ask for one batch, as the launchpad does; the id of the run."""
        selector = {"repositoryName": "__repository__", "repositoryLocationName": location}
        for name in ("pose_batches", "base_batches"):
            self.ask(PARTITION, {"set": name, "key": KEY, "selector": selector})
        chosen = [{"path": name.split("/")} for name in ASSETS]
        job = {**selector, "pipelineName": "__ASSET_JOB", "assetSelection": chosen}
        given = {"tags": [{"key": "dagster/partition", "value": KEY}]}
        launched = self.ask(LAUNCH, {"params": {"selector": job, "runConfigData": {}, "executionMetadata": given}})
        if launched["__typename"] != "LaunchRunSuccess":
            raise SystemExit(f"not launched: {launched}")
        return str(launched["run"]["runId"])

    def wait_for(self, run_id: str) -> str:
        """The status that a run ends with."""
        status = "NOT_STARTED"
        deadline = time.monotonic() + RUN_S
        while status not in ("SUCCESS", "FAILURE", "CANCELED") and time.monotonic() < deadline:
            time.sleep(1)
            status = self.ask(STATUS, {"id": run_id})["status"]
        return status


@contextmanager
def told(what: str) -> Iterator[None]:
    """Print what is done, and how long it took."""
    print(f"== {what}", flush=True)
    started = time.monotonic()
    yield
    print(f"== {what}: done in {time.monotonic() - started:.0f} s", flush=True)


def rows(compose: Compose) -> list[int]:
    """How many rows each asset has of the batch."""
    printed = compose.in_image(f"python -W ignore - <<'END'\n{ROWS}\nEND", capture=True)
    return list(json.loads(printed.splitlines()[-1]))


def try_image(compose: Compose) -> None:
    """Build it and run the graph in it."""
    with told("build"):
        compose("build", "code")
    size = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", NAME], capture_output=True, text=True, check=True
    )
    print(f"the image has {int(size.stdout) / 1e9:.2f} GB")
    with told("posedreamer --help and doctor"):
        compose.in_image("posedreamer --help && posedreamer doctor")
    with told("posedreamer run"):
        compose.in_image(RUN)


def try_ecs(compose: Compose) -> None:
    """Build the image of deploy/ecs with a profile that is told from the default one, and ask which it runs."""
    ask = "from posedreamer_assets.runtime.home import Home; print(Home.find().profile().poses.batch_size)"
    run = ["docker", "run", "--rm", "--env", "POSEDREAMER_EXECUTOR=ecs"]
    with told("ecs"), tempfile.TemporaryDirectory() as folder:
        context = shutil.copytree(FOLDER.parent / "ecs", Path(folder) / "ecs", dirs_exist_ok=True)
        (context / "profile.yaml").write_text(compose.in_image("cat $POSEDREAMER_HOME/profile.yaml", capture=True))
        build = ["docker", "build", "--quiet", "--tag", f"{NAME}:ecs", "--build-arg", f"COMMON={NAME}", str(context)]
        subprocess.run(build, check=True)
        try:
            asked = subprocess.run([*run, f"{NAME}:ecs", "python", "-c", ask], capture_output=True, text=True)
        finally:
            subprocess.run(["docker", "image", "rm", f"{NAME}:ecs"], check=True, stdout=subprocess.DEVNULL)
        refused = subprocess.run([*run, NAME, "python", "-c", ask], capture_output=True, text=True)
    if asked.stdout.strip() != "8":
        raise SystemExit(f"deploy/ecs runs another profile: {asked.stdout}{asked.stderr}")
    if refused.returncode == 0 or "mount the profile there" not in refused.stderr:
        raise SystemExit(f"without a profile ECS is not refused: {refused.stdout}{refused.stderr}")


def try_services(compose: Compose, server: WebServer) -> None:
    """Bring everything up, and make rows through it."""
    with told("up"):
        compose("up", "--detach", "--no-build")
        (location,) = server.wait_until_loaded()
    with told("a run launched through the web server"):
        run_id = server.launch(location["name"])
        status = server.wait_for(run_id)
    if status != "SUCCESS":
        raise SystemExit(f"run {run_id}: {status}")
    found = rows(compose)
    if found != [8] * len(ASSETS):
        raise SystemExit(f"run {run_id} made other rows than eight: {dict(zip(ASSETS, found, strict=True))}")
    print(f"run {run_id} made 8 rows of each of {', '.join(ASSETS)}")


def main() -> None:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="python:3.11-slim", help="image with Debian and Python 3.11")
    parser.add_argument("--postgres", default="postgres:17", help="image of PostgreSQL")
    parser.add_argument("--port", type=int, default=3999, help="of the web server, on the loopback address")
    parser.add_argument("--gpu", action="store_true", help="with deploy/compose/gpu.yaml")
    parser.add_argument("--keep", action="store_true", help=f"keep the image {NAME}")
    given = parser.parse_args()
    files = ["docker-compose.yaml", *(["gpu.yaml"] if given.gpu else [])]
    options = [option for name in files for option in ("--file", str(FOLDER / name))]
    compose = Compose(
        ["docker", "compose", "--project-name", NAME, *options],
        {
            **os.environ,
            "BASE": given.base,
            "POSTGRES_IMAGE": given.postgres,
            "POSEDREAMER_IMAGE": NAME,
            "PORT": str(given.port),
            "POSTGRES_PASSWORD": secrets.token_urlsafe(),
        },
    )
    try:
        try_image(compose)
        try_ecs(compose)
        try:
            try_services(compose, WebServer(given.port))
        except (SystemExit, subprocess.CalledProcessError):
            compose("logs", "--tail", "80")
            raise
    except subprocess.CalledProcessError as error:
        sys.exit(f"exit code {error.returncode} of {' '.join(error.cmd)}")
    finally:
        with told("down"):
            compose("down", "--volumes", "--remove-orphans")
            if not given.keep:
                subprocess.run(["docker", "image", "rm", "--force", NAME], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
