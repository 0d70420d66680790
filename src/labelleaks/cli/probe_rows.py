"""Rows that ``labelleaks probe`` asks about: a file's, or made up as the service says that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelleaks.cli.rows import bring
from labelleaks.cli.spec import DataSpec
from labelleaks.errors import InputError, nearest
from labelleaks.inputs.files import read_rows
from labelleaks.inputs.row_format import is_frame, learn
from labelleaks.inputs.tables import column_names
from labelleaks.targets.http.discover import Spoken
from labelleaks.targets.http.openapi import Endpoint, made_value
from labelleaks.targets.http.options import Http
from labelleaks.targets.http.rows import Rows, decoded

__all__ = ["RowChoice", "gathered"]


@dataclass(frozen=True)
class RowChoice:
    """Rows that the user asks for."""

    file: Path | None
    shape: str | None
    low: float
    high: float
    most: int


def gathered(asked: RowChoice, service: Spoken, options: Http) -> Rows:
    """Return at most ``asked.most`` rows to send.

    Raises:
        InputError: a file whose columns the service does not take, or rows that cannot be made up.
    """
    if asked.file is not None:
        return _of_file(asked.file, asked.most, service.operation, options)
    if service.columns or (service.operation is not None and service.operation.columns is not None):
        return _made_records(service.operation, asked.most)
    if service.operation is not None and service.operation.texts:
        raise InputError("it takes texts: give --rows FILE, a .csv with a column of texts and one of labels")
    return _made_arrays(asked, service)


def _of_file(file: Path, most: int, operation: Endpoint | None, options: Http) -> Rows:
    """Rows of a file as an audit sends them."""
    read = read_rows(file)
    if operation is not None and operation.columns:
        if not is_frame(read.x):
            raise InputError(f"{file}: it takes records with {', '.join(operation.columns)}: give a .csv or .parquet")
        _check_columns([str(name) for name in column_names(read.x)], operation, operation.columns, file)
    rows = bring({"rows": read}, options, DataSpec(), None)["rows"].x
    form = learn({"rows": rows})
    return decoded(form, form.encode(rows, str(file))[:most])


def _check_columns(names: list[str], operation: Endpoint, columns: Mapping[str, Any], file: Path) -> None:
    missing = [name for name in operation.required if name not in names]
    if missing:
        raise InputError(f"{file}: has no column {missing[0]!r}, which the service needs{nearest(missing[0], names)}")
    extra = [name for name in names if name not in columns]
    if extra:
        raise InputError(
            f"{file}: column {extra[0]!r} is none of what the service takes ({', '.join(columns)}): leave it "
            "out, or call it label or id where it is that"
        )


def _made_records(operation: Endpoint | None, most: int) -> Rows:
    columns: Mapping[str, Any] = {} if operation is None else operation.columns or {}
    draw = np.random.default_rng(0)
    made = {name: [made_value(schema, draw) for _ in range(most)] for name, schema in columns.items()}
    unknown = [name for name, values in made.items() if any(value is None for value in values)]
    if unknown or not made:
        of = f"column {unknown[0]!r}" if unknown else "its columns"
        raise InputError(f"no example is known of {of}: give --rows FILE, your members, with the columns it takes")
    return Rows(most, parts=made)


def _made_arrays(asked: RowChoice, service: Spoken) -> Rows:
    sizes: tuple[int, ...] = service.shape or ()
    if asked.shape is not None:
        words = asked.shape.split(",")
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            raise InputError(f"--shape {asked.shape}: sizes are needed, for example 64 or 3,32,32")
        sizes = tuple(int(word) for word in words)
    if not sizes:
        raise InputError("it does not tell the shape of a row: give --shape 64 (or 3,32,32), or --rows FILE")
    made = np.random.default_rng(0).random((asked.most, *sizes), dtype=np.float32)
    x = (asked.low + made * (asked.high - asked.low)).astype(np.float32)
    operation, datatype = service.operation, service.datatype or ""
    whole = (operation is not None and operation.whole) or "INT" in datatype or datatype == "BOOL"
    return Rows(len(x), np.rint(x).astype(np.int64) if whole else x)
