"""`posedreamer dev` ends with all that it started, whatever ends it and whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PATIENCE_S = 60
# Stands for `dg dev`: it has a process of its own, which it ends when it is interrupted.
DAGSTER = """
import subprocess, sys, time
from pathlib import Path
own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path({file!r}).write_text(str(own.pid))
try:
    time.sleep(600)
except KeyboardInterrupt:
    own.terminate()
    own.wait()
    sys.exit(1)
"""
SERVE = """
import signal, sys
from pathlib import Path
from posedreamer_assets.cli import dev
from posedreamer_assets.runtime.home import Home
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a background job of a script
dev.register_planned = lambda home: None
dev._DG = Path(sys.argv[1]).read_text()
sys.exit(dev.serve(Home(Path(sys.argv[2])), 3000, 0))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(
            signal.SIGKILL,
            -9,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's end"),
        ),
    ],
)
def test_a_background_job_ends_at_once_with_its_processes(tmp_path: Path, number: int, code: int) -> None:
    noted, script = tmp_path / "grandchild", tmp_path / "dagster.py"
    script.write_text(DAGSTER.format(file=str(noted)))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(script), str(tmp_path / "home")],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (noted.exists() and noted.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    family = [psutil.Process(int(noted.read_text())), *psutil.Process(process.pid).children(recursive=True)]
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == code
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    assert time.monotonic() - started < 15, "a wait for what has ended already takes 30 s"
