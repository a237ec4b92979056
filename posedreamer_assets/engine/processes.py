"""The engine of one computer with several GPUs: a worker process for each, started when there is work for it and kept warm."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, TYPE_CHECKING

import numpy as np

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.engine.answers import ATTEMPTS, Answer, Broken, Done, Failed, Painted, gave_up, raise_failed
from posedreamer_assets.engine.crew import CrewEngine
from posedreamer_assets.engine.painter import Model
from posedreamer_assets.engine.protocol import About, Job
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.engine.worker import Setup
from posedreamer_assets.errors import EngineError

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.generator import Generator

GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"


class Processes(CrewEngine):
    """Paints in processes of this computer."""

    def local(self, cfg: GeneratorConfig, image: ImageConfig) -> "Generator":
        """See `Engine.local`; it takes the workers' place on the GPU."""
        self._dismiss()
        return super().local(cfg, image)

    def _workers_of(self, model: Model) -> list["ProcessWorker"]:
        places = environments(model.cfg.device, self._settings, os.environ)
        return [ProcessWorker(on_its_gpu(model), place, self._settings.idle_s) for place in places]


def on_its_gpu(model: Model) -> Model:
    """The model as a worker loads it: the one GPU that it sees has number 0."""
    return replace(model, cfg=replace(model.cfg, device="cuda")) if model.cfg.device.startswith("cuda") else model


def environments(device: str, settings: EngineSettings, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of each worker: one GPU each where there are some, and its share of the cores."""
    import torch

    gpus = gpus_of(device, environment)
    count = settings.workers_of(len(gpus))
    threads = max(1, torch.get_num_threads() // count)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    own = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    return [{**environment, **own, GPUS_VARIABLE: gpus[i % len(gpus)] if gpus else ""} for i in range(count)]


def gpus_of(device: str, environment: Mapping[str, str]) -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES that show one GPU each, of those that this process may use for `generator.device`."""
    import torch

    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return []
    shown = environment.get(GPUS_VARIABLE)
    if shown is None:
        found = [str(i) for i in range(torch.cuda.device_count())]
    else:
        found = [one.strip() for one in shown.split(",") if one.strip()][: torch.cuda.device_count()]
    return [found[int(number)]] if number.isdecimal() and int(number) < len(found) else found


class _Ended(Exception):
    """The worker's process is no more; the text says how it ended."""


class ProcessWorker:
    """One worker process: started when it is asked something, again when it has ended."""

    def __init__(self, model: Model, environment: dict[str, str], idle_s: float) -> None:
        self._setup = Setup(model, idle_s)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._said: IO[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of its process; None where there is none."""
        return self._process.pid if self._process else None

    def about(self) -> About:
        """See `Worker.about`."""
        found = self._ask(None, lambda done: None)
        assert isinstance(found, About)
        return found

    def paint(self, job: Job, tell: Callable[[int], None]) -> np.ndarray:
        """See `Worker.paint`."""
        found = self._ask(job, tell)
        assert isinstance(found, Painted)
        return found.images

    def interrupt(self) -> None:
        """See `Worker.interrupt`."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # the thread that waits for it finds its connection closed

    def close(self) -> None:
        """See `Worker.close`."""
        self._forget()

    def _ask(self, job: Job | None, tell: Callable[[int], None]) -> About | Painted:
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                answer = self._asked_once(job, tell)
            except _Ended as ended:
                reason = str(ended)
                continue
            if isinstance(answer, Failed):
                raise_failed(answer, job.label if job else "")
            elif isinstance(answer, Broken):
                reason = f"after {answer.text}"
                self._end()
            else:
                return answer
        raise gave_up(job, reason)

    def _asked_once(self, job: Job | None, tell: Callable[[int], None]) -> Answer:
        try:
            connection = self._started()
            connection.send(job)
            while isinstance(answer := connection.recv(), Done):
                tell(answer.rows)
            return answer
        except (EOFError, ConnectionError) as error:
            raise _Ended(self._end()) from error

    def _started(self) -> Connection:
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it was idle
        if self._connection is None:
            if self._closed:
                raise EngineError("the engine is closed")
            self._start()
        assert self._connection is not None
        return self._connection

    def _start(self) -> None:
        ours, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, it is open as long as the process runs
        command = [sys.executable, "-X", "faulthandler", "-m", "posedreamer_assets.engine.worker", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            env=self._environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,  # a Ctrl-C is for the process that started it, with which it ends
        )
        theirs.close()
        self._connection = ours
        if self._closed:  # meanwhile, in another thread
            self._process.kill()
        ours.send(self._setup)

    def _end(self) -> str:
        """Forget the process, which has ended or is of no use; says how it ended."""
        code, last = self._forget()
        if self._closed:
            raise EngineError("the engine was closed while it painted")
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{how}: {last}" if last else how

    def _forget(self) -> tuple[int, str]:
        """End the process; its exit code and the last line that it has written."""
        code, last = 0, ""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            code = self._process.wait()  # it leaves with the other end of its connection
        if self._said is not None:
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            self._said.close()
        self._process = self._connection = self._said = None
        return code, last
