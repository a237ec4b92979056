"""A home with all tables of three rounds, by random weights, once for all tests of reports."""

from unittest import mock

import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.runtime.small import make_every_table, make_one, passing

ROUNDS = [{"batches": 1, "size": 2}, {"batches": 1, "size": 3}]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Its rows are only read."""
    place = tmp_path_factory.mktemp("reported")
    # The judge sees hardly anything in such images: this keeps some and rejects some.
    store, profile = make_every_table(place, **{"curriculum.rounds": ROUNDS, "curation.min_oks": 0.02})
    home = Home(place)
    home.prepare(profile)
    with mock.patch.object(suite, "run_checks", passing):
        for stage in graph_of(profile):
            if stage.key != "quality_report":
                for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
                    make_one(store, profile, stage.key, key)
    return home
