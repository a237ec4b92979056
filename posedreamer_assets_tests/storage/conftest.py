"""A store in a local folder, and one on an S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options, running_server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_server() as endpoint:
        yield endpoint


@pytest.fixture
def local(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "store")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LanceStore:
    if request.param == "local":
        return LanceStore(tmp_path / "store")
    endpoint = request.getfixturevalue("endpoint")
    return LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "cache")
