"""A tiny study, made once."""

import pytest

from posedreamer_assets.config import Profile
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.made_once import made_once
from posedreamer_assets_tests.students.small import make_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    """Its rows are only read."""
    return made_once(tmp_path_factory, "study", make_study)
