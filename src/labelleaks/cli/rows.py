"""The rows that a spec names: read, typed together, and brought to what the target is asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from labelleaks import data as datasets
from labelleaks.cli.spec import DataSpec, RowsSpec
from labelleaks.core.domains import Domain, Text
from labelleaks.errors import InputError, MissingExtra, SpecError
from labelleaks.inputs.files import FileRows, ImageFormat, read_rows
from labelleaks.inputs.row_format import Columns, Table, is_frame, learn
from labelleaks.inputs.row_format.text import is_prose
from labelleaks.inputs.tables import Dtype, as_numbers, column_names, is_numbers, one_type, type_together
from labelleaks.targets.http import Http
from labelleaks.targets.tables import column_names_of, takes_numbers_only, takes_table

__all__ = ["bring", "image_format", "labelled", "names_of", "read_one"]

_ARRAYS: dict[str, Dtype] = {"float32": "float32", "float64": "float64"}


def read_one(given: str | RowsSpec, data: DataSpec) -> FileRows:
    """Return the rows of one file, or of a data set's name."""
    images = image_format(data)
    if isinstance(given, str):
        path, _, labels = (given, "", "") if Path(given).exists() else given.partition(",")  # rows.npy,labels.npy
        text = data.text if Path(path).suffix.lower() in (".csv", ".jsonl", ".parquet") else None
        return read_rows(path, labels=labels or None, text_column=text, header=data.header, images=images)
    if given.dataset is not None:
        return _from_dataset(given)
    assert given.path is not None  # the spec was checked
    return read_rows(
        given.path,
        labels=given.labels,
        label_column=given.label_column,
        id_column=given.id_column,
        text_column=given.text_column or data.text,
        header=data.header,
        images=images,
    )


def image_format(data: DataSpec) -> ImageFormat:
    """Return what a spec says of pictures."""
    return ImageFormat(**data.images.model_dump())


def _from_dataset(given: RowsSpec) -> FileRows:
    """Rows of a data set, with their codes for labels and the set's name and their number for ids."""
    assert given.dataset is not None
    found = datasets.load(given.dataset, folder=given.folder)
    first, stop = given.rows or (0, len(found))
    if not first < stop <= len(found):
        raise SpecError(
            f"data: rows [{first}, {stop}] of {found.name}: there are {len(found)}, [0, {len(found)}] is all"
        )
    x, y = found.rows(range(first, stop))
    return FileRows(x.numpy(), y.numpy(), tuple(f"{found.name}-{i}" for i in range(first, stop)))


def labelled(side: str, rows: FileRows) -> FileRows:
    """Return the rows.

    Raises:
        InputError: they have no labels.
    """
    if rows.y is None:
        raise InputError(
            f"{side}: no labels; an .npz needs y or labels, a table a column label (or label_column: in the spec), "
            f"rows.npy its labels (--{side} rows.npy,labels.npy)"
        )
    return rows


def names_of(groups: Mapping[str, FileRows]) -> list[str] | None:
    """Return the ids of all candidates; where two files count alike, with their group before them. None: no ids.

    Raises:
        InputError: an id that is twice in one file.
    """
    found: list[str] = []
    for what, rows in groups.items():
        if rows.ids is None:
            return None
        if len(set(rows.ids)) < len(rows.ids):
            twice = next(name for i, name in enumerate(rows.ids) if name in rows.ids[:i])
            raise InputError(
                f"{what}: id {twice!r} is there twice; give each row an id of its own, or call the column otherwise"
            )
        found += rows.ids
    if len(set(found)) == len(found):
        return found
    return [f"{what.removesuffix('s')}-{name}" for what, rows in groups.items() for name in rows.ids or ()]


def bring(
    groups: Mapping[str, FileRows], target: Any, data: DataSpec, domain: Domain | Table | Text | None
) -> dict[str, FileRows]:
    """Return the groups with tables as what the target is asked with: tables, or numbers in columns.

    Args:
        groups: what the rows are -> rows as they were read. Arrays and pictures stay as they are.
        target: as it was loaded; None: answers that were recorded, of rows of the same kind.

    Raises:
        InputError: columns that do not fit together, or that are no numbers where the target takes nothing else.
    """
    tables = {what: rows for what, rows in groups.items() if is_frame(rows.x)}
    if not tables:
        return dict(groups)
    word = _only_texts(tables, target, data, domain)
    if word is not None:
        texts = {what: _written(rows, word) for what, rows in tables.items()}
        return {what: replace(rows, x=texts.get(what, rows.x), texts=None) for what, rows in groups.items()}
    if all(rows.texts is not None for rows in tables.values()):
        plain = data.as_ == "columns" or (data.as_ is None and isinstance(target, Http))  # names and values go out
        library = "columns" if plain else "pandas"
        made = type_together({what: rows.texts or {} for what, rows in tables.items()}, library=library)
    else:
        made = one_type({what: rows.x for what, rows in tables.items()})
    arrays = [rows.x for what, rows in groups.items() if what not in tables]
    made = _beside(arrays, made) if arrays else _as_asked(made, target, data, domain)
    return {what: replace(rows, x=made.get(what, rows.x)) for what, rows in groups.items()}


def _only_texts(
    tables: Mapping[str, FileRows], target: Any, data: DataSpec, domain: Domain | Table | Text | None
) -> str | None:
    """Return the name of the tables' only column, where it holds texts and nothing says that a table is wanted."""
    names = {tuple(column_names(rows.x)) for rows in tables.values()}
    if len(names) > 1 or data.as_ is not None or isinstance(domain, Table):
        return None
    columns = next(iter(names))
    if len(columns) != 1 or (target is not None and column_names_of(target) is not None):
        return None
    texts = [text for rows in tables.values() for text in _written(rows, columns[0])]
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    return columns[0] if isinstance(domain, Text) or is_prose(values) else None


def _written(rows: FileRows, name: str) -> list[Any]:
    if rows.texts is not None:
        return list(rows.texts[name])
    column = rows.x[name] if not hasattr(rows.x, "column_names") else rows.x.column(name)
    values = column.tolist() if hasattr(column, "tolist") else column.to_pylist()
    return ["" if value is None or value != value else value for value in values]


def _beside(arrays: Sequence[Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables beside files of arrays are arrays, too, in the dtype that these have where they are of one."""
    dtypes = {str(x.dtype) for x in arrays}
    dtype = next(iter(dtypes)) if len(dtypes) == 1 else ""
    return as_numbers(tables, _ARRAYS.get(dtype, "exact"), by_position=True)


def _as_asked(
    tables: Mapping[str, Any], target: Any, data: DataSpec, domain: Domain | Table | Text | None
) -> dict[str, Any]:
    word = data.as_
    if word is None:
        complete = is_numbers(tables)
        table = not complete if target is None else takes_table(target, complete_numbers=complete)
        word = "array" if not table else "columns" if isinstance(target, Http) else "frame"
    if word in ("frame", "columns"):
        if word == "frame" and any(isinstance(table, Columns) for table in tables.values()):
            raise MissingExtra(
                "data: the target gets a table with named columns, which needs pandas: pip install "
                "'labelleaks[tables]', or say data.as: columns (a dict of arrays)"
            )
        return dict(tables)
    by_position = domain is not None and not isinstance(domain, (Table, Text))
    if data.as_ is not None or not takes_numbers_only(target):
        return as_numbers(tables, _ARRAYS.get(word, "exact"), by_position=by_position)
    dtype: Dtype = "float32" if isinstance(target, nn.Module) else "whole"
    made = as_numbers(tables, dtype, by_position=by_position)
    carried = all(not is_frame(rows) for rows in made.values()) or learn(made).numeric
    return made if carried else as_numbers(tables, dtype, by_position=True)
