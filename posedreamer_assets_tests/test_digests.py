"""Digests: equal for equal content, whatever its order, chunking or process; different for any change."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedreamer_assets.digests import content_digest, digest, file_digest, folder_digest, row_digests

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("blob", pa.large_binary()),
        pa.field("n", pa.int64()),
        pa.field("x", pa.float32()),
        pa.field("flag", pa.bool_()),
        pa.field("vector", pa.list_(pa.float32(), 2)),
        pa.field("bits", pa.list_(pa.bool_(), 2)),
        pa.field("words", pa.list_(pa.string())),
        pa.field("values", pa.list_(pa.float32())),
    ]
)
float32 = st.floats(width=32, allow_nan=False)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.none() | st.text(max_size=3),
            "blob": st.none() | st.binary(max_size=3),
            "n": st.none() | st.integers(-(2**63), 2**63 - 1),
            "x": st.none() | float32,
            "flag": st.none() | st.booleans(),
            "vector": st.none() | st.lists(st.none() | float32, min_size=2, max_size=2),
            "bits": st.none() | st.lists(st.none() | st.booleans(), min_size=2, max_size=2),
            "words": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3),
            "values": st.none() | st.lists(float32, max_size=3),
        }
    ),
    max_size=6,
)


def _table(values: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(values, schema=SCHEMA)


@settings(deadline=None, max_examples=60)
@given(plain, plain)
def test_digests_of_plain_values_are_equal_only_for_equal_values(left: object, right: object) -> None:
    # repr tells 1 from 1.0 and True, and 0.0 from -0.0, as the digest does; key order is taken out first.
    def canonical(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{k!r}:{canonical(value[k])}" for k in sorted(value)) + "}"
        return "[" + ",".join(map(canonical, value)) + "]" if isinstance(value, list) else repr(value)

    assert (digest(left) == digest(right)) == (canonical(left) == canonical(right))


def test_digest_ignores_the_order_of_keys_and_set_members() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": (2, 3), "a": 1})
    assert digest({"s", "t"}) == digest({"t", "s"})


def test_digest_is_the_same_in_another_process_with_another_hash_seed() -> None:
    value = "{'b': {'x', 'y', 'z'}, 'a': [1, 2.5, None, b'q']}"
    code = f"from posedreamer_assets.digests import digest; print(digest({value}))"
    env = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[1])}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == digest({"b": {"x", "y", "z"}, "a": [1, 2.5, None, b"q"]})


def test_digest_takes_dataclasses_paths_and_arrays() -> None:
    @dataclass(frozen=True)
    class Point:
        x: int
        where: Path

    assert digest(Point(1, Path("a/b"))) == digest({"x": 1, "where": "a/b"})
    assert digest(np.float32(0.5)) == digest(0.5)
    assert digest(np.zeros(2, np.float32)) != digest(np.zeros(2, np.float64))
    assert digest(np.zeros((2, 1))) != digest(np.zeros((1, 2)))


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()])])
def test_digest_refuses_what_has_no_stable_form(value: object) -> None:
    with pytest.raises(TypeError, match="cannot digest"):
        digest(value)


@settings(deadline=None, max_examples=60)
@given(rows, st.randoms(use_true_random=False), st.integers(0, 6))
def test_row_digest_depends_on_its_row_alone(values: list[dict], random: object, cut: int) -> None:
    whole = row_digests(_table(values))
    alone = [row_digests(_table([v]))[0] for v in values]
    table = _table(values)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(min(cut, len(values)))])
    columns = list(SCHEMA.names)
    random.shuffle(columns)  # type: ignore[attr-defined]
    assert whole == alone == row_digests(chunked) == row_digests(table.select(columns))


@settings(deadline=None, max_examples=60)
@given(rows.filter(lambda r: len(r) >= 2))
def test_row_digests_are_equal_only_for_equal_rows(values: list[dict]) -> None:
    stored = [repr(v) for v in _table(values).to_pylist()]
    digests = row_digests(_table(values))
    for i in range(len(values)):
        for j in range(i):
            assert (stored[i] == stored[j]) == (digests[i] == digests[j])


def test_row_digest_tells_null_from_empty_and_zero() -> None:
    base = dict.fromkeys(SCHEMA.names)
    changes = [{}, {"name": ""}, {"blob": b""}, {"n": 0}, {"x": 0.0}, {"flag": False}, {"words": []}, {"words": [None]}]
    changes += [{"words": [""]}, {"words": ["", ""]}, {"vector": [0.0, 0.0]}, {"vector": [None, 0.0]}, {"values": []}]
    assert len(set(row_digests(_table([{**base, **c} for c in changes])))) == len(changes)


def test_row_digest_skips_what_it_is_told_to_skip() -> None:
    table = _table([{"name": "a", "n": 1}, {"name": "a", "n": 2}])
    first, second = row_digests(table, skip=["n"])
    assert first == second


def test_content_digest_ignores_order_but_counts_repetitions() -> None:
    assert content_digest(["a", "b"]) == content_digest(["b", "a"])
    assert len({content_digest(x) for x in ([], ["a"], ["a", "a"], ["aa"], ["a", "b"])}) == 5


def test_folder_digest_follows_names_and_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "f").write_bytes(b"x" * 3_000_000)
    one, two = tmp_path / "one", tmp_path / "two"
    assert file_digest(one / "sub" / "f") == file_digest(two / "sub" / "f")
    assert folder_digest(one) == folder_digest(two)
    (two / "sub" / "f").rename(two / "sub" / "g")
    assert folder_digest(one) != folder_digest(two)
