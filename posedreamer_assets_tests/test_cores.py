"""One core for small products, all of them again afterwards."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cores import one_core


def threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_products_are_made_by_one_core_within_the_context_alone() -> None:
    before = threads()
    assert before
    with one_core():
        assert set(threads()) == {1}
    assert threads() == before


def test_an_error_gives_the_cores_back() -> None:
    before = threads()
    with pytest.raises(ValueError, match="in between"), one_core():
        raise ValueError("in between")
    assert threads() == before


def test_bodies_are_posed_by_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    matmul = np.matmul

    def watched(*args, **more):
        seen.append(threads())
        return matmul(*args, **more)

    monkeypatch.setattr(np, "matmul", watched)
    load_body().forward(BodyParams.zeros(1))
    assert seen
    assert all(set(found) == {1} for found in seen)
