"""Arrays of pose files by name, in the forms that readers ask for; errors name file and reason."""

import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from posedreamer_assets.errors import ArrayFileError, PoseFileError
from posedreamer_assets.plain_arrays import BROKEN, MAX_BYTES, Budget, PlainNpz, read_array


class Arrays:
    """Named arrays of a pose file.

    Attributes:
        path: the file, for errors.
    """

    def __init__(self, path: Path, held: Mapping[str, np.ndarray] | None = None) -> None:
        self.path = path
        self._held: dict[str, np.ndarray] = dict(held or {})

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def names(self) -> list[str]:
        """Names of all arrays, sorted."""
        return sorted(self._held)

    def first_of(self, *keys: str) -> str | None:
        """The first of these names that is there, as the file spells it: `POSES` is `poses` where nothing else is."""
        exact = next((key for key in keys if key in self), None)
        return exact or next((found for key in keys if (found := self._spelt.get(key.lower()))), None)

    @cached_property
    def _spelt(self) -> dict[str, str]:
        """Names as the file has them by those in lower case."""
        return {name.lower(): name for name in self.names()}

    def is_pickled(self, key: str) -> bool:
        """Whether the array holds Python objects, which are never loaded."""
        return self._held[key].dtype.hasobject if key in self._held else False

    def raw(self, key: str) -> np.ndarray:
        """One array as stored.

        Raises:
            PoseFileError: `missing_key`, `pickle` (an array of Python objects), `truncated` or `absurd_value`.
        """
        if key not in self._held:
            raise PoseFileError(self.path, "missing_key", f"no array {key!r}; holds {self.summary()}")
        return self._held[key]

    def summary(self) -> str:
        """The first names, for messages."""
        return ", ".join(self.names()[:20]) or "nothing"

    def numbers(self, key: str) -> np.ndarray:
        """One array as float64.

        Raises:
            PoseFileError: as `raw`; `dtype` when it does not hold real numbers.
        """
        array = self.raw(key)
        if array.dtype.kind not in "fiu":
            raise PoseFileError(self.path, "dtype", f"{key}: {array.dtype}, expected real numbers")
        # A signalling NaN in damaged data is reported as a bad frame later, not as a warning here.
        with np.errstate(invalid="ignore", over="ignore"):
            return array.astype(np.float64, copy=False)

    def text(self, key: str) -> list[str]:
        """One array of strings (or bytes) as a flat list.

        Raises:
            PoseFileError: as `raw`; `dtype` when it does not hold text.
        """
        array = self.raw(key)
        if array.dtype.kind == "S":
            return [value.decode("utf-8", "replace") for value in array.reshape(-1).tolist()]
        if array.dtype.kind != "U":
            raise PoseFileError(self.path, "dtype", f"{key}: {array.dtype}, expected text")
        try:
            return [str(value) for value in array.reshape(-1).tolist()]
        except ValueError as error:
            raise PoseFileError(self.path, "dtype", f"{key}: not valid text: {error}") from error

    def word(self, *keys: str) -> str:
        """The first text under one of these names, lower case; empty where there is none."""
        key = self.first_of(*keys)
        if key is None or self.is_pickled(key) or self.raw(key).dtype.kind not in "SU":
            return ""
        return (self.text(key) or [""])[0].strip().lower()

    def number(self, key: str) -> float:
        """A single number.

        Raises:
            PoseFileError: as `numbers`; `shape` when it holds another count than one; `nan`.
        """
        values = self.numbers(key).reshape(-1)
        if values.size != 1:
            raise PoseFileError(self.path, "shape", f"{key}: {values.size} values, expected one")
        if not np.isfinite(values[0]):
            raise PoseFileError(self.path, "nan", f"{key} is not finite")
        return float(values[0])

    def rows(self, key: str, width: int, count: int | None = None) -> np.ndarray:
        """An array as (n, width) float64; further axes are joined, a lone row gets n = 1.

        Raises:
            PoseFileError: as `numbers`; `shape` when it does not fit.
        """
        array = self.numbers(key)
        given = array.shape
        if array.size == 0:
            raise PoseFileError(self.path, "empty", f"{key}: shape {given}")
        if array.shape == (width,) or (array.ndim == 2 and array.shape[0] != 1 and array.size == width):
            array = array.reshape(1, width)
        array = array.reshape(len(array), -1) if array.ndim > 1 else array
        if array.ndim != 2 or array.shape[1] != width or (count is not None and len(array) != count):
            expected = f"({'n' if count is None else count}, {width})"
            raise PoseFileError(self.path, "shape", f"{key}: shape {given}, expected {expected}")
        return array


class NpzArrays(Arrays):
    """The arrays of one npz file, each read when first asked for and then kept.

    Args:
        path: the file.
        content: its bytes, where they lie inside of another file.
        budget: what may be unpacked of that other file.

    Raises:
        PoseFileError: `pickle`, `truncated`, `unknown_layout`, `absurd_value` or `empty`, on opening.
    """

    def __init__(self, path: Path, content: bytes | None = None, budget: Budget | None = None) -> None:
        super().__init__(path)
        data = read_bytes(path) if content is None else content
        if data[:2] != b"PK":
            if data[:1] == b"\x80":
                raise PoseFileError(path, "pickle", "is a pickle, not an npz; pickles are never loaded")
            if data[:2] == b"\x1f\x8b":
                raise PoseFileError(path, "unknown_layout", "is compressed by gzip: unpack it (gunzip)")
            raise PoseFileError(path, "unknown_layout", f"is no npz: it begins with {data[:6]!r}")
        try:
            self._npz = PlainNpz(io.BytesIO(data), len(data), budget)
        except ArrayFileError as error:
            raise PoseFileError(path, error.reason, str(error)) from error
        self._pickled: dict[str, bool] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._npz

    def names(self) -> list[str]:
        """Names of all arrays, sorted."""
        return sorted(self._npz)

    def is_pickled(self, key: str) -> bool:
        """Whether the array holds Python objects; only its header is read."""
        if key not in self._npz:
            return False
        if key not in self._pickled:
            self._pickled[key] = self._npz.is_pickled(key)
        return self._pickled[key]

    def raw(self, key: str) -> np.ndarray:
        if key in self._npz and key not in self._held:
            try:
                self._held[key] = self._npz[key]
            except ArrayFileError as error:
                raise PoseFileError(self.path, error.reason, str(error)) from error
        return super().raw(key)


def read_npy(path: Path) -> np.ndarray:
    """The one array of an npy file.

    Raises:
        PoseFileError: `empty`, `pickle`, `truncated` or `unknown_layout`.
    """
    data = read_bytes(path)
    if data[:6] != b"\x93NUMPY":
        if data[:1] == b"\x80":
            raise PoseFileError(path, "pickle", "is a pickle; pickles are never loaded")
        raise PoseFileError(path, "unknown_layout", f"is no npy: it begins with {data[:6]!r}")
    try:
        return read_array(io.BytesIO(data), len(data))
    except ArrayFileError as error:
        raise PoseFileError(path, error.reason, str(error)) from error
    except BROKEN as error:
        raise PoseFileError(path, "truncated", f"{error or type(error).__name__}") from error


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        PoseFileError: `truncated` when it cannot be read, `absurd_value` beyond 4 GiB, `empty` without any.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PoseFileError(path, "absurd_value", f"{size} bytes, more than {MAX_BYTES >> 30} GiB")
        data = path.read_bytes()
    except OSError as error:
        raise PoseFileError(path, "truncated", f"cannot be read: {error}") from error
    if not data:
        raise PoseFileError(path, "empty", "the file has no bytes")
    return data
