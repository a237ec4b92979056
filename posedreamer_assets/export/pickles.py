"""Pickles for other people's readers: written on request, never read.

NumPy 2 pickles arrays under module names that the older releases, which those readers are pinned to, do not have. Here an
array is an empty `numpy.ndarray` and its state, which every release can load.
"""

import io
import pickle
from typing import Any

import numpy as np

_PROTOCOL = 4


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray:
            return np.ndarray, ((0,), obj.dtype), obj.__reduce__()[2]
        return NotImplemented


def dumps(value: Any) -> bytes:
    """Pickle plain values and arrays; NumPy scalars are to be given as arrays without axes."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=_PROTOCOL).dump(value)
    return buffer.getvalue()


def object_npy(value: Any) -> bytes:
    """A `.npy` file whose one element is an object; `np.load(..., allow_pickle=True)[name].item()` gives it back."""
    array = np.empty((), object)
    array[()] = value
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    return buffer.getvalue() + dumps(array)
