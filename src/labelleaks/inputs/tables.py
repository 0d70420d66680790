"""Tables from files: built as the user's code has them, typed together, and as numbers where a target takes these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError, MissingExtra, in_a_line
from labelleaks.inputs.csv_tables import typed
from labelleaks.inputs.row_format.columns import library_of
from labelleaks.inputs.row_format.frames import check_names
from labelleaks.inputs.row_format.plain_tables import Columns, NumberTable

__all__ = [
    "Dtype",
    "as_numbers",
    "column_names",
    "is_numbers",
    "join",
    "one_type",
    "pick",
    "read_parquet",
    "select",
    "to_table",
    "type_together",
]

Dtype = Literal["exact", "whole", "float32", "float64"]
"""Of an array of numbers: the first of float32, float64, int64 that holds all of them exactly; float32, where it holds
all whole numbers; or what is said, rounded if need be."""


def to_table(columns: Mapping[str, NDArray[Any]], *, library: str = "pandas") -> Any:
    """Return columns as a DataFrame with the dtypes of ``pandas.read_csv``; as Columns where pandas is not there."""
    if library != "pandas":
        return Columns(columns)
    try:
        import pandas as pd
    except ImportError:
        return Columns(columns)
    return pd.DataFrame({name: pd.Series(_as_read(values)) for name, values in columns.items()})


def _as_read(values: NDArray[Any]) -> Any:
    """Texts as a list, of which pandas makes its own kind of text."""
    texts = values.dtype == object and any(isinstance(value, str) for value in values)
    return values.tolist() if texts else values


def read_parquet(path: Path) -> tuple[Any, tuple[str, ...] | None]:
    """Return a .parquet file as a DataFrame (without pandas a pyarrow Table), and its index where that is no count.

    Raises:
        InputError: it cannot be read as a table, or has no row; MissingExtra: pyarrow is needed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(f"{path}: reading .parquet needs pyarrow: pip install 'labelleaks[tables]'") from None
    try:
        import pandas as pd
    except ImportError:
        pd = None  # type: ignore[assignment]
    try:
        table: Any = pq.read_table(path) if pd is None else pd.read_parquet(path)
    except Exception as error:  # of a damaged file, whatever is in it
        raise InputError(f"{path}: not a parquet file ({in_a_line(error)})") from None
    if table.shape[0] == 0:
        raise InputError(f"{path}: at least one row is needed")
    if pd is None or type(table.index).__name__ == "RangeIndex":
        return table, None
    return table.reset_index(drop=True), tuple(str(name) for name in table.index)


def column_names(table: Any) -> list[Any]:
    """Return the names of a table's columns, in order."""
    library = library_of(table)
    assert library is not None
    return library.names(table)


def select(table: Any, names: Sequence[str]) -> Any:
    """Return a table with these columns only."""
    return table.select(names) if hasattr(table, "select") else table[list(names)]


def pick(rows: Any, places: Sequence[int]) -> Any:
    """Return the rows at ``places`` of an array, tensor, list, sparse matrix, table or dict, as one of its kind."""
    places = list(places)
    if isinstance(rows, Columns):
        return rows.of({name: column[places] for name, column in rows.items()})
    if isinstance(rows, Mapping):
        return {name: pick(values, places) for name, values in rows.items()}
    if hasattr(rows, "iloc"):
        return rows.iloc[places].reset_index(drop=True)
    if isinstance(rows, list):
        return [rows[i] for i in places]
    if hasattr(rows, "tocsr"):
        return rows.tocsr()[places]
    return rows.take(places) if hasattr(rows, "column_names") else rows[places]


def join(parts: Sequence[Any]) -> Any:
    """Return arrays or tables of one kind, one behind the other; columns are matched by name."""
    first = parts[0]
    if isinstance(first, list):
        return [row for part in parts for row in part]
    if isinstance(first, Columns):
        return first.of({name: np.concatenate([part[name] for part in parts]) for name in first})
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(list(parts), ignore_index=True)
    if hasattr(first, "column_names"):
        import pyarrow as pa

        return pa.concat_tables([part.select(first.column_names) for part in parts])
    return np.concatenate(list(parts))


# --- one type for all files of a run ----------------------------------------------------------------------------------


def type_together(texts: Mapping[str, Mapping[str, Sequence[str]]], *, library: str = "pandas") -> dict[str, Any]:
    """Return the tables of several CSV files with each column typed as if they were one file.

    Args:
        texts: what each table is -> its columns as they are written.
        library: ``"pandas"``, or ``"columns"`` for a dict of arrays.

    Raises:
        InputError: as :func:`labelleaks.inputs.csv_tables.typed`, or columns that differ; names table and column.
    """
    names = list(next(iter(texts.values())))
    for what, columns in texts.items():
        check_names(names, list(columns), what)
    made: dict[str, dict[str, NDArray[Any]]] = {what: {} for what in texts}
    ends = np.cumsum([len(next(iter(columns.values()))) for columns in texts.values()])[:-1]
    for name in names:
        try:
            values = typed([text for columns in texts.values() for text in columns[name]])
        except InputError as error:
            raise InputError(f"{next(iter(texts))}: column {name!r}: {error}") from None
        for what, part in zip(made, np.split(values, ends), strict=True):
            made[what][name] = part
    return {what: to_table(columns, library=library) for what, columns in made.items()}


def one_type(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return DataFrames in which a column that has fractions or gaps in one table only is of one type in all."""
    if not all(hasattr(table, "iloc") for table in tables.values()):
        return dict(tables)
    made = {what: table.copy() for what, table in tables.items()}
    for name in set.intersection(*(set(table.columns) for table in made.values())):
        dtypes = {table[name].dtype for table in made.values()}
        kinds = {dtype.kind for dtype in dtypes if isinstance(dtype, np.dtype)}
        if len(dtypes) < 2 or not all(isinstance(dtype, np.dtype) for dtype in dtypes):
            continue
        if kinds == {"b", "O"}:
            wide: Any = object
        elif kinds <= {"i", "u", "f"} and all(_holds(np.dtype(float), t[name].to_numpy()) for t in made.values()):
            wide = np.float64
        else:
            continue
        for table in made.values():
            table[name] = table[name].astype(wide)
    return made


# --- numbers ----------------------------------------------------------------------------------------------------------


def is_numbers(tables: Mapping[str, Any], *, gaps: bool = False) -> bool:
    """Whether every column is of numbers (no truth values, no categories), none missing but for ``gaps``."""
    for table in tables.values():
        for name in column_names(table):
            values, missing, kind = _split(table, name)
            if kind not in "iuf" or values.dtype.kind not in "iuf" or (missing.any() and not gaps):
                return False
    return True


def _split(table: Any, name: Any) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    library = library_of(table)
    assert library is not None
    values, missing, dtype = library.split(table, name)
    return values, missing, str(getattr(dtype, "kind", values.dtype.kind))


def as_numbers(tables: Mapping[str, Any], dtype: Dtype, *, by_position: bool) -> dict[str, Any]:
    """Return tables as rows of numbers, the columns in the order of the first table's.

    Args:
        tables: what each is -> table of numbers; truth values become 0 and 1.
        by_position: the domain goes by position: arrays (n, columns). Else arrays where every number lies in [0, 1],
            and :class:`NumberTable` where not, whose domain is read off its columns.

    Raises:
        InputError: a column that holds something else, is missing or has no value where arrays are needed, or numbers
            that no dtype holds exactly.
    """
    names = column_names(next(iter(tables.values())))
    columns: dict[str, dict[str, NDArray[Any]]] = {}
    for what, table in tables.items():
        check_names(names, column_names(table), what)
        columns[what] = {name: _numbers(table, name, what) for name in names}
    parts = [column for table in columns.values() for column in table.values()]
    kind = _dtype(parts, dtype)
    if by_position or all(bool(((part >= 0) & (part <= 1)).all()) for part in parts):
        return {
            what: np.stack([column.astype(kind) for column in table.values()], 1) for what, table in columns.items()
        }
    like = NumberTable()
    like.dtype = kind
    rounded = {name for table in columns.values() for name, part in table.items() if not _holds(kind, part)}
    return {
        what: like.of({name: part.astype(kind) if name in rounded else part for name, part in table.items()})
        for what, table in columns.items()
    }


def _numbers(table: Any, name: str, what: str) -> NDArray[Any]:
    values, missing, kind = _split(table, name)
    if kind not in "biuf" or values.dtype.kind not in "biuf":
        raise InputError(
            f"{what}: column {name!r} ({values[0]!r}, …) is not of numbers: say data.as: frame, which gives the target "
            "a table, or leave the column out of the file"
        )
    if kind == "b":
        values = values.astype(np.int64)
    return np.where(missing, np.nan, values.astype(np.float64)) if missing.any() else values


def _dtype(columns: Sequence[NDArray[Any]], wanted: Dtype) -> np.dtype[Any]:
    if wanted in ("float32", "float64"):
        return np.dtype(wanted)
    if wanted == "whole":
        columns = [column for column in columns if column.dtype.kind in "iu"]
        if all(_holds(np.dtype(np.float32), column) for column in columns):
            return np.dtype(np.float32)
    for name in ("float32", "float64", "int64", "uint64"):
        if all(_holds(np.dtype(name), column) for column in columns):
            return np.dtype(name)
    raise InputError(
        "whole numbers beyond 2^53 beside fractions: no array holds both exactly; say data.as: frame, which gives the "
        "target a table"
    )


def _holds(dtype: np.dtype[Any], column: NDArray[Any]) -> bool:
    """Whether a column comes back from ``dtype`` as it was."""
    if dtype.kind in "iu" and column.dtype.kind == "f":
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        back = column.astype(dtype).astype(column.dtype)
    return bool(((back == column) | ((back != back) & (column != column))).all())
