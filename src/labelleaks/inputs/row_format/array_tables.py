"""Flat arrays that need a table's columns inside: numbers with missing values, text, objects of several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import to_numpy
from labelleaks.core.domains import Domain
from labelleaks.errors import InputError
from labelleaks.inputs.row_format.arrays import is_jax, to_jax
from labelleaks.inputs.row_format.frames import Declared, FrameFormat, learn_frame
from labelleaks.inputs.row_format.plain_tables import Columns

__all__ = ["ArrayTableFormat", "is_flat", "learn_array_table", "needs_columns"]

_NUMBERS: dict[type, np.dtype[Any]] = {bool: np.dtype(bool), int: np.dtype(np.int64), float: np.dtype(np.float64)}
"""Python's own numbers, and the dtype that turns into them again."""
_OBJECT = np.dtype(object)


class ArrayTableFormat:
    """Rows (n, width) of NumPy or torch, each feature a column with a codec of its own; see :func:`learn_array_table`.

    The target gets arrays of the users' dtype, or tensors: NaN where a value is missing.
    """

    kind = "array"
    plain = False

    def __init__(self, library: str, dtype: Any, kinds: tuple[np.dtype[Any], ...], columns: FrameFormat) -> None:
        self.library, self.dtype, self._kinds, self._columns = library, dtype, kinds, columns

    @property
    def numeric(self) -> bool:
        """Whether codes are the rows' own numbers, feature by feature, but for their dtype."""
        return self._columns.numeric

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one encoded row: wider than the user's where values are missing or are words."""
        return self._columns.shape

    @property
    def torch(self) -> bool:
        """Whether queries are torch tensors, which stay on their device."""
        return self.library == "torch"

    def each_value(self) -> Tensor:
        """Return codes (m, *shape) of rows that show every value of a feature that is no number."""
        return self._columns.each_value()

    def encode(self, rows: Any, what: str) -> Tensor:
        """Return float32 (n, *shape); InputError where a value cannot be carried exactly (feature named)."""
        x = self._columns.encode(_columns(to_numpy(rows), self._kinds, what), what)
        return x.to(rows.device) if isinstance(rows, Tensor) else x

    def decode(self, x: Tensor) -> Any:
        """Return (m, *shape) codes as an array or tensor (m, width); a tensor on ``x``'s device. Always a copy."""
        columns = self._columns.decode(x)
        made = np.empty((len(x), len(columns)), self._array_dtype)
        for place, column in columns.items():
            made[:, place] = column.astype(object) if made.dtype == object else column
        if self.library == "jax":
            return to_jax(made)
        return torch.from_numpy(made).to(x.device, self.dtype) if self.torch else made

    @property
    def _array_dtype(self) -> Any:
        """A dtype of NumPy that holds what the user's own does."""
        return to_numpy(torch.empty(0, dtype=self.dtype)).dtype if self.torch else self.dtype

    def domain(self) -> Domain:
        """Return what the features were seen to hold, or were said to."""
        return self._columns.domain()

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "library": self.library,
            "dtype": str(self.dtype).removeprefix("torch."),
            "columns": self._columns.describe()["columns"],
        }

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        return f"{self.library} {self.dtype} {self._columns.digest()}"


def is_flat(rows: Any) -> bool:
    """Whether rows are an array or tensor (n, width), not sparse."""
    return not hasattr(rows, "toarray") and not isinstance(rows, Mapping) and len(rows.shape) == 2


def needs_columns(rows: Any, positional: bool) -> bool:
    """Whether flat rows hold missing values, text or objects, or whole numbers that float32 does not hold.

    Args:
        positional: there is a domain, which goes by position and number.
    """
    if not is_flat(rows):
        return False
    array = to_numpy(rows)
    if array.dtype.kind in "OUS":
        return True
    if array.dtype.kind in "iu":
        return not positional and bool((array.astype(np.float32) != array).any()) and bool((array != array[0]).any())
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def learn_array_table(
    groups: Mapping[str, Any], *, declared: Mapping[Any, Declared] | None, positional: bool
) -> ArrayTableFormat:
    """Learn the features of flat arrays that belong together, one by one.

    Args:
        groups: what the rows are (``"members"``) -> (n, width) array or tensor, all of one library.
        declared: what the user says of some features, by their place 0 … width - 1.
        positional: the domain goes by position and number.

    Raises:
        InputError: dtypes or widths that differ, or what :func:`learn_frame` refuses.
    """
    what, first = next(iter(groups.items()))
    arrays = {name: to_numpy(rows) for name, rows in groups.items()}
    for other, rows in groups.items():
        text = arrays[other].dtype.kind in "US" and arrays[what].dtype.kind == arrays[other].dtype.kind
        if rows.shape[1:] != first.shape[1:]:
            raise InputError(
                f"{other}: rows of shape {tuple(rows.shape[1:])}, but {what} have {tuple(first.shape[1:])}"
            )
        if arrays[other].dtype != arrays[what].dtype and not text:
            raise InputError(
                f"{other}: {rows.dtype} rows, but {first.dtype} in {what}; bring both to one dtype (astype)"
            )
    kinds = tuple(_kind([array[:, i] for array in arrays.values()]) for i in range(first.shape[1]))
    if positional:
        _refuse_by_position(arrays)
    columns = learn_frame({name: _columns(array, kinds, name) for name, array in arrays.items()}, declared=declared)
    dtype = max((array.dtype for array in arrays.values()), key=lambda d: d.itemsize)
    library = "torch" if isinstance(first, Tensor) else "jax" if is_jax(first) else "numpy"
    return ArrayTableFormat(library, first.dtype if library == "torch" else dtype, kinds, columns)


def _refuse_by_position(arrays: Mapping[str, NDArray[Any]]) -> None:
    for what, array in arrays.items():
        numbers = array.dtype.kind == "f"
        gaps = np.isnan(array) if numbers else np.ones(array.shape, bool)
        if gaps.any():
            row, feature = divmod(int(gaps.reshape(-1).argmax()), array.shape[1])
            first = "" if numbers else f" ({array[row, feature]!r}, ...)"
            raise InputError(
                f"{what}: {'missing values' if numbers else f'values of dtype {array.dtype}'}{first}, the first "
                f"at row {row}, feature {feature}, and domain= goes by position and number; leave domain= out (it is "
                "then read off the columns), or say ll.Table({0: [...], ...})"
            )


def _kind(columns: list[NDArray[Any]]) -> np.dtype[Any]:
    """The dtype that a feature has inside: its own, or of objects that are Python's numbers of one kind, theirs."""
    if columns[0].dtype != object:
        return _OBJECT if columns[0].dtype.kind in "US" else columns[0].dtype
    values = [value for column in columns for value in column.tolist()]
    kinds = {_own_kind(value) for value in values}
    kind = kinds.pop() if len(kinds) == 1 else _OBJECT
    return _OBJECT if kind.kind == "i" and max(map(abs, values)) > 2**61 else kind


def _own_kind(value: Any) -> np.dtype[Any]:
    return _NUMBERS.get(type(value), _OBJECT)


def _columns(array: NDArray[Any], kinds: tuple[np.dtype[Any], ...], what: str) -> Columns:
    if array.shape[1:] != (len(kinds),):
        raise InputError(f"{what}: rows of shape {array.shape[1:]}, but others have {(len(kinds),)}")
    made: dict[Any, NDArray[Any]] = {}
    for i, kind in enumerate(kinds):
        if array.dtype == object and kind != _OBJECT:
            odd = [value for value in array[:, i].tolist() if _own_kind(value) != kind]
            if odd:
                raise InputError(
                    f"{what}: column {i}: {odd[0]!r} is a {type(odd[0]).__name__}, where others are {kind}"
                )
        made[i] = array[:, i].astype(kind)
    return Columns(made)
