"""Reading arrays from users' npz files: never a pickle, never more memory than the file accounts for."""

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from posedreamer_assets.errors import PoseFileError

_MAX_BYTES = 2 << 30  # of one array, unpacked
_BROKEN = (
    *(ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError),
    *(KeyError, IndexError, TypeError, OverflowError, SyntaxError, MemoryError, AttributeError),
)


class NpzArrays:
    """The arrays of one npz file, read when asked for.

    Raises:
        PoseFileError: `pickle`, `truncated`, `unknown_layout` or `empty`, on opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PoseFileError(path, "truncated", f"cannot be read: {error}") from error
        if not data:
            raise PoseFileError(path, "empty", "the file has no bytes")
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

    def __contains__(self, key: object) -> bool:
        return key in self._infos

    def names(self) -> list[str]:
        """Names of all arrays, sorted."""
        return sorted(self._infos)

    def raw(self, key: str) -> np.ndarray:
        """One array as stored.

        Raises:
            PoseFileError: `missing_key`, `pickle` (an array of Python objects) or `truncated`.
        """
        if key not in self._infos:
            raise PoseFileError(self.path, "missing_key", f"no array {key!r}; holds {', '.join(self.names()[:20])}")
        info = self._infos[key]
        if info.file_size > _MAX_BYTES:
            raise PoseFileError(self.path, "absurd_value", f"{key}: {info.file_size} bytes unpacked")
        try:
            with self._zip.open(info) as member:
                content = member.read(info.file_size + 1)
            return _parse_array(content)
        except PoseFileError:
            raise
        except _PickledArrayError as error:
            raise PoseFileError(
                self.path, "pickle", f"{key}: array of Python objects; pickles are never loaded"
            ) from error
        except _BROKEN as error:
            raise PoseFileError(self.path, "truncated", f"{key}: {error or type(error).__name__}") from error

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
            return array.astype(np.float64)

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


class _PickledArrayError(ValueError):
    """The array holds Python objects."""


def _parse_array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    with warnings.catch_warnings():
        # Files written by Python 2 carry long integers in their header; NumPy reads them with a warning.
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version in read_header:
            shape, _, dtype = read_header[version](stream)
            if dtype.hasobject:
                raise _PickledArrayError
            expected = dtype.itemsize
            for size in shape:
                expected *= int(size)
            if min((int(size) for size in shape), default=0) < 0 or expected != len(content) - stream.tell():
                raise ValueError(f"header tells {expected} bytes of data, {len(content) - stream.tell()} follow")
        elif version != (3, 0):
            raise ValueError(f"npy format {version}")
        return np.load(io.BytesIO(content), allow_pickle=False)
