"""A worker in a process of its own: `python -m posedreamer_assets.engine.worker FD`, started by `engine/processes.py`.

FD is its end of a pair of sockets. It ends when it has been idle, and at once when the other end is closed, as it is
when the process that started it dies, however it dies.
"""

import os
import select
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from posedreamer_assets.engine.answers import Answer, Broken, Done, Failed, Painted
from posedreamer_assets.engine.painter import Model, Painter, breaks_the_process
from posedreamer_assets.engine.protocol import Job
from posedreamer_assets.progress import watching


@dataclass(frozen=True)
class Setup:
    """What a worker is told first."""

    model: Model
    idle_s: float


class _Telling:
    """Progress of the present job, as the other end wants it: rows done so far."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.done = 0

    def advance(self, n: int, note: str = "") -> None:
        """n more rows."""
        self.done += n
        self._connection.send(Done(self.done))


def serve(connection: Connection) -> None:
    """Answer jobs, and None, which asks what the generator is, until nothing comes any more."""
    setup: Setup = connection.recv()
    painter = Painter(setup.model)
    while connection.poll(setup.idle_s):
        job: Job | None = connection.recv()
        with watching(_Telling(connection)):
            answer = answer_of(painter, job)
        connection.send(answer)
        if isinstance(answer, Broken):
            return


def answer_of(painter: Painter, job: Job | None) -> Answer:
    """What becomes of a job, or what the generator is."""
    try:
        return painter.about() if job is None else Painted(painter.paint(job))
    except Exception as error:  # noqa: BLE001, whatever it is, it is told to who gave the job
        return Broken(str(error).partition("\n")[0]) if breaks_the_process(error) else Failed.by(error)


def _leave_with_the_other_end(fd: int) -> None:
    """Wait until the other end is closed, and end the process whatever it is doing."""
    hung_up = select.poll()
    hung_up.register(fd, 0)  # of no event but that one, which needs no asking
    hung_up.poll()
    os._exit(0)


def main() -> None:
    """A worker's whole life."""
    fd = int(sys.argv[1])
    threading.Thread(target=_leave_with_the_other_end, args=(fd,), daemon=True).start()
    try:
        serve(Connection(fd))
    except (EOFError, ConnectionError):
        return  # the other end is closed


if __name__ == "__main__":
    main()
