"""Rows to export, and stock smplx to read exports with."""

from pathlib import Path

import pytest

from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.shards import Options, export
from posedreamer_assets.export.subject import Subject
from posedreamer_assets_tests.export.readers import StockBody
from posedreamer_assets_tests.export.rows import TableReader, World, world


@pytest.fixture(scope="session")
def truth() -> World:
    return world()


@pytest.fixture(scope="session")
def subject() -> Subject:
    return Subject.load(None)


@pytest.fixture(scope="session")
def stock_body(tmp_path_factory: pytest.TempPathFactory) -> StockBody:
    pytest.importorskip("smplx")
    return StockBody(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, truth: World, subject: Subject):
    """Folder of an export by format; made once."""
    made: dict[tuple[str, bool], Path] = {}

    def make(name: str, pickles: bool = False) -> Path:
        if (name, pickles) not in made:
            folder = tmp_path_factory.mktemp(name)
            options = Options(shard_size=3, pickles=pickles, keypoints_only=True)
            export(TableReader(truth), subject, FORMATS[name], folder, options)
            made[name, pickles] = folder
        return made[name, pickles]

    return make
