"""Reading arrays from users' npz and npy files: never a pickle, never more memory than the file accounts for.

A zip archive of 2 MB can unpack to 4 GB. What an array will take is told by two headers, the zip directory's and the npy
header in front of the data. Both are read first, must agree, and must stay within a stated multiple of the file's size.
"""

import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posedreamer_assets.errors import PoseFileError

# Bodies that hold still, and hands and faces that nobody captured, are zeros that compress a thousandfold: the first
# 64 MiB are free. Beyond, motion of float64 numbers compresses 4 times at most.
FREE_BYTES, MULTIPLE = 64 << 20, 20
_MAX_FILE, _MAX_BYTES = 4 << 30, 4 << 30  # of the file; of all its arrays that are read, unpacked
_MAX_HEADER = 1 << 16
_BROKEN = (
    *(ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError),
    *(KeyError, IndexError, TypeError, OverflowError, SyntaxError, MemoryError, AttributeError),
    tokenize.TokenError,  # of NumPy's repair of headers that Python 2 wrote
)


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
        """The first of these names that is there."""
        return next((key for key in keys if key in self), None)

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

    Raises:
        PoseFileError: `pickle`, `truncated`, `unknown_layout`, `absurd_value` or `empty`, on opening.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        super().__init__(path)
        data = read_bytes(path) if content is None else content
        if data[:2] != b"PK":
            if data[:1] == b"\x80":
                raise PoseFileError(path, "pickle", "is a pickle, not an npz; pickles are never loaded")
            raise PoseFileError(path, "unknown_layout", f"is no npz: it begins with {data[:6]!r}")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            infos = self._zip.infolist()
        except _BROKEN as error:
            raise PoseFileError(path, "truncated", f"the zip archive is damaged: {error}") from error
        self._infos = {info.filename.removesuffix(".npy"): info for info in infos}
        self._budget = unpacked_limit(len(data))
        self._pickled: dict[str, bool] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._infos

    def names(self) -> list[str]:
        """Names of all arrays, sorted."""
        return sorted(self._infos)

    def is_pickled(self, key: str) -> bool:
        """Whether the array holds Python objects; only its header is read."""
        if key not in self._infos:
            return False
        if key not in self._pickled:
            try:
                with self._zip.open(self._infos[key]) as member:
                    self._pickled[key] = _read_header(member)[2].hasobject
            except _BROKEN:
                self._pickled[key] = False  # damaged: `raw` says so
        return self._pickled[key]

    def raw(self, key: str) -> np.ndarray:
        if key in self._infos and key not in self._held:
            self._held[key] = self._read(key, self._infos[key])
        return super().raw(key)

    def _read(self, key: str, info: zipfile.ZipInfo) -> np.ndarray:
        if info.file_size > self._budget:
            detail = f"{key}: {info.file_size} bytes unpacked, more than this file accounts for"
            raise PoseFileError(self.path, "absurd_value", detail)
        self._budget -= info.file_size
        try:
            with self._zip.open(info) as member:
                return _read_array(member, info.file_size)
        except _PickledArrayError as error:
            detail = f"{key}: array of Python objects; pickles are never loaded"
            raise PoseFileError(self.path, "pickle", detail) from error
        except _BROKEN as error:
            raise PoseFileError(self.path, "truncated", f"{key}: {error or type(error).__name__}") from error


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
        return _read_array(io.BytesIO(data), len(data))
    except _PickledArrayError as error:
        raise PoseFileError(path, "pickle", "array of Python objects; pickles are never loaded") from error
    except _BROKEN as error:
        raise PoseFileError(path, "truncated", f"{error or type(error).__name__}") from error


def unpacked_limit(packed_bytes: int) -> int:
    """Bytes that the contents of a compressed file may take unpacked: 64 MiB, and 20 times the file's size beyond."""
    return min(_MAX_BYTES, FREE_BYTES + MULTIPLE * packed_bytes)


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        PoseFileError: `truncated` when it cannot be read, `absurd_value` beyond 4 GiB, `empty` without any.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE:
            raise PoseFileError(path, "absurd_value", f"{size} bytes, more than {_MAX_FILE >> 30} GiB")
        data = path.read_bytes()
    except OSError as error:
        raise PoseFileError(path, "truncated", f"cannot be read: {error}") from error
    if not data:
        raise PoseFileError(path, "empty", "the file has no bytes")
    return data


class _PickledArrayError(ValueError):
    """The array holds Python objects."""


def _read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type; the stream is left where the data begin."""
    with warnings.catch_warnings():
        # Files written by Python 2 carry long integers in their header; NumPy reads them with a warning.
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version in ((2, 0), (3, 0)):  # 3.0 differs in the encoding of field names alone
            return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"npy format {version}")


def _read_array(stream: Any, size: int) -> np.ndarray:
    """An array of which `size` bytes are announced, header included."""
    head = io.BytesIO(stream.read(min(size, _MAX_HEADER)))
    shape, by_columns, dtype = _read_header(head)
    if dtype.hasobject:
        raise _PickledArrayError
    if dtype.fields is not None:
        raise ValueError("a structured array")
    counts = [int(count) for count in shape]
    expected = dtype.itemsize * math.prod(counts)
    if min(counts, default=0) < 0 or expected != size - head.tell():
        raise ValueError(f"header tells {expected} bytes of data, {size - head.tell()} follow")
    rest = head.read()
    content = rest + stream.read(expected - len(rest))
    if len(content) != expected:
        raise ValueError(f"{len(content)} of {expected} bytes of data")
    if stream.read(1):  # also makes the zip reader compare the checksum
        raise ValueError("more bytes than announced")
    array = np.frombuffer(content, dtype) if expected else np.empty(0, dtype)
    return array.reshape(counts, order="F" if by_columns else "C")
