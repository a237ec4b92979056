"""Steps as jobs of a local Ray cluster, where a CPU resource stands in for GPUs. Takes minutes: POSEDREAMER_TEST_RAY=1."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.control_images import control_images
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.rows import texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POSEDREAMER_TEST_RAY"), reason="set POSEDREAMER_TEST_RAY=1"),
]
PATIENCE_S = 1800


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a process that talks to a cluster with one `stand_in`."""
    pytest.importorskip("dagster_ray")
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    ports = {"port": free_port(), "dashboard-port": free_port()}
    options = [f"--{name}={port}" for name, port in ports.items()]
    ray = [str(Path(sys.executable).with_name("ray"))]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "POSEDREAMER_EXECUTOR": "ray",
        "POSEDREAMER_RAY_RESOURCE": "stand_in",
        "RAY_ADDRESS": f"http://127.0.0.1:{ports['dashboard-port']}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a step starts with `dagster`
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",  # else Ray from 2.60 on wants a token, which a cluster of this computer alone has no use for
    }
    start = [
        *ray,
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        "--node-ip-address=127.0.0.1",
        '--resources={"stand_in": 1}',
        "--include-dashboard=true",
    ]
    # `ray start` would else find the address of a cluster that is to come.
    head = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen([*start, *options, f"--temp-dir=/tmp/ray-{ports['port']}"], env=head)
    try:
        yield environment
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(f"/tmp/ray-{ports['port']}", ignore_errors=True)  # a short path: its sockets allow no longer one


def wait_for(cluster: dict[str, str]) -> None:
    """Until the job server answers."""
    wait = (
        "import time\n"
        "from ray.job_submission import JobSubmissionClient\n"
        "for _ in range(120):\n"
        "    try: JobSubmissionClient().list_jobs(); break\n"
        "    except (ConnectionError, RuntimeError): time.sleep(1)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", wait], env=cluster, check=True, timeout=PATIENCE_S)


def test_steps_run_on_ray_and_gpu_steps_take_their_resource(cluster: dict[str, str], tmp_path: Path) -> None:
    wait_for(cluster)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*"]
    module = ["-m", "posedreamer_assets_tests.defs.ray_graph"]
    done = subprocess.run([*command, *module], env=cluster, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "in Ray job" in done.stderr
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        left = {}
        for name in ("on_cpu", "on_gpu"):
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            assert event is not None and event.asset_materialization is not None
            left[name] = event.asset_materialization.metadata["gpus_left"].value
    assert left == {"on_cpu": 1.0, "on_gpu": 0.0}


KEY = "procedural-0000"
SMALL = {"poses.batch_size": 8, "poses.batches": 1, "poses.align_batches": 0, "alignment.method": "none"}
RUNS = (  # one for each set of partitions, in the order of the data
    (None, ("body_model", "control_checkpoint", "dpo_checkpoint")),
    (KEY, ("pose_library", "base/control_maps", "rendered_scenes")),
    (KEY, ("base/raw_generations", "base/sample_scores", "base/filtered_dataset")),
)


def test_the_pocket_graph_is_made_on_ray_and_painted_by_an_actor(cluster: dict[str, str], tmp_path: Path) -> None:
    """Eight poses from bodies to verdicts with all data checks. One stand-in serves the actor, and then the judges."""
    home, profile = Home(tmp_path / "home"), load_profile("pocket", SMALL)
    home.prepare(profile)
    environment = {
        **cluster,
        "POSEDREAMER_HOME": str(home.path),
        "DAGSTER_HOME": str(home.dagster),
        "POSEDREAMER_ENGINE": "ray",
        "POSEDREAMER_IDLE_S": "10",
    }
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        register(instance, graph_of(profile), [KEY])
    wait_for(environment)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "posedreamer_assets.definitions"]
    here, there = set[str](), set[str]()
    for key, assets in RUNS:
        chosen = ["--select", ",".join(assets), *(["--partition", key] if key else [])]
        done = subprocess.run([*command, *chosen], env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
            (run,) = instance.get_runs(limit=1)
            records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING).records
            events = [record.event_log_entry for record in records]
        assert run.status == dg.DagsterRunStatus.SUCCESS
        here |= {str(e.step_key) for e in events if "beside the run" in e.message}
        there |= {str(e.step_key) for e in events if "in Ray job" in e.message}
    assert there == {name.replace("/", "__") for _, assets in RUNS for name in assets}
    assert here == {f"{name.replace('/', '_')}_checks" for _, assets in RUNS for name in assets}
    snapshot = Snapshot(profile, home.store())
    assert snapshot.is_current(snapshot.graph["base/filtered_dataset"], KEY)
    images, poses, maps = (
        snapshot.store.read(name, keys=[KEY]).sort_by("sample_id")
        for name in ("raw_generations", "pose_library", "control_maps")
    )
    assert images.num_rows == 8
    again = Models(profile).generator.generate(
        control_images(profile.generator, maps), texts(poses, "caption"), images.column("seed").to_pylist()
    )
    assert all((decode(blob) == one).all() for blob, one in zip(images.column("image").to_pylist(), again, strict=True))
