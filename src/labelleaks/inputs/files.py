"""Rows from files, for the command line: arrays, tables, texts, folders of pictures. Nothing is unpickled."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError, in_a_line, nearest
from labelleaks.inputs.csv_tables import read_json_lines, read_lines, read_texts, typed
from labelleaks.inputs.pictures import ImageFormat, read_folder, scaled
from labelleaks.inputs.tables import column_names, read_parquet, select, to_table

__all__ = ["LABEL_COLUMNS", "FileRows", "ImageFormat", "as_labels", "check_pickable", "read_rows", "write_picked"]

_X_KEYS = ("x", "images", "features", "inputs", "texts")
_TABLES = (".csv", ".jsonl", ".parquet")
_Y_KEYS = ("y", "labels", "label", "target")
LABEL_COLUMNS = ("label", "y", "target", "class")


@dataclass(frozen=True, eq=False)
class FileRows:
    """Rows of a file."""

    x: Any
    """n rows: an array (n, *shape) of the file's dtype; of a table a DataFrame, or
    :class:`labelleaks.inputs.row_format.Columns` where pandas is not installed; a list of strings"""
    y: NDArray[Any] | None = None
    """(n,) labels: numbers or strings"""
    ids: tuple[str, ...] | None = None
    texts: Mapping[str, Sequence[str]] | None = None
    """Of a CSV: the feature columns as they are written; with other files of a run their types are read together."""

    def __len__(self) -> int:
        return int(self.x.shape[0]) if hasattr(self.x, "shape") else len(self.x)


def read_rows(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    text_column: str | None = None,
    header: bool | None = None,
    images: ImageFormat | None = None,
) -> FileRows:
    """Read rows, and labels where there are any.

    Args:
        path: .npz (arrays ``x``, ``images``, ``features`` or ``texts``; ``y`` or ``labels``; ``ids``), .npy, .csv with
            a header, .jsonl (an object a line), .parquet, or a folder with one folder of pictures for each class.
        labels: a .npy of labels, for a .npy of rows.
        label_column, id_column: columns of a table; the label column is found where it is called label, y, target or
            class.
        text_column: column of a table whose texts are the rows, as they are written, a missing one as an empty text;
            other columns, but for label and id, are left out.
        header: whether the first line of a CSV names its columns; None: yes, unless it looks like a row (refused).
        images: how pictures are turned into inputs.

    Raises:
        InputError: the file is missing or not of its form; says what was found and what is expected.
    """
    path = Path(path)
    images = images or ImageFormat()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return FileRows(*read_folder(path, images))
    readers: dict[str, Callable[[], FileRows]] = {
        ".npz": lambda: _npz(path, images),
        ".npy": lambda: _npy(path, labels, images),
        ".csv": lambda: _csv(path, read_texts(path, header=header), label_column, id_column),
        ".jsonl": lambda: _json_lines(path, label_column, id_column),
        ".parquet": lambda: _parquet(path, label_column, id_column),
    }
    if text_column is not None:
        if path.suffix.lower() not in _TABLES:
            raise InputError(f"{path}: text_column={text_column!r} belongs to a table ({', '.join(_TABLES)})")
        return _texts(path, text_column, label_column, id_column, header)
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: unknown ending {path.suffix!r}; known: {', '.join(readers)}, or a folder of pictures"
        )
    rows = readers[path.suffix.lower()]()
    if rows.y is not None and len(rows.y) != len(rows):
        raise InputError(f"{path}: {len(rows)} rows but {len(rows.y)} labels")
    if rows.ids is not None and len(rows.ids) != len(rows):
        raise InputError(f"{path}: {len(rows)} rows but {len(rows.ids)} ids")
    return rows


def write_picked(
    path: Path, out: Path, places: Sequence[int], labels: Mapping[int, Any], *, label_column: str | None = None
) -> None:
    """Write some rows of a file to another of its form, as they stand there but for some labels.

    Args:
        path: .npz, .csv or .parquet, with labels. places: rows from 0, in the order wanted.
        labels: of some rows, by their places: one of the file's own labels.

    Raises:
        InputError: another kind of file.
    """
    check_pickable(path)
    ending = path.suffix.lower()
    if ending == ".npz":
        _pick_npz(path, out, places, labels)
    elif ending == ".csv":
        _pick_csv(path, out, places, labels, label_column)
    else:
        _pick_parquet(path, out, places, labels, label_column)


def check_pickable(path: Path) -> None:
    """Raise InputError for a file that :func:`write_picked` cannot write some rows of."""
    if path.suffix.lower() not in (".npz", ".csv", ".parquet"):
        raise InputError(f"{path}: rows of .npz, .csv and .parquet files can be written; save the data as one of these")


def _pick_npz(path: Path, out: Path, places: Sequence[int], labels: Mapping[int, Any]) -> None:
    with _load_numpy(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    y_key = next(k for k in _Y_KEYS if k in arrays)
    n = len(arrays[y_key])
    for place, label in labels.items():
        arrays[y_key][place] = label
    index = np.array(places, dtype=np.int64)
    np.savez_compressed(
        out, allow_pickle=False, **{k: v[index] if v.ndim and len(v) == n else v for k, v in arrays.items()}
    )


def _pick_csv(
    path: Path, out: Path, places: Sequence[int], labels: Mapping[int, Any], label_column: str | None
) -> None:
    header, *body = read_lines(path)
    column = header.index(_roles(path, header, label_column, None)[0] or "")
    spelled = dict(
        zip(as_labels([line[column] for line in body]).tolist(), (line[column] for line in body), strict=True)
    )
    for place, label in labels.items():
        body[place][column] = spelled[label]
    with out.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *(body[place] for place in places)])


def _pick_parquet(
    path: Path, out: Path, places: Sequence[int], labels: Mapping[int, Any], label_column: str | None
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = _roles(path, table.column_names, label_column, None)[0]
    values = table.column(name).to_pylist()
    spelled = dict(zip(as_labels(values).tolist(), list(values), strict=True))
    for place, label in labels.items():
        values[place] = spelled[label]
    at = table.column_names.index(name)
    table = table.set_column(at, table.field(at), pa.chunked_array([pa.array(values, type=table.field(at).type)]))
    pq.write_table(table.take(list(places)), out)


def _load_numpy(path: Path) -> Any:
    stream: IO[bytes] | None = None
    try:
        stream = path.open("rb")
        held: Any = np.load(stream, allow_pickle=False)
    except Exception as error:  # NumPy parses the head of a damaged file as Python and raises what that raises
        if stream is not None:
            stream.close()
        raise InputError(f"{path}: not a plain NumPy file ({in_a_line(error)})") from None
    if isinstance(held, np.lib.npyio.NpzFile):
        held.fid = stream  # type: ignore[assignment]  # closed with it; of bytes, whatever the stubs say
    else:
        stream.close()
    return held


def _npz(path: Path, images: ImageFormat) -> FileRows:
    held = _load_numpy(path)
    if not isinstance(held, np.lib.npyio.NpzFile):
        raise InputError(f"{path}: not an .npz archive")
    with held:
        x_key = next((k for k in _X_KEYS if k in held.files), None)
        if x_key is None:
            raise InputError(f"{path}: holds {held.files}, expected rows under one of {list(_X_KEYS)}")
        y_key = next((k for k in _Y_KEYS if k in held.files), None)
        try:
            x = held[x_key]
            y = None if y_key is None else held[y_key]
            ids = tuple(str(i) for i in held["ids"]) if "ids" in held.files else None
        except Exception as error:  # as above, and what zipfile raises
            raise InputError(f"{path}: cannot be read ({in_a_line(error)})") from None
    if x.dtype.kind == "U" and x.ndim == 1:
        return FileRows(x.tolist(), y, ids)
    return FileRows(scaled(path, x, images, named_images=x_key == "images"), y, ids)


def _npy(path: Path, labels: str | Path | None, images: ImageFormat) -> FileRows:
    x = _load_numpy(path)
    if not isinstance(x, np.ndarray):
        raise InputError(f"{path}: not a .npy array")
    y = None
    if labels is not None:
        if not Path(labels).exists():
            raise InputError(f"{labels}: no such file")
        y = _load_numpy(Path(labels))
    return FileRows(scaled(path, x, images, named_images=False), y)


def _texts(
    path: Path, text_column: str, label_column: str | None, id_column: str | None, header: bool | None
) -> FileRows:
    """The texts of one column of a table, with labels and ids."""
    if path.suffix.lower() == ".csv":
        columns: Mapping[str, Any] = read_texts(path, header=header)
    elif path.suffix.lower() == ".jsonl":
        columns = read_json_lines(path)
    else:
        table, _ = read_parquet(path)
        values = {name: table[name] for name in column_names(table)}
        columns = {name: v.tolist() if hasattr(v, "tolist") else v.to_pylist() for name, v in values.items()}
    label, identity, _ = _roles(path, list(columns), label_column, id_column, others=text_column)
    missing = [value is None or value != value for value in columns[text_column]]
    odd = next((i for i, v in enumerate(columns[text_column]) if not (missing[i] or isinstance(v, str))), None)
    if odd is not None:
        raise InputError(f"{path}: column {text_column!r}, row {odd}: {columns[text_column][odd]!r} is no text")
    labels = None if label is None else _complete(path, columns[label], label)
    if labels is not None and "" in labels:
        raise InputError(f"{path}: column {label!r}, row {labels.index('')}: no label")
    y = None if labels is None else as_labels(labels)
    ids = None if identity is None else tuple(map(str, _complete(path, columns[identity], identity)))
    return FileRows(["" if gone else v for v, gone in zip(columns[text_column], missing, strict=True)], y, ids)


def _json_lines(path: Path, label_column: str | None, id_column: str | None) -> FileRows:
    columns = read_json_lines(path)
    label, identity, features = _roles(path, list(columns), label_column, id_column)
    ids = None if identity is None else tuple(map(str, _complete(path, columns[identity], identity)))
    return FileRows(
        x=to_table({name: columns[name] for name in features}),
        y=None if label is None else as_labels(_complete(path, columns[label], label)),
        ids=ids,
    )


def _csv(path: Path, columns: Mapping[str, Sequence[str]], label_column: str | None, id_column: str | None) -> FileRows:
    label, identity, features = _roles(path, list(columns), label_column, id_column)
    texts = {name: columns[name] for name in features}
    if label is not None and "" in columns[label]:
        raise InputError(f"{path}: column {label!r}, row {columns[label].index('')}: no label")
    return FileRows(
        x=to_table({name: _typed(path, name, texts[name]) for name in features}),
        y=None if label is None else as_labels(columns[label]),
        ids=None if identity is None else tuple(columns[identity]),
        texts=texts,
    )


def _typed(path: Path, name: str, texts: Sequence[str]) -> NDArray[Any]:
    try:
        return typed(texts)
    except InputError as error:
        raise InputError(f"{path}: column {name!r}: {error}") from None


def _parquet(path: Path, label_column: str | None, id_column: str | None) -> FileRows:
    table, index = read_parquet(path)
    label, identity, features = _roles(path, column_names(table), label_column, id_column)
    return FileRows(
        x=select(table, features),
        y=None if label is None else as_labels(_values(path, table, label)),
        ids=index if identity is None else tuple(map(str, _values(path, table, identity))),
    )


def _values(path: Path, table: Any, name: str) -> list[Any]:
    """A label or id column, no value of which may be missing."""
    return _complete(path, table[name].tolist() if hasattr(table, "iloc") else table.column(name).to_pylist(), name)


def _complete(path: Path, column: Any, name: str) -> list[Any]:
    values: list[Any] = column.tolist() if hasattr(column, "tolist") else list(column)
    gone = next((row for row, value in enumerate(values) if value is None or value != value), None)
    if gone is not None:
        raise InputError(f"{path}: column {name!r}, row {gone}: no value")
    return values


def _roles(
    path: Path, columns: Sequence[str], label_column: str | None, id_column: str | None, *, others: str | None = None
) -> tuple[str | None, str | None, list[str]]:
    """The label column, the id column and the features of a table."""
    for wanted in (label_column, id_column, others):
        if wanted is not None and wanted not in columns:
            raise InputError(f"{path}: no column {wanted!r}{nearest(wanted, columns)}")
    label = label_column or next((name for name in LABEL_COLUMNS if name in columns), None)
    identity = id_column or ("id" if "id" in columns else None)
    features = [name for name in columns if name not in (label, identity)]
    if not features:
        raise InputError(f"{path}: no feature column beside {label!r} and {identity!r}")
    return label, identity, features


def as_labels(values: Sequence[Any]) -> NDArray[Any]:
    """Return a label column as whole numbers or booleans where all are, float64 where all are numbers, else as text."""
    texts = [str(value) for value in values]
    found = typed(texts)
    if found.dtype.kind in "biu":
        return found
    if found.dtype.kind == "f" and not np.isnan(found).any():
        whole = bool((found == np.round(found)).all()) and bool((np.abs(found) < 2**53).all())
        return found.astype(np.int64) if whole else found
    return np.array(texts)
