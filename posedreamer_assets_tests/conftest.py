"""Fixtures shared by all tests."""

import os

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
