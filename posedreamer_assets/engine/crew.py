"""Workers that share the jobs of one generator, wherever they are, and the part that their engines have in common."""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import LifoQueue
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.engine.inline import Inline
from posedreamer_assets.engine.painter import Model
from posedreamer_assets.engine.protocol import About, Job
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.progress import advance

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.generator import Generator

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


class CrewEngine(ABC):
    """An engine whose painters are workers. One generator is warm at a time; another one takes its place."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._model: Model | None = None
        self._crew: Crew | None = None
        self._here = Inline()

    @abstractmethod
    def _workers_of(self, model: Model) -> Sequence[Worker]:
        """Who paints with this model."""

    def about(self, cfg: GeneratorConfig, image: ImageConfig) -> About:
        """See `Engine.about`."""
        return self._painting(cfg, image).about()

    def rows_of_chunk(self, cfg: GeneratorConfig, image: ImageConfig, rows: int) -> int:
        """So many that every worker has some, and at most as many as are set."""
        return min(self._settings.chunk, -(-rows // len(self._painting(cfg, image))))

    def paint(self, cfg: GeneratorConfig, image: ImageConfig, jobs: Iterable[Job]) -> Iterator[np.ndarray]:
        """See `Engine.paint`."""
        return self._painting(cfg, image).paint(jobs)

    def local(self, cfg: GeneratorConfig, image: ImageConfig) -> "Generator":
        """See `Engine.local`."""
        return self._here.local(cfg, image)

    def close(self) -> None:
        """See `Engine.close`."""
        self._dismiss()
        self._here.close()

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.close()
        self._model = self._crew = None

    def _painting(self, cfg: GeneratorConfig, image: ImageConfig) -> Crew:
        model = Model.of(cfg, image)
        if self._crew is None or self._crew.closed or model != self._model:
            self.close()  # the memory of what was trained here is the workers' now
            self._model, self._crew = model, Crew(self._workers_of(model))
        return self._crew
