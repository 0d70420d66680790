"""Tables of pandas, polars and pyarrow: columns taken apart and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelleaks.inputs.row_format.plain_tables import Columns, ColumnsLibrary

__all__ = ["ColumnValues", "Library", "library_of"]

ColumnValues = tuple[NDArray[Any], NDArray[np.bool_], Any]
"""Values (n,), numbers or objects; which are missing, bool (n,); the column's dtype in its library."""
DecodedColumns = Mapping[Any, tuple[NDArray[Any], NDArray[np.bool_] | None, Any]]


class Library(Protocol):
    """Reads and builds the tables of one library."""

    @property
    def name(self) -> str: ...

    def names(self, table: Any) -> list[Any]:
        """Return the names of the columns, in order."""
        ...

    def split(self, table: Any, name: Any) -> ColumnValues:
        """Take one column apart. Numbers, times and categories become numbers; all else stays objects."""
        ...

    def known(self, dtype: Any) -> Sequence[Any] | None:
        """Return all values that a column of this dtype can hold, as :meth:`split` gives them; None: not fixed."""
        ...

    def build(self, columns: DecodedColumns, rows: int) -> Any:
        """Return a table of what :meth:`split` gave, with the same names, order and dtypes."""
        ...

    def first_difference(self, table: Any, other: Any, name: Any) -> int | None:
        """Return the first row at which two tables differ in a column, None where they do not."""
        ...


class Pandas:
    """Tables of pandas."""

    name = "pandas"

    def names(self, table: Any) -> list[Any]:
        return list(table.columns)

    def split(self, table: Any, name: Any) -> ColumnValues:
        import pandas as pd

        series = table[name]
        dtype = series.dtype
        missing = series.isna().to_numpy()
        if isinstance(dtype, pd.CategoricalDtype):
            return series.cat.codes.to_numpy().astype(np.int64), missing, dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
            return series.to_numpy(), missing, dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "mM":
            return series.to_numpy().view(np.int64), missing, dtype
        if isinstance(dtype, pd.DatetimeTZDtype):
            return series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().view(np.int64), missing, dtype
        if (
            isinstance(dtype, pd.api.extensions.ExtensionDtype)
            and hasattr(dtype, "numpy_dtype")
            and dtype.kind in "biuf"
        ):
            if isinstance(series.array, pd.arrays.NumpyExtensionArray) or not hasattr(series.array, "_mask"):
                return _objects(series.to_numpy(dtype=object)), np.zeros(len(series), bool), dtype
            return series.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0)), missing, dtype
        return _objects(series.to_numpy(dtype=object)), np.zeros(len(series), bool), dtype

    def known(self, dtype: Any) -> Sequence[Any] | None:
        import pandas as pd

        return range(len(dtype.categories)) if isinstance(dtype, pd.CategoricalDtype) else None

    def build(self, columns: DecodedColumns, rows: int) -> Any:
        import pandas as pd

        made = [_pandas_array(*column) for column in columns.values()]
        kinds = {array.dtype for array in made}
        if (
            len(made) > 1
            and len(kinds) == 1
            and all(type(array) is np.ndarray and array.dtype.kind in "iuf" for array in made)
        ):
            table = pd.DataFrame(np.stack(made).T, copy=False)  # one block, some five times as fast as one by one
        else:
            table = pd.DataFrame(dict(enumerate(made)), index=pd.RangeIndex(rows), copy=False)
        table.columns = _index(tuple(columns), tuple(type(name) for name in columns)).view()
        return table

    def first_difference(self, table: Any, other: Any, name: Any) -> int | None:
        a, b = table[name], other[name]
        if a.dtype != b.dtype:
            return 0
        return _first(list(a), list(b))


@lru_cache(maxsize=64)
def _index(names: tuple[Any, ...], kinds: tuple[type, ...]) -> Any:
    """Return names as an index; ``kinds`` tell 1 from True and 1.0."""
    import pandas as pd

    return pd.Index(list(names))


def _pandas_array(values: NDArray[Any], missing: NDArray[np.bool_] | None, dtype: Any) -> Any:
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        codes = values.astype(np.int64)
        return pd.Categorical.from_codes(codes if missing is None else np.where(missing, -1, codes), dtype=dtype)
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        if missing is None or not missing.any():
            return values.astype(dtype, copy=False)
        return np.where(missing, np.nan, values).astype(dtype)
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return _times(values, missing).view(dtype)
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = pd.Series(_times(values, missing).view(f"M8[{dtype.unit}]"))
        return naive.dt.tz_localize("UTC").dt.tz_convert(dtype.tz).array
    if values.dtype != object:
        made = pd.array(values, dtype=dtype)
        if missing is not None and missing.any():
            made[missing] = pd.NA
        return made
    return pd.Series(values, dtype=object) if str(dtype) == "object" else pd.array(values, dtype=dtype)


def _times(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    return values if missing is None else np.where(missing, np.iinfo(np.int64).min, values)


class Polars:
    """Tables of polars."""

    name = "polars"

    def names(self, table: Any) -> list[Any]:
        return list(table.columns)

    def split(self, table: Any, name: Any) -> ColumnValues:
        series = table[name]
        dtype = series.dtype
        missing = series.is_null().to_numpy().astype(bool)
        if dtype.is_numeric() and not dtype.is_decimal():
            filled = series.fill_null(0).to_numpy()
            nan = np.isnan(filled) if filled.dtype.kind == "f" else np.zeros(len(filled), bool)
            if not nan.any():  # NaN and null are two things in polars; a column with both stays objects
                return filled, missing, dtype
        return _objects(series.to_list()), np.zeros(len(series), bool), dtype

    def known(self, dtype: Any) -> Sequence[Any] | None:
        return None

    def build(self, columns: DecodedColumns, rows: int) -> Any:
        import polars as pl

        return pl.DataFrame([pl.Series(n, _with_none(v, m), dtype=d) for n, (v, m, d) in columns.items()])

    def first_difference(self, table: Any, other: Any, name: Any) -> int | None:
        a, b = table[name], other[name]
        return 0 if a.dtype != b.dtype else _first(a.to_list(), b.to_list())


class Arrow:
    """Tables of pyarrow."""

    name = "pyarrow"

    def names(self, table: Any) -> list[Any]:
        return list(table.column_names)

    def split(self, table: Any, name: Any) -> ColumnValues:
        import pyarrow as pa

        column = table.column(name)
        missing = column.is_null().to_numpy().astype(bool)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            filled = column.fill_null(0).to_numpy()
            if filled.dtype.kind != "f" or not np.isnan(filled).any():
                return filled, missing, column.type
        return _objects(column.to_pylist()), np.zeros(len(column), bool), column.type

    def known(self, dtype: Any) -> Sequence[Any] | None:
        return None

    def build(self, columns: DecodedColumns, rows: int) -> Any:
        import pyarrow as pa

        return pa.table({n: pa.array(_with_none(v, m), type=d) for n, (v, m, d) in columns.items()})

    def first_difference(self, table: Any, other: Any, name: Any) -> int | None:
        a, b = table.column(name), other.column(name)
        return 0 if a.type != b.type else _first(a.to_pylist(), b.to_pylist())


def _with_none(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Any:
    if missing is None or not missing.any():
        return values.tolist() if values.dtype == object else values
    return [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]


def _objects(values: Any) -> NDArray[Any]:
    found = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        found[i] = value
    return found


def _first(a: Sequence[Any], b: Sequence[Any]) -> int | None:
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        if type(one) is not type(other):
            return row
        same = one is other or (one != one and other != other) or one == other
        if not same:
            return row
    return None


def library_of(rows: Any) -> Library | None:
    """Return the library whose table ``rows`` is; None where it is no table. Imports nothing."""
    if isinstance(rows, Columns):
        return ColumnsLibrary(rows)
    home, name = type(rows).__module__.partition(".")[0], type(rows).__name__
    known: dict[tuple[str, str], Library] = {
        ("pandas", "DataFrame"): _PANDAS, ("polars", "DataFrame"): _POLARS, ("pyarrow", "Table"): _ARROW,
    }  # fmt: skip
    return known.get((home, name))


_PANDAS, _POLARS, _ARROW = Pandas(), Polars(), Arrow()
