"""Trainings that give the same weights again on the same device."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from posedreamer_assets.cores import one_thread


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within this context sums are made in one order: on a CPU by one thread, on a GPU by kernels that keep it.

    Where a GPU has no such kernel, torch warns once and takes the one that there is.
    """
    if device.type == "cpu":
        with one_thread():
            yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for, before its first product
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills: Any = torch.utils.deterministic  # pyright knows nothing of its one switch
    filled = fills.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    fills.fill_uninitialized_memory = False  # finds faults, and costs a pass over every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        fills.fill_uninitialized_memory = filled
