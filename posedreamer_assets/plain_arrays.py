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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from posedreamer_assets.errors import ArrayFileError

# Bodies that hold still, and hands and faces that nobody captured, are zeros that compress a thousandfold: the first
# 64 MiB are free. Beyond, motion of float64 numbers compresses 4 times at most.
FREE_BYTES, MULTIPLE = 64 << 20, 20
MAX_BYTES = 4 << 30  # of a file; of all its arrays that are read, unpacked
_MAX_HEADER = 1 << 16
BROKEN = (
    *(ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError),
    *(KeyError, IndexError, TypeError, OverflowError, SyntaxError, MemoryError, AttributeError),
    tokenize.TokenError,  # of NumPy's repair of headers that Python 2 wrote
)  # what zip and npy readers raise about damaged files


def unpacked_limit(packed_bytes: int) -> int:
    """Bytes that the contents of a compressed file may take unpacked: 64 MiB, and 20 times the file's size beyond."""
    return min(MAX_BYTES, FREE_BYTES + MULTIPLE * packed_bytes)


class Budget:
    """Bytes that may still be unpacked; several archives in one file share one.

    Attributes:
        left: how many.
    """

    def __init__(self, packed_bytes: int) -> None:
        self.left = unpacked_limit(packed_bytes)

    def take(self, name: str, size: int) -> None:
        """Count bytes that are about to be unpacked.

        Raises:
            ArrayFileError: `absurd_value`: there are not that many left.
        """
        if size > self.left:
            raise ArrayFileError(
                "absurd_value",
                f"{name}: {size} bytes unpacked, more than this file accounts for (64 MiB and {MULTIPLE} times its size for "
                "all of its arrays); if that is right, save it without compression",
            )
        self.left -= size


class PlainNpz:
    """The arrays of an npz by name, each read when it is asked for; none that holds Python objects, and no more than is told.

    Args:
        stream: the file, open for reading and seekable.
        size: its bytes.
        budget: of what may be unpacked; None for one of its own.

    Raises:
        ArrayFileError: `truncated`: it is not a whole zip archive. Of an array, when asked for: `absurd_value`, `pickle`,
            or `truncated`.
    """

    def __init__(self, stream: Any, size: int, budget: Budget | None = None) -> None:
        try:
            self._zip = zipfile.ZipFile(stream)
            infos = self._zip.infolist()
        except BROKEN as error:
            raise ArrayFileError("truncated", f"the zip archive is damaged: {error}") from error
        self._infos = {info.filename.removesuffix(".npy"): info for info in infos}
        self._budget = budget or Budget(size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def keys(self) -> list[str]:
        """Names of all arrays; with it, `dict(npz)` reads all of them."""
        return list(self._infos)

    def __contains__(self, key: object) -> bool:
        return key in self._infos

    def __getitem__(self, key: str) -> np.ndarray:
        info = self._infos[key]
        self._budget.take(key, info.file_size)
        try:
            with self._zip.open(info) as member:
                return read_array(member, info.file_size)
        except ArrayFileError as error:
            raise ArrayFileError(error.reason, f"{key}: {error}") from error
        except BROKEN as error:
            raise ArrayFileError("truncated", f"{key}: {error or type(error).__name__}") from error

    def is_pickled(self, key: str) -> bool:
        """Whether the array holds Python objects, which are never loaded; only its header is read."""
        try:
            with self._zip.open(self._infos[key]) as member:
                return _read_header(io.BytesIO(member.read(_MAX_HEADER)))[2].hasobject
        except BROKEN:
            return False  # damaged: who reads it is told


@contextmanager
def open_npz(path: Path) -> Iterator[PlainNpz]:
    """The arrays of a file.

    Raises:
        ArrayFileError: see `PlainNpz`.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        yield PlainNpz(file, path.stat().st_size)


def read_array(stream: Any, size: int) -> np.ndarray:
    """The array of an npy of which `size` bytes are announced, header included; read-only.

    Raises:
        ArrayFileError: `pickle`: it holds Python objects; `dtype`: a structured array.
        ValueError, and the other errors of `BROKEN`: a header that does not fit, or data that are cut off.
    """
    head = io.BytesIO(stream.read(min(size, _MAX_HEADER)))
    shape, by_columns, dtype = _read_header(head)
    if dtype.hasobject:
        raise ArrayFileError("pickle", "array of Python objects; pickles are never loaded")
    if dtype.fields is not None:
        raise ArrayFileError("dtype", "a structured array")
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
    # Of a bytearray, as torch and others write into what they are given.
    array = np.frombuffer(bytearray(content), dtype) if expected else np.empty(0, dtype)
    return array.reshape(counts, order="F" if by_columns else "C")


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
