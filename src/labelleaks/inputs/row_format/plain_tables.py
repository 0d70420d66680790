"""Tables with named columns that need no data-frame library: a dict of columns, and numbers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "ColumnsLibrary", "DictOfColumns", "NumberTable"]


class Columns(dict[str, NDArray[Any]]):
    """Columns (n,) by name, all of one length: int64, float64 (NaN: missing), bool, or objects (text, NaN).

    A target that is given such rows is asked with the same: ``rows["age"]`` is an array (m,).
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (len(next(iter(self.values()))) if self else 0, len(self))

    def of(self, columns: Mapping[str, NDArray[Any]]) -> Columns:
        """Return a table of the same kind with other columns."""
        return type(self)(columns)

    def sent(self) -> Any:
        """Return the rows as a target gets them."""
        return self


class DictOfColumns(Columns):
    """A dict of arrays (n,), as users bring it; the target gets such a dict."""

    def sent(self) -> dict[str, Any]:
        return dict(self)


class NumberTable(Columns):
    """Columns of numbers whose target gets an array (m, columns) of ``dtype``; names match rows, and are not sent."""

    dtype: np.dtype[Any] = np.dtype(np.float64)

    def of(self, columns: Mapping[str, NDArray[Any]]) -> NumberTable:
        made = NumberTable(columns)
        made.dtype = self.dtype
        return made

    def sent(self) -> NDArray[Any]:
        return np.stack([column.astype(self.dtype) for column in self.values()], 1)


class ColumnsLibrary:
    """Reads and builds :class:`Columns`; see :class:`labelleaks.inputs.row_format.columns.Library`."""

    def __init__(self, like: Columns) -> None:
        self._like = like
        self.name = "numpy" if isinstance(like, NumberTable) else "columns"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ColumnsLibrary) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def names(self, table: Columns) -> list[Any]:
        return list(table)

    def split(self, table: Columns, name: Any) -> tuple[NDArray[Any], NDArray[np.bool_], Any]:
        values = table[name]
        if values.dtype.kind in "US":  # texts of any length
            return values.astype(object), np.zeros(len(values), bool), np.dtype(values.dtype.kind)
        floating = values.dtype.kind == "f"
        return values, np.isnan(values) if floating else np.zeros(len(values), bool), values.dtype

    def known(self, dtype: Any) -> Sequence[Any] | None:
        return None

    def build(self, columns: Mapping[Any, tuple[NDArray[Any], NDArray[np.bool_] | None, Any]], rows: int) -> Any:
        made = {}
        for name, (values, missing, dtype) in columns.items():
            column = values.astype(dtype, copy=True)
            if missing is not None and missing.any():
                column[missing] = np.nan
            made[name] = column
        return self._like.of(made).sent()

    def first_difference(self, table: Columns, other: Any, name: Any) -> int | None:
        values = table[name]
        back = other[name] if isinstance(other, dict) else other[:, list(table).index(name)]
        if values.dtype == object:
            same = [
                a is b or (type(a) is type(b) and (a == b or (a != a and b != b)))
                for a, b in zip(values, back, strict=True)
            ]
        else:
            same = ((values == back) | ((values != values) & (back != back))).tolist()
        return None if all(same) else same.index(False)
