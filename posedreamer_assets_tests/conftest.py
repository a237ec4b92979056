"""Fixtures shared by all tests."""

import os
import sys

import pytest

# Off-screen rendering, and no progress bars or notices of libraries in the output of tests.
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


@pytest.fixture(autouse=True)
def _no_home_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests name their home; none may touch the one that a user has set."""
    for name in ("POSEDREAMER_HOME", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="module")
def _definitions_are_loaded_with_no_closed_instance() -> None:
    """Dagster keeps whose state definitions are loaded with, and may keep an instance that another thread has collected."""
    if "dagster" in sys.modules:
        from dagster._core.storage.defs_state import base

        base._current_storage.set(None)
