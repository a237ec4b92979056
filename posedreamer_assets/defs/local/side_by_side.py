"""Partitions of a stage made side by side, each on one core, by processes beside this one.

Students and arms are trained in one thread, so that their weights do not depend on how many cores there are; on two cores two
of them take the time of one. Each process executes what it is asked on the home's Dagster instance, as `Runner` does here, and
leaves when the one that started it does.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psutil

from posedreamer_assets import errors
from posedreamer_assets.config import Profile
from posedreamer_assets.cores import usable_cores
from posedreamer_assets.errors import PoseDreamerError
from posedreamer_assets.pipeline import Stage
from posedreamer_assets.progress import advance, watching
from posedreamer_assets.runtime.home import Home

if TYPE_CHECKING:
    from posedreamer_assets.defs.local.runner import Runner

EACH = 4  # partitions for each process that its start, some seconds, is worth
_LARGE_GB = 2.0  # of a partition: for what takes no more, a GPU is not asked how much it has


def processes_for(stage: Stage, partitions: int, profile: Profile) -> int:
    """How many processes make so many partitions of a stage; 1 where this one does it alone."""
    if not stage.one_core:
        return 1
    need_gb = stage.memory_gb(profile)
    free_gb = psutil.virtual_memory().available / 1e9
    if need_gb > _LARGE_GB:
        from posedreamer_assets.diffusion.memory import gpu_gb

        free_gb = min(free_gb, gpu_gb() or free_gb)
    return max(1, min(usable_cores(), int(free_gb / need_gb), partitions // EACH))


@dataclass(frozen=True)
class _Asked:
    stage: str
    key: str
    force: bool


@dataclass(frozen=True)
class _Advanced:
    units: int
    note: str


@dataclass(frozen=True)
class _Answer:
    """Empty where the partition was made, else an error's class and text."""

    error: str = ""
    text: str = ""


class SideBySide:
    """Some processes that execute partitions of a home's graph; they stay for the stages that follow.

    Args:
        home: prepared, with the profile that they make.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._helpers: list[_Helper] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for helper in self._helpers:
            helper.close()
        self._helpers.clear()

    def execute(self, stage: Stage, keys: Sequence[str], forced: Sequence[bool], count: int) -> Iterator[str]:
        """Make these partitions by so many processes; yields each when it is made, in whatever order.

        Raises:
            PoseDreamerError: the first error of one. Those that are under way are finished before, no further one is begun.
        """
        while len(self._helpers) < count:
            self._helpers.append(_Helper(self._home))
        free: SimpleQueue[_Helper] = SimpleQueue()
        for helper in self._helpers[:count]:
            free.put(helper)

        def one(asked: _Asked) -> str:
            helper = free.get()
            try:
                helper.execute(asked)
            finally:
                free.put(helper)
            return asked.key

        asked = [_Asked(stage.key, key, force) for key, force in zip(keys, forced, strict=True)]
        threads = ThreadPoolExecutor(count, thread_name_prefix="beside")
        try:
            for done in as_completed([threads.submit(copy_context().run, one, each) for each in asked]):
                yield done.result()
        except PoseDreamerError:
            raise
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            self.close()  # what is under way may take minutes, and nobody waits for it any more
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


class _Helper:
    """One process, started when it is first asked something; once closed it starts none."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._changes = Lock()  # it is closed by another thread than the one that asks
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, open as long as the helper is

    def execute(self, asked: _Asked) -> None:
        """Make a partition.

        Raises:
            PoseDreamerError: of the partition, or of a process that ended.
        """
        self._talk(asked, lambda connection: connection.send(asked))
        while not isinstance(answer := self._talk(asked, lambda connection: connection.recv()), _Answer):
            advance(answer.units, answer.note)
        if answer.error:
            raise _error_of(answer)

    def _talk(self, asked: _Asked, say: Callable[[Connection], Any]) -> Any:
        try:
            with self._changes:
                if self._closed:
                    raise EOFError
                if self._process is None:
                    self._start()
            return say(self._connection)
        except (EOFError, OSError) as error:
            raise PoseDreamerError(f"{asked.stage}[{asked.key}]: the process that made it {self._ending()}") from error

    def close(self) -> None:
        """End the process, whatever it is doing: what it has not finished is made again."""
        with self._changes:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None  # its connection stays: who reads from it is told of the end
            self._said.close()

    def _start(self) -> None:
        ours, theirs = Pipe()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno()), str(self._home.path)],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,  # a Ctrl-C is for the process that started it, with which it ends
        )
        theirs.close()
        self._connection: Connection = ours

    def _ending(self) -> str:
        process = self._process
        code = process.wait() if process is not None else 0
        with self._changes:
            self._process = None
            if self._closed:
                return "was ended"
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").split("\n")
        lines = [line.strip() for line in said if line.strip() and not line.startswith("(Background on this error")]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{how}: {lines[-1]}" if lines else how


def _error_of(answer: _Answer) -> PoseDreamerError:
    """The error by its class, where that takes a text alone."""
    kind = getattr(errors, answer.error, PoseDreamerError)
    plain = kind.__init__ is Exception.__init__
    return kind(answer.text) if plain else PoseDreamerError(answer.text)


# In the process itself


@dataclass(frozen=True)
class _Told:
    """Progress goes to the process that asked."""

    connection: Connection

    def advance(self, n: int, note: str = "") -> None:
        self.connection.send(_Advanced(n, note))


def main(descriptor: int, home: str) -> None:
    """Execute what is asked until the other end of the connection is closed."""
    from posedreamer_assets.defs.local.runner import Runner

    connection, place = Connection(descriptor), Home(Path(home))
    with ExitStack() as opened:
        with place.lock("side_by_side"):  # Dagster's files of a new home are made by one of them
            runner = opened.enter_context(Runner(place))
        opened.enter_context(watching(_Told(connection)))
        while True:
            try:
                asked = connection.recv()
            except (EOFError, ConnectionError):
                return
            connection.send(_answer(runner, asked))


def _answer(runner: "Runner", asked: _Asked) -> _Answer:
    try:
        runner.execute(runner.graph[asked.stage], asked.key, force=asked.force)
    except PoseDreamerError as error:
        return _Answer(type(error).__name__, str(error))
    return _Answer()


if __name__ == "__main__":
    # Under its own name, so that what is sent has the classes that the other end knows.
    from posedreamer_assets.defs.local import side_by_side

    side_by_side.main(int(sys.argv[1]), sys.argv[2])
