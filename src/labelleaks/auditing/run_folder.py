"""Files of a run's folder: the record's text and arrays, whole or not there, and the table of candidates."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from labelleaks.core import serialization
from labelleaks.errors import InputError

__all__ = ["SCHEMA_VERSION", "check_folder", "csv_of", "read_folder", "write_folder"]

SCHEMA_VERSION = 1
"""Of record.json. A record of another version is refused, never guessed at."""


def check_folder(path: str | Path, *, overwrite: bool = False) -> Path:
    """Return ``path`` as the folder of a new run.

    Raises:
        InputError: it is a file, nothing can be written there, or it holds a run already and ``overwrite`` is False.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the run")
    if not overwrite and any((folder / name).exists() for name in ("record.json", "arrays.npz")):
        raise InputError(
            f"{folder} holds another run; give another folder, or overwrite=True (--overwrite) to replace it"
        )
    serialization.check_writable(folder)
    return folder


def write_folder(
    folder: Path, document: dict[str, Any], arrays: serialization.Arrays, candidates: str, *, private: bool
) -> None:
    """Write record.json, arrays.npz and candidates.csv, each whole or not at all.

    Args:
        document: the record as JSON types, without the digest of its arrays.
        candidates: the text of candidates.csv.
        private: for the owner only: 0600, and 0700 for a folder made here.

    Raises:
        InputError: something is NaN or infinite.
    """
    text = serialization.to_json({**document, "arrays": serialization.digest(arrays)})
    if not folder.exists():
        folder.mkdir(parents=True)
        if private:
            os.chmod(folder, 0o700)
    # the arrays carry the document: killed between the two, the folder is still one whole run
    serialization.write_atomic(folder / "arrays.npz", serialization.npz_bytes(arrays, text), private=private)
    serialization.write_atomic(folder / "record.json", text, private=private)
    serialization.write_atomic(folder / "candidates.csv", candidates, private=private)


def read_folder(path: str | Path) -> tuple[dict[str, Any], serialization.Arrays, Path]:
    """Read the record's document and arrays from a run's folder or its record.json; return them and the file.

    Raises:
        InputError: nothing there, not a record, of an unknown schema version, or text and arrays of different runs.
    """
    given = Path(path)
    folder = given if given.is_dir() else given.parent
    file = folder / "record.json" if given.is_dir() else given
    arrays, inner = serialization.read_npz(folder / "arrays.npz") if file.exists() or given.is_dir() else ({}, "")
    if not file.exists() and not inner:
        raise InputError(f"{file} is not there; give the folder of a run or its record.json")
    document = _document(file.read_text("utf-8") if file.exists() else inner, file)
    found = serialization.digest(arrays)
    if document["arrays"] != found:  # a kill between two writes: the arrays carry the text that belongs to them
        document = _document(inner, folder / "arrays.npz")
        if document["arrays"] != found:
            raise InputError(f"{folder / 'arrays.npz'} is damaged: its content is not what was written")
    return document, arrays, file


def _document(text: str, path: Path) -> dict[str, Any]:
    document = serialization.parse_json(text, path)
    version = document.get("schema_version")
    if version is None or "arrays" not in document:
        raise InputError(f"{path} is not the record of an audit: it has no schema_version or no arrays")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {version}, this labelleaks reads version {SCHEMA_VERSION}; "
            "use the labelleaks that wrote it (under versions in the file)"
        )
    return document


def csv_of(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return a table as CSV that no spreadsheet runs as a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    texts = [map(_cell, column.tolist()) for column in columns.values()]
    writer.writerows(zip(*texts, strict=True))
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet runs text that begins with = + - @ as a formula: a leading apostrophe keeps it text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value
