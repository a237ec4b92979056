"""The tiny study, made once."""

import pytest

from posedreamer_assets.config import Profile
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.arms.small import make_study
from posedreamer_assets_tests.made_once import made_once


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    """Its rows are only read."""
    return made_once(tmp_path_factory, "arms", make_study)
