"""The tiny study, made once."""

import pytest

from posedreamer_assets.config import Profile
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.arms.small import make_stages, small_study


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    """Its rows are only read."""
    place = tmp_path_factory.mktemp("arms")
    profile = small_study(place)
    store = LanceStore(str(place / "storage"))
    make_stages(store, profile)
    return store, profile
