"""The engine of a Ray cluster: named actors with a GPU each, which outlive the run that started them, so that the next finds
them warm. `pip install 'posedreamer-assets[ray]'`.

`RAY_ADDRESS` is `HOST:6379` or `ray://HOST:10001`; where it is missing, or an http address (of the job server), the cluster
that this computer belongs to is taken.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray  # pyright: ignore[reportMissingImports]  # an extra
from ray.exceptions import GetTimeoutError, RayActorError  # pyright: ignore[reportMissingImports]

from posedreamer_assets.digests import digest, file_digest
from posedreamer_assets.engine.answers import ATTEMPTS, Answer, Broken, Failed, Painted, gave_up, raise_failed
from posedreamer_assets.engine.crew import CrewEngine
from posedreamer_assets.engine.painter import Model, Painter
from posedreamer_assets.engine.protocol import About, Job
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.engine.worker import answer_of
from posedreamer_assets.errors import EngineError

NAMESPACE = "posedreamer"
ADDRESS_VARIABLE = "RAY_ADDRESS"
LOOK_S = 0.5  # how often a thread that waits for an actor looks whether it is still wanted
WEIGHTS_SUFFIXES = (".safetensors", ".json")


class OnRay(CrewEngine):
    """Paints on a Ray cluster, on other GPUs than that of this process. Closed, it leaves the actors to be found warm."""

    def _workers_of(self, model: Model) -> list["RayWorker"]:
        connect()
        names, adapters = actor_names(model, self._settings), Adapters()
        return [RayWorker(name, model, self._settings, adapters) for name in names]


def connect() -> None:
    """Join the cluster, unless this process has.

    Raises:
        EngineError: there is none.
    """
    if ray.is_initialized():
        return
    given = os.environ.get(ADDRESS_VARIABLE, "")
    of_jobs = given.startswith("http")
    try:
        if of_jobs:
            del os.environ[ADDRESS_VARIABLE]  # Ray would take it in the place of what it is given
        ray.init(address="auto" if of_jobs or not given else given, namespace=NAMESPACE, log_to_driver=False)
    except ConnectionError as error:
        first = str(error).partition("\n")[0]
        raise EngineError(
            f"POSEDREAMER_ENGINE=ray: no Ray cluster: {first}; `ray start`, or set {ADDRESS_VARIABLE}"
        ) from error
    finally:
        if of_jobs:
            os.environ[ADDRESS_VARIABLE] = given


def actor_names(model: Model, settings: EngineSettings) -> list[str]:
    """Names of the actors that paint: those that are alive and as many as there are GPUs for now; one at least.

    `auto` leaves one of several GPUs to scoring and alignment, whose steps ask for one.
    """
    total, free = (_places(found(), settings) for found in (ray.cluster_resources, ray.available_resources))
    wanted = settings.workers_of(total - 1 if total > 1 else total)
    start = f"painter-{name_of(model, settings)}"
    alive = {one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == NAMESPACE}
    warm = sum(f"{start}-{i}" in alive for i in range(wanted))
    return [f"{start}-{i}" for i in range(max(1, min(wanted, warm + free)))]


def _places(resources: Mapping[str, float], settings: EngineSettings) -> int:
    if settings.gpus == 0:
        return int(resources.get("CPU", 0.0))
    return int(resources.get(settings.ray_resource or "GPU", 0.0) // settings.gpus)


def asked_for(settings: EngineSettings) -> dict[str, Any]:
    """What an actor asks Ray for, as a step of the pool `gpu` does; a core where there are no GPUs."""
    if settings.gpus == 0:
        return {"num_cpus": 1}
    if settings.ray_resource:
        return {"resources": {settings.ray_resource: settings.gpus}}
    return {"num_gpus": settings.gpus}


def name_of(model: Model, settings: EngineSettings) -> str:
    """Digest of everything that a warm actor must have in common with a new one: release, generator, its files, what it asks."""
    named = (model.cfg.model_path, model.cfg.control_lora_path, *(lora.path for lora in model.cfg.loras))
    files = [_stamps(path) for path in named if path]
    return digest([version("posedreamer-assets"), model, files, asked_for(settings)])[:16]


def _stamps(path: str) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files of weights on this computer; none of a name on a model hub."""
    place = Path(path).expanduser()
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    return [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.suffix in WEIGHTS_SUFFIXES
    ]


@dataclass(frozen=True)
class Adapter:
    """An adapter that goes along with a job: its file's name and digest, and the bytes in the cluster's object store."""

    name: str
    content: str
    stored: Any


class Adapters:
    """Puts the adapter in use into the cluster's object store, once for all actors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Adapter | None = None

    def of(self, path: Path) -> Adapter:
        """An adapter on this computer, as it goes along."""
        from posedreamer_assets.diffusion.adapters import adapter_file

        file = adapter_file(path)
        content = file_digest(file)
        with self._lock:
            if self._last is None or self._last.content != content:
                self._last = Adapter(file.name, content, ray.put(file.read_bytes()))
            return self._last


class Actor:
    """A painter on the cluster. It ends itself when nothing has been asked of it for long."""

    def __init__(self, model: Model, idle_s: float) -> None:
        self._painter = Painter(model)
        self._idle_s = idle_s
        self._adapter = "", tempfile.TemporaryDirectory(prefix="posedreamer-adapter-")
        self._asked = threading.Lock()
        self._last = time.monotonic()
        threading.Thread(target=self._leave_when_idle, daemon=True).start()

    def answer(self, job: Job | None, adapter: Adapter | None) -> Answer:
        """What becomes of a job, or what the generator is."""
        with self._asked:
            try:
                if job is not None and adapter is not None:
                    job = replace(job, adapter_path=self._kept(adapter))
                found = answer_of(self._painter, job)
            finally:
                self._last = time.monotonic()
        if isinstance(found, Broken):
            os._exit(1)  # Ray starts it again and asks the new one
        return found

    def _kept(self, adapter: Adapter) -> Path:
        """An adapter's file on the computer of the actor."""
        content, folder = self._adapter
        file = Path(folder.name) / adapter.name
        if content != adapter.content:
            file.write_bytes(ray.get(adapter.stored))
            self._adapter = adapter.content, folder
        return file

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def _leave_when_idle(self) -> None:
        while True:
            time.sleep(min(1.0, self._idle_s / 4))
            if self._asked.acquire(blocking=False):
                if time.monotonic() - self._last > self._idle_s:
                    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
                self._asked.release()


class RayWorker:
    """One actor: found by its name or started, when it is asked something; both again when it has ended."""

    def __init__(self, name: str, model: Model, settings: EngineSettings, adapters: Adapters) -> None:
        self.name = name
        self._adapters = adapters
        self._model = model
        self._settings = settings
        self._actor: Any = None
        self._closed = False

    def about(self) -> About:
        """See `Worker.about`."""
        found = self._ask(None)
        assert isinstance(found, About)
        return found

    def paint(self, job: Job, tell: Callable[[int], None]) -> np.ndarray:
        """See `Worker.paint`; it is told when the job is done."""
        found = self._ask(job)
        assert isinstance(found, Painted)
        tell(len(found.images))
        return found.images

    def interrupt(self) -> None:
        """See `Worker.interrupt`; the actor finishes what it has begun."""
        self._closed = True

    def close(self) -> None:
        """See `Worker.close`."""
        self._actor = None

    def _ask(self, job: Job | None) -> About | Painted:
        adapter = self._adapters.of(job.adapter_path) if job is not None and job.adapter_path is not None else None
        reason = ""
        for _ in range(2):  # Ray makes the attempts; the actor that is known may have left because it was idle
            try:
                answer = self._waited_for(self._started().answer.remote(job, adapter))
            except RayActorError as error:
                reason, self._actor = str(error).partition("\n")[0], None
                continue
            if isinstance(answer, Failed):
                raise_failed(answer, job.label if job else "")
            assert isinstance(answer, About | Painted), "a broken actor answers nothing"
            return answer
        raise gave_up(job, reason)

    def _waited_for(self, reference: Any) -> Answer:
        while not self._closed:
            try:
                return cast(Answer, ray.get(reference, timeout=LOOK_S))
            except GetTimeoutError:
                continue
        raise EngineError("the engine was closed while it painted")

    def _started(self) -> Any:
        if self._actor is None:
            kind = ray.remote(
                max_restarts=-1,  # a worker lost to a broken GPU or a preempted computer is started again elsewhere
                max_task_retries=ATTEMPTS - 1,  # and its chunk done again, so often
                **asked_for(self._settings),
            )(Actor)
            self._actor = kind.options(
                name=self.name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
            ).remote(self._model, self._settings.idle_s)
        return self._actor
