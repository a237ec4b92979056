"""Processes that write until they are killed, and tell what they do: one line of JSON for each event."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def start(module: str, root: str, seed: int, cache: Path, options: dict[str, str] | None) -> subprocess.Popen[str]:
    """A worker of a module of this package, in a session of its own."""
    command = [sys.executable, "-m", f"{__package__}.{module}", root, str(seed), str(cache), json.dumps(options)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], start_new_session=True
    )


def kill(worker: subprocess.Popen[str], after_s: float) -> list[list[str]]:
    """Kill a worker that is still alive then; returns what else it said."""
    time.sleep(after_s)
    os.killpg(worker.pid, signal.SIGKILL)
    assert worker.stdout is not None
    lines = [json.loads(line) for line in worker.stdout if line.endswith("\n")]
    worker.stdout.close()
    assert worker.wait() == -signal.SIGKILL, "the worker failed before it was killed"
    return lines


def say(*words: str) -> None:
    """In a worker: tell the parent, in one write."""
    os.write(1, f"{json.dumps(words)}\n".encode())
