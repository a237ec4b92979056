"""What tests of several files read, made by the first process that asks for it: workers of pytest-xdist share no fixtures."""

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What `make` returns of a folder that it fills, once for all processes of a run of the tests.

    Args:
        factory: of the session's temporary folders.
        name: of the folder; whoever gives the same one means the same things.
        make: is called by one process, while others that ask wait; what it returns is pickled.
    """
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"made-{name}"
    returned = place.with_suffix(".pickle")
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not returned.exists():
            shutil.rmtree(place, ignore_errors=True)  # what another process made a part of
            place.mkdir()
            returned.write_bytes(pickle.dumps(make(place)))
    return pickle.loads(returned.read_bytes())
