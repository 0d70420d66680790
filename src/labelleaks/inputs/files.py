"""Rows from files, for the command line: .npz, .npy, .csv, .parquet, folders of pictures. Nothing is unpickled."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError, MissingExtra, in_a_line, nearest

__all__ = ["LABEL_COLUMNS", "FileRows", "ImageFormat", "as_labels", "read_columns", "read_rows"]

_X_KEYS = ("x", "images", "features", "inputs")
_Y_KEYS = ("y", "labels", "label", "target")
LABEL_COLUMNS = ("label", "y", "target", "class")
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm"}


@dataclass(frozen=True)
class FileRows:
    """Rows of a file."""

    x: NDArray[Any]
    """(n, *shape)"""
    y: NDArray[Any] | None = None
    """(n,) labels: numbers or strings"""
    ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ImageFormat:
    """Conversion of stored 8-bit pictures (N, H, W, C) to a model's inputs.

    Args:
        layout: ``"chw"`` (torch) or ``"hwc"``.
        scale: what pixel values are divided by; 255 gives [0, 1], 1 keeps 0 … 255.
    """

    layout: str = "chw"
    scale: float = 255.0

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, C) or (N, H, W) uint8 -> float32 in the layout and units asked for."""
        x = images.astype(np.float32) / np.float32(self.scale)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 and self.layout == "chw" else x


def read_rows(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    images: ImageFormat | None = None,
) -> FileRows:
    """Read rows, and labels where there are any.

    Args:
        path: .npz (arrays ``x``, ``images`` or ``features``; ``y`` or ``labels``; ``ids``), .npy, .csv with a header,
            .parquet, or a folder with one folder of pictures for each class.
        labels: a .npy of labels, for a .npy of rows.
        label_column, id_column: columns of a table; the label column is found where it is called label, y, target or
            class.
        images: how 8-bit pictures are turned into inputs.

    Raises:
        InputError: the file is missing or not of its form; says what was found and what is expected.
    """
    path = Path(path)
    images = images or ImageFormat()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return _picture_folder(path, images)
    readers: dict[str, Callable[[], FileRows]] = {
        ".npz": lambda: _npz(path, images),
        ".npy": lambda: _npy(path, labels, images),
        ".csv": lambda: _table(path, read_columns(path), label_column, id_column),
        ".parquet": lambda: _table(path, read_columns(path), label_column, id_column),
    }
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: unknown ending {path.suffix!r}; known: {', '.join(readers)}, or a folder of pictures"
        )
    rows = readers[path.suffix.lower()]()
    if rows.y is not None and len(rows.y) != len(rows.x):
        raise InputError(f"{path}: {len(rows.x)} rows but {len(rows.y)} labels")
    if rows.ids is not None and len(rows.ids) != len(rows.x):
        raise InputError(f"{path}: {len(rows.x)} rows but {len(rows.ids)} ids")
    return rows


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
    return FileRows(_pixels(x, images), y, ids)


def _pixels(x: NDArray[Any], images: ImageFormat) -> NDArray[Any]:
    return images.apply(x) if x.dtype == np.uint8 and x.ndim in (3, 4) else x


def _npy(path: Path, labels: str | Path | None, images: ImageFormat) -> FileRows:
    x = _load_numpy(path)
    if not isinstance(x, np.ndarray):
        raise InputError(f"{path}: not a .npy array")
    y = None
    if labels is not None:
        if not Path(labels).exists():
            raise InputError(f"{labels}: no such file")
        y = _load_numpy(Path(labels))
    return FileRows(_pixels(x, images), y)


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a .csv or .parquet table by name, values as the file gives them (strings in a CSV).

    Raises:
        InputError: it cannot be read as a table; MissingExtra: pyarrow is needed.
    """
    return _csv(path) if path.suffix.lower() == ".csv" else _parquet(path)


def _csv(path: Path) -> dict[str, list[Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.reader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({in_a_line(error)})") from None
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise InputError(f"{path}: a header line and at least one row are needed")
    header, body = lines[0], lines[1:]
    for number, line in enumerate(body, 2):
        if len(line) != len(header):
            raise InputError(f"{path}: row {number} has {len(line)} fields, the header has {len(header)}")
    columns = {name: [line[i] for line in body] for i, name in enumerate(header)}
    if len(columns) != len(header):
        raise InputError(f"{path}: the header names a column twice")
    return columns


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(f"{path}: reading .parquet needs pyarrow: pip install 'labelleaks[tables]'") from None
    try:
        table = pq.read_table(path)
        return {name: table[name].to_pylist() for name in table.column_names}
    except Exception as error:  # of a damaged file, whatever is in it
        raise InputError(f"{path}: not a parquet file ({in_a_line(error)})") from None


def _table(path: Path, columns: dict[str, list[Any]], label_column: str | None, id_column: str | None) -> FileRows:
    for wanted in (label_column, id_column):
        if wanted is not None and wanted not in columns:
            raise InputError(f"{path}: no column {wanted!r}{nearest(wanted, columns)}")
    label = label_column or next((name for name in LABEL_COLUMNS if name in columns), None)
    identity = id_column or ("id" if "id" in columns else None)
    features = [name for name in columns if name not in (label, identity)]
    if not features:
        raise InputError(f"{path}: no feature column beside {label!r} and {identity!r}")
    numbers = [_numbers(path, name, columns[name]) for name in features]
    return FileRows(
        x=np.stack(numbers, axis=1),
        y=None if label is None else as_labels(columns[label]),
        ids=None if identity is None else tuple(str(value) for value in columns[identity]),
    )


def _numbers(path: Path, name: str, values: Sequence[Any]) -> NDArray[np.float32]:
    out = np.empty(len(values), dtype=np.float32)
    for row, value in enumerate(values):
        try:
            out[row] = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{path}: column {name!r}, row {row}: {value!r} is not a number; encode it (one-hot) or name it as "
                "the label or id column"
            ) from None
    return out


def as_labels(values: Sequence[Any]) -> NDArray[Any]:
    """Return a label column as int64 where all are whole numbers, float64 where all are numbers, else as strings."""
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        return np.array([str(value) for value in values])
    return numbers.astype(np.int64) if bool((numbers == np.round(numbers)).all()) else numbers


def _picture_folder(folder: Path, images: ImageFormat) -> FileRows:
    from PIL import Image

    files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in _PICTURES)
    if not files:
        raise InputError(
            f"{folder}: no pictures in folders below it; one folder for each class is expected (cat/1.png, dog/1.png)"
        )
    arrays = []
    for file in files:
        try:
            with Image.open(file) as picture:
                arrays.append(np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB")))
        except Exception as error:  # a decoder raises anything over damaged bytes
            raise InputError(f"{file}: not a readable picture ({in_a_line(error)})") from None
        if arrays[-1].shape != arrays[0].shape:
            raise InputError(
                f"{file}: {arrays[-1].shape}, but {files[0]} is {arrays[0].shape}; bring all pictures to one size first"
            )
    stacked = np.stack(arrays)
    if stacked.ndim == 3:
        stacked = stacked[..., None]
    return FileRows(
        x=images.apply(stacked),
        y=np.array([file.parent.name for file in files]),
        ids=tuple(f"{file.parent.name}/{file.name}" for file in files),
    )
