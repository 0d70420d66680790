"""CIFAR's Python version without running its pickles: lists, dicts, bytes, arrays of 8-bit numbers, nothing else.

Unpickling runs whatever a file names. Here the names that NumPy's arrays need stand for small classes of our own,
which keep bytes and a shape; every other name is refused, so nothing of NumPy, or of anything else, is called.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError, in_a_line

__all__ = ["read_pickle"]


class _Marker:
    """Stands for ``numpy.ndarray`` where it is an argument."""


class _DType:
    """Stands for ``numpy.dtype``: remembers its code."""

    def __init__(self, code: Any, *rest: Any) -> None:
        self.code = code.decode("ascii", "replace") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields: of no matter for 8-bit numbers."""


class _Array:
    """Stands for an array under construction."""

    value: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_order, data = state
        if not isinstance(dtype, _DType) or dtype.code != "u1":
            raise pickle.UnpicklingError("an array of something else than 8-bit numbers")
        data = data.encode("latin1") if isinstance(data, str) else data
        if math.prod(shape) != len(data):
            raise pickle.UnpicklingError("an array whose shape does not fit its bytes")
        order: Any = "F" if column_order else "C"
        self.value = np.frombuffer(data, dtype=np.uint8).reshape(shape, order=order)


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Marker,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside itself")


def read_pickle(content: bytes, what: str) -> dict[str, Any]:
    """Return the dict that a batch of CIFAR holds: keys as str, arrays as uint8, all else as it is.

    Raises:
        InputError: not such a pickle, or one that names anything but a plain array.
    """
    try:
        _check_places(content)
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(batch, dict):
            raise pickle.UnpicklingError(f"it holds a {type(batch).__name__}")
        return {_text(key): value.value if isinstance(value, _Array) else value for key, value in batch.items()}
    except (pickle.UnpicklingError, EOFError, *_MALFORMED) as error:
        raise InputError(f"{what}: not a batch of CIFAR, refused ({in_a_line(error)})") from None


def _check_places(content: bytes) -> None:
    """Refuse places in the unpickler's memory beyond the file's own length: it would make room for all below them."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it puts something into place {argument} of its memory")


_MALFORMED = (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError, MemoryError, ImportError)
"""What the unpickler raises over bytes that are no pickle."""


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
