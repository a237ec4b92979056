"""Workers that share the jobs of one generator, wherever they are."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import LifoQueue
from typing import Protocol, TypeVar

import numpy as np

from posedreamer_assets.engine.protocol import About, Job
from posedreamer_assets.progress import advance

Result = TypeVar("Result")
AHEAD = 2  # jobs for each worker that are under way or finished and not yet asked for


class Worker(Protocol):
    """One worker, as the thread sees it that hands it its jobs; it starts when it is first asked."""

    def about(self) -> About:
        """What its generator is."""
        ...

    def paint(self, job: Job, tell: Callable[[int], None]) -> np.ndarray:
        """The images of a job; `tell` is called with the number of rows that are done by then."""
        ...

    def interrupt(self) -> None:
        """From another thread: let the one that waits for it have an error now, and nobody start it again."""
        ...

    def close(self) -> None:
        """Give back what it holds in this process, when nobody waits for it any more."""
        ...


class Crew:
    """Hands jobs to whichever worker is free, and images back in the order of the jobs."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._free: LifoQueue[Worker] = LifoQueue()  # those that have worked come first: their generator is loaded
        for worker in reversed(workers):
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(len(workers), thread_name_prefix="painting")
        self._about: About | None = None
        self._telling = threading.Lock()
        self.closed = False

    def __len__(self) -> int:
        return len(self._workers)

    def about(self) -> About:
        """What their generator is."""
        if self._about is None:
            self._about = self._threads.submit(self._with_worker, lambda worker: worker.about()).result()
        return self._about

    def paint(self, jobs: Iterable[Job]) -> Iterator[np.ndarray]:
        """The images of each job, in order; a job is taken from `jobs` when there is somebody for it."""
        waiting: deque[Future[np.ndarray]] = deque()
        try:
            for job in jobs:
                waiting.append(self._submit(job))
                if len(waiting) >= AHEAD * len(self):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            self.close()  # what is under way may take minutes, and nobody waits for it any more
            raise

    def close(self) -> None:
        """End all workers."""
        self.closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.interrupt()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.close()

    def _submit(self, job: Job) -> "Future[np.ndarray]":
        context, told = copy_context(), 0  # threads do not know who watches the progress

        def tell(done: int) -> None:
            nonlocal told
            if done > told:  # else a worker does again what another had begun
                with self._telling:
                    context.run(advance, done - told)
                told = done

        return self._threads.submit(self._with_worker, lambda worker: worker.paint(job, tell))

    def _with_worker(self, work: Callable[[Worker], Result]) -> Result:
        worker = self._free.get()
        try:
            return work(worker)
        finally:
            self._free.put(worker)
