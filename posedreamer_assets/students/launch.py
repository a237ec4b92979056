"""Where a student that sees images is trained: in this process, or by accelerate in one for each GPU."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from posedreamer_assets.cores import usable_cores
from posedreamer_assets.errors import StudentError
from posedreamer_assets.progress import advance
from posedreamer_assets.students.train import Trained
from posedreamer_assets.training.log import read_log

_LOOK_S = 0.5  # between two looks at how far it is


def train_on(gpus: Sequence[str], folder: Path) -> Trained:
    """Train the student of a folder, see `train_images.py`, on GPUs; here, where there is one of them or none.

    One that is trained already is taken as it is: also what a user had trained in that folder on another machine.

    Args:
        gpus: values of CUDA_VISIBLE_DEVICES that show one each.
        folder: complete.

    Raises:
        StudentError: it cannot be trained, or a process ended.
    """
    from posedreamer_assets.students.train_images import RESULT, Job, train_in, trained_in

    if (folder / RESULT).exists():  # who had it trained was killed before it was stored
        advance(Job.read(folder).spec.steps)
    elif len(gpus) > 1:
        train_in_processes(len(gpus), folder, {"CUDA_VISIBLE_DEVICES": ",".join(gpus)})
    else:
        train_in(folder)
    return trained_in(folder)


def command_of(processes: int, folder: Path, threads: int = 1) -> list[str]:
    """What starts the processes on this machine; it says all that accelerate would else ask a file of the user's."""
    settings = {
        "num_processes": processes,
        "num_machines": 1,
        "num_cpu_threads_per_process": threads,
        "mixed_precision": "no",  # students know themselves what they multiply in
        "dynamo_backend": "no",
        "gpu_ids": "all",
        "main_process_port": 0,  # any that is free
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    # `--multi_gpu` starts them with torchrun; those that find no GPU speak to each other by gloo.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *options]
    return [*launch, "-m", "posedreamer_assets.students.train_images", str(folder)]


def train_in_processes(processes: int, folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Train the student of a folder in some processes, and wait for them; progress is reported as they log it.

    Raises:
        StudentError: they did not finish; with the reason that one of them gave, or the last line that they wrote.
    """
    from posedreamer_assets.students.train_images import FAILED, LOG, RESULT, Job

    for name in (FAILED, RESULT):
        (folder / name).unlink(missing_ok=True)
    steps, done = Job.read(folder).spec.steps, 0
    path = os.pathsep.join(entry for entry in sys.path if entry)
    threads = max(1, usable_cores() // processes)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command_of(processes, folder, threads),
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            while process.poll() is None:
                time.sleep(_LOOK_S)
                if (now := _logged(folder / LOG)) > done:
                    advance(now - done)
                    done = now
        finally:
            _end(process)
        if process.returncode or not (folder / RESULT).exists():
            said.seek(0)
            raise StudentError(_reason(folder / FAILED, process.returncode, said.read().decode(errors="replace")))
    advance(max(0, steps - done))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what still runs, as after a Ctrl-C: torchrun passes a termination on to the processes that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _logged(log: Path) -> int:
    """Steps that the log says are done."""
    try:
        return int(read_log(log)[-1]["step"])
    except (OSError, ValueError, IndexError):  # not there yet, or a line that is being written
        return 0


def _reason(failed: Path, code: int, output: str) -> str:
    if failed.exists():
        return failed.read_text()
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"the processes that train the student {how}" + (f": {lines[-1]}" if lines else "")
