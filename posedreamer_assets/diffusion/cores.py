"""Several cores of a CPU at work on independent parts, each part on one core.

A second core makes a small network 1.3 times as fast within its operations, and 1.8 times with a part of its own.
A part's bits do not depend on how many cores there are.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores_of(device: torch.device) -> int:
    """Parts that may run at a time: as many as torch has threads on a CPU, one on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def map_on_cores(
    work: Callable[[Item], Result], items: Iterable[Item], cores: int, start: Callable[[], None] | None = None
) -> Iterator[Result]:
    """`work` of each item, in order; `start` is called once in each thread that works.

    With one core everything happens in the calling thread. Gradients are recorded or not as `work` itself says: torch
    keeps that, as most of its contexts, for each thread apart.
    """
    if cores == 1:
        if start is not None:
            start()
        yield from map(work, items)
        return

    def start_thread() -> None:
        torch.set_num_threads(1)
        if start is not None:
            start()

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=start_thread) as pool:
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(threads)
