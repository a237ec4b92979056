"""Damaged files of every kind: each is read, set aside in part, or refused by a named error; nothing else happens."""

import io
import os
import resource
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources import PoseFrames, ReadOptions, read_clips
from posedreamer_assets_tests.poses.sources.npz_kinds import (
    BODY_ONLY,
    CAMERAS,
    WITH_HANDS,
    base,
    clip_arrays,
    motionx_array,
    people_arrays,
)
from posedreamer_assets_tests.poses.sources.rig_kinds import KINDS, with_fingers, write_kind
from posedreamer_assets_tests.poses.sources.rigs import lively
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of

REASONS = frozenset(
    (
        *("nan", "shape", "missing_key", "dtype", "absurd_value", "empty", "pickle", "truncated", "syntax"),
        *("unknown_layout", "ambiguous_up_axis", "not_a_person", "hands_only"),
    )
)
# Files of each of the twelve kinds below: 480 in all, of the same seeds each time.
ROUNDS = int(os.environ.get("POSEDREAMER_MUTATIONS", "40"))
MOST_MEMORY_MB = 400  # by which reading may raise what the process has ever held
BODY = load_body()
OPTIONS = ReadOptions(0.5, 0, "own", BODY)
Arrays = dict[str, Any]

WORDS = ("nan", "-1.#IND", "1e999", "x", "1e30", "{", "}", "MOTION", "99999999999", "0x10", "-", "1,5", "JOINT", "\0")
HEADERS = {
    "Frames: 12": ("Frames: 1e9", "Frames: -3", "Frames: nan", "Frames:", "Frames: 0", "Frames: 99999999999999999999"),
    "Frame Time: 0.0333333": (
        "Frame Time: inf",
        "Frame Time: -1",
        "Frame Time: 1/0",
        "Frame Time: soon",
        "Frame Time:",
    ),
    "CHANNELS 3": ("CHANNELS 1000000", "CHANNELS -1", "CHANNELS 2.5", "CHANNELS nan", "CHANNELS 0"),
    "OFFSET": ("OFFSET 1e300", "OFFSET nan", "OFFSET inf", "OFFSETS"),
}


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """What is read takes no more than files of this size may: no header and no archive makes the process grow."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < MOST_MEMORY_MB


def outcome(path: Path) -> list[PoseFrames]:
    """What reading gives: finite bodies on or above the ground, or nothing where a named error refuses the file."""
    try:
        clips = read_clips(path, OPTIONS)
    except PoseFileError as error:
        assert error.reason in REASONS, error
        assert error.detail
        return []
    for clip in clips:
        assert {error.reason for error in clip.rejected} <= REASONS
        for name, values in clip.params.to_flat().items():
            assert np.isfinite(values).all(), name
        assert len(clip.names) == len(clip)
    return clips


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def struck(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for place in rng.integers(0, len(out), rng.integers(1, 9)):
        out[place] = int(rng.integers(256))
    return bytes(out)


def other_words(data: bytes, rng: np.random.Generator) -> bytes:
    words = data.decode().split(" ")
    for place in rng.integers(0, len(words), rng.integers(1, 4)):
        words[place] = WORDS[rng.integers(len(WORDS))]
    return " ".join(words).encode()


def other_lines(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.decode().splitlines()
    a, b = (int(i) for i in rng.integers(0, len(lines), 2))
    match rng.integers(3):
        case 0:
            del lines[a]
        case 1:
            lines.insert(b, lines[a])
        case _:
            lines[a], lines[b] = lines[b], lines[a]
    return "\n".join(lines).encode()


def swapped_columns(data: bytes, rng: np.random.Generator) -> bytes:
    head, _, rows = data.decode().partition("Frame Time: 0.0333333\n")
    order: np.ndarray | None = None
    out = []
    for row in rows.splitlines():
        numbers = row.split()
        order = rng.permutation(len(numbers)) if order is None else order
        out.append(" ".join(numbers[i] for i in order))
    return f"{head}Frame Time: 0.0333333\n{chr(10).join(out)}\n".encode()


def absurd_headers(data: bytes, rng: np.random.Generator) -> bytes:
    old = list(HEADERS)[rng.integers(len(HEADERS))]
    new = HEADERS[old][rng.integers(len(HEADERS[old]))]
    return data.decode().replace(old, new, 1).encode()


@pytest.mark.parametrize(
    "mutate", [cut, struck, other_words, other_lines, swapped_columns, absurd_headers], ids=lambda f: f.__name__
)
def test_damaged_bvh(tmp_path: Path, mutate: Callable[[bytes, np.random.Generator], bytes]) -> None:
    kinds = (*KINDS.values(), with_fingers(KINDS["motive"], "vrm"))
    rng = np.random.default_rng(7)
    path = tmp_path / "clip.bvh"
    for round_ in range(ROUNDS):
        whole = write_kind(path, kinds[round_ % len(kinds)], lively(seed=round_)).read_bytes()
        path.write_bytes(mutate(whole, rng))
        outcome(path)


def _few(arrays: Arrays) -> Arrays:
    return {k: v[:12] if np.ndim(v) and len(v) == 48 else v for k, v in arrays.items()}


def clips() -> list[Arrays]:
    """A clip in each of its spellings, 12 frames long."""
    return [_few(change(clip_arrays())) for change in (*WITH_HANDS.values(), *BODY_ONLY.values())]


def fits() -> list[Arrays]:
    arrays = arrays_of() | {"focal_px": np.full(4, 600.0), "principal_px": np.tile([320.0, 240.0], (4, 1))}
    return [arrays, *(change(arrays) for change in CAMERAS.values())]


def people() -> list[Arrays]:
    held = people_arrays([base(), BodyParams.zeros(48)])
    return [{k: v[:, :12] if v.shape[:2] == (2, 48) else v for k, v in held.items()}]


def values_spoilt(array: np.ndarray, rng: np.random.Generator) -> Any:
    if array.dtype.kind != "f" or not array.size:
        return np.array([None], dtype=object)
    array = array.astype(np.float64)
    bad = (np.nan, np.inf, -1e300, 1e12, 1e5)[rng.integers(5)]
    flat = array.reshape(-1)
    flat[rng.integers(0, array.size, int(rng.choice([1, 3, array.size])))] = bad
    return array


def columns_swapped(array: np.ndarray, rng: np.random.Generator) -> Any:
    return array[..., rng.permutation(array.shape[-1])] if array.ndim else array[None]


def shape_spoilt(array: np.ndarray, rng: np.random.Generator) -> Any:
    array = np.asarray(array)
    turned = (array.T, array[None], array[..., None], array[:0] if array.ndim else array[None], array.reshape(-1))
    return (*turned, array[:-1] if array.ndim else np.array([]), np.array(0.0))[rng.integers(7)]


def type_spoilt(array: np.ndarray, rng: np.random.Generator) -> Any:
    kind = ("complex128", "U8", "S3", "bool", "uint8", "float16", "object", "int64")[rng.integers(8)]
    with np.errstate(all="ignore"):
        return np.asarray(array).astype(kind) if array.dtype.kind in "fiu" else np.zeros(3, kind)


ARRAY_MUTATIONS = (values_spoilt, columns_swapped, shape_spoilt, type_spoilt)


@pytest.mark.parametrize("made", [clips, fits, people], ids=lambda f: f.__name__)
def test_damaged_arrays(tmp_path: Path, made: Callable[[], list[Arrays]]) -> None:
    kinds, rng, path = made(), np.random.default_rng(8), tmp_path / "file.npz"
    for round_ in range(ROUNDS):
        arrays = dict(kinds[round_ % len(kinds)])
        key = sorted(arrays)[rng.integers(len(arrays))]
        arrays[key] = ARRAY_MUTATIONS[round_ % 4](np.asarray(arrays[key]), rng)
        if round_ % 5 == 0:
            del arrays[sorted(arrays)[rng.integers(len(arrays))]]
        np.savez(path, **arrays)
        outcome(path)


@pytest.mark.parametrize("made", [clips, fits], ids=lambda f: f.__name__)
def test_damaged_archives(tmp_path: Path, made: Callable[[], list[Arrays]]) -> None:
    kinds, rng, path = made(), np.random.default_rng(9), tmp_path / "file.npz"
    for round_ in range(ROUNDS):
        stream = io.BytesIO()
        np.savez(stream, **kinds[round_ % len(kinds)])
        data = stream.getvalue()
        if round_ % 3 == 0:
            data = cut(data, rng)
        elif round_ % 3 == 1:
            data = struck(data, rng)
        else:  # a header that tells another shape in as many bytes
            at = [i for i in range(len(data)) if data[i : i + 9] == b"'shape': "]
            place = at[rng.integers(len(at))] + 10
            data = data[:place] + bytes([rng.choice(list(b"0123456789-(,)"))]) + data[place + 1 :]
        path.write_bytes(data)
        outcome(path)


def test_damaged_npy(tmp_path: Path) -> None:
    rng, path, whole = np.random.default_rng(10), tmp_path / "clip.npy", motionx_array(base())[:12]
    for round_ in range(ROUNDS):
        stream = io.BytesIO()
        np.save(stream, ARRAY_MUTATIONS[round_ % 4](whole, rng) if round_ % 2 else whole)
        data = stream.getvalue()
        path.write_bytes(data if round_ % 2 else (cut, struck)[round_ // 2 % 2](data, rng))
        outcome(path)


def test_a_file_that_unpacks_to_more_than_it_accounts_for_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": ((300 << 20) // 8 // 165, 165)}
    )
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("poses.npy", "w") as member:
            member.write(header.getvalue())
            left = (300 << 20) // 8 // 165 * 165 * 8
            while left:
                left -= member.write(block[: min(left, len(block))])
        archive.writestr("trans.npy", b"")
    tracemalloc.start()
    try:
        with pytest.raises(PoseFileError) as caught:
            read_clips(path, OPTIONS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "absurd_value"
    assert peak < 32 << 20
