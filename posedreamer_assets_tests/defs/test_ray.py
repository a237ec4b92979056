"""Steps as jobs of a local Ray cluster, where a CPU resource stands in for GPUs. Takes a minute: POSEDREAMER_TEST_RAY=1."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POSEDREAMER_TEST_RAY"), reason="set POSEDREAMER_TEST_RAY=1"),
]
PATIENCE_S = 400


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


def test_steps_run_on_ray_and_gpu_steps_take_their_resource(cluster: dict[str, str], tmp_path: Path) -> None:
    wait = (
        "import time\n"
        "from ray.job_submission import JobSubmissionClient\n"
        "for _ in range(120):\n"
        "    try: JobSubmissionClient().list_jobs(); break\n"
        "    except (ConnectionError, RuntimeError): time.sleep(1)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", wait], env=cluster, check=True, timeout=PATIENCE_S)
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
