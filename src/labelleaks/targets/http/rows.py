"""Rows as they go out: what the run's row format makes of queries, in numbers, texts and missing values of JSON.

Whole numbers stay whole numbers, of any size up to 64 bits; fractions are the float64 of the user's own float; a
missing value is None. What JSON has no type for (dates, bytes) is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import to_numpy
from labelleaks.errors import InputError
from labelleaks.inputs.row_format import FrameFormat, RowFormat, is_frame
from labelleaks.inputs.row_format.array_tables import ArrayTableFormat
from labelleaks.inputs.tables import column_names

__all__ = ["Rows", "check_sendable", "decoded", "float64", "in_order", "named"]

Sendable = NDArray[Any] | Sequence[Any]
"""Of named rows: a column (m,) of numbers or truth values, a column of texts and None, or arrays (m, *shape)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a request: one array (m, *shape), of numbers or of objects (texts, None), or parts by name."""

    count: int
    array: NDArray[Any] | None = None
    parts: Mapping[Any, Sendable] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, where: slice) -> Rows:
        """Return some of the rows."""
        count = len(range(*where.indices(self.count)))
        if self.array is not None:
            return Rows(count, self.array[where])
        return Rows(count, parts={name: part[where] for name, part in self.parts.items()})

    @property
    def names(self) -> tuple[Any, ...]:
        """Names of the parts, in the user's order; () of an array."""
        return tuple(self.parts)

    @property
    def columns(self) -> bool:
        """Whether rows are those of a table: every part has one value a row."""
        return bool(self.parts) and all(not isinstance(p, np.ndarray) or p.ndim == 1 for p in self.parts.values())

    def one_array(self) -> NDArray[Any] | None:
        """Return the rows as one array: as they are, or complete columns of numbers side by side; else None."""
        if self.array is not None:
            return self.array
        parts = [part for part in self.parts.values() if isinstance(part, np.ndarray) and part.dtype.kind in "iuf"]
        if not self.columns or len(parts) < len(self.parts):
            return None
        made = np.stack([part.astype(np.result_type(*parts)) for part in parts], 1)
        for place, (name, part) in enumerate(self.parts.items()):
            wrong = np.flatnonzero(made[:, place].astype(part.dtype) != part)  # type: ignore[union-attr]
            if len(wrong):
                raise InputError(
                    f"column {name!r}: {part[wrong[0]]} beside fractions is not exact in one array of numbers: say "
                    "columns: with the names, which sends each column by itself"
                )
        return made

    def lists(self) -> list[Any]:
        """Return each row as a list: nested as its array, or the values of its columns in their order."""
        if self.array is not None:
            found: list[Any] = float64(self.array).tolist()
            return found
        lists = [_values(part) for part in self.parts.values()]
        return lists[0] if len(lists) == 1 and not self.columns else [list(row) for row in zip(*lists, strict=True)]

    def records(self) -> list[dict[str, Any]]:
        """Return each row as an object with its values by name."""
        lists = [_values(part) for part in self.parts.values()]
        names = [str(name) for name in self.parts]
        return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


def _values(part: Sendable) -> list[Any]:
    return float64(part).tolist() if isinstance(part, np.ndarray) else list(part)


def float64(array: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as JSON has them: fractions as float64, the same values; all else as it is; in C order.

    Raises:
        ValueError: one is NaN or an infinity, for which JSON has no number.
    """
    if array.dtype.kind != "f":
        return np.ascontiguousarray(array)
    if not np.isfinite(array).all():
        raise ValueError("a row holds NaN or an infinity, which JSON cannot carry")
    return np.ascontiguousarray(array, dtype=np.float64)


def decoded(form: RowFormat, x: Tensor) -> Rows:
    """Return queries (m, *shape) as rows to send.

    Raises:
        InputError: a column holds something that JSON has no type for.
    """
    return _rows(form.decode(x), len(x))


def _rows(given: Any, count: int) -> Rows:
    if is_frame(given):
        return Rows(count, parts={name: _column(given[name], name) for name in column_names(given)})
    if isinstance(given, Mapping):
        return Rows(count, parts={name: _array(part) for name, part in given.items()})
    return Rows(count, _array(given))


def _array(given: Any) -> NDArray[Any]:
    """Numbers or truth values; else texts, numbers and None as objects."""
    array = to_numpy(given.toarray() if hasattr(given, "toarray") else given)
    if array.dtype.kind in "biu" or (array.dtype.kind == "f" and not np.isnan(array).any()):
        return array
    made = np.empty(array.size, dtype=object)
    made[:] = [_value(value, place) for place, value in enumerate(array.reshape(-1).tolist())]
    return made.reshape(array.shape)


def _column(given: Any, name: Any) -> Sendable:
    """A column of any library: an array where all are numbers or all are truth values, else a list."""
    dtype = getattr(given, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        array = np.asarray(given)
        if dtype.kind != "f" or not np.isnan(array).any():
            return array
    listed = (
        given.to_pylist() if hasattr(given, "to_pylist") else given.to_list() if hasattr(given, "to_list") else None
    )
    return [_value(value, name) for value in (given.tolist() if listed is None else listed)]


_WHOLE = range(-(1 << 63), 1 << 64)


def _value(value: Any, name: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (str, bool)) or (isinstance(value, int) and value in _WHOLE):
        return value
    if isinstance(value, float) and abs(value) != float("inf"):
        return value
    raise InputError(
        f"column {name!r}: {value!r} (a {type(value).__name__}) has no type in JSON: give it as your service takes it, "
        "for example as text: .astype(str)"
    )


def check_sendable(form: RowFormat) -> None:
    """Refuse rows that a service cannot be sent.

    Raises:
        InputError: names the column and the first such value.
    """
    if isinstance(form, (FrameFormat, ArrayTableFormat)):
        decoded(form, form.each_value())


def in_order(rows: Rows, columns: tuple[str, ...]) -> Rows:
    """Return named rows with their parts in the order of ``columns``, () for their own.

    Raises:
        InputError: other names.
    """
    if not columns:
        return rows
    known = {str(name): part for name, part in rows.parts.items()}
    odd = sorted(set(known) ^ set(columns))
    if odd:
        where = "rows have no such column" if odd[0] in columns else "columns: does not name it"
        raise InputError(f"column {odd[0]!r}: the {where}; the rows' columns are {', '.join(known)}")
    return Rows(rows.count, parts={name: known[name] for name in columns})


def named(rows: Rows, columns: tuple[str, ...]) -> Rows:
    """Return rows with the names that the user gives to the features of an array, or with their own.

    Raises:
        InputError: other names than the rows', or another number of them.
    """
    if rows.array is None or not columns:
        return in_order(rows, columns)
    data = rows.array.reshape(len(rows), -1)
    if data.shape[1] != len(columns):
        raise InputError(f"columns: {len(columns)} names for rows of {data.shape[1]} features; name each feature")
    return Rows(rows.count, parts={name: data[:, place] for place, name in enumerate(columns)})
