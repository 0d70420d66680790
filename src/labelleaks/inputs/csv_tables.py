"""CSV and JSON Lines files as named columns with types, read by the rules of pandas without needing it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError, in_a_line

__all__ = ["MISSING", "read_json_lines", "read_lines", "read_texts", "typed"]

MISSING = frozenset(
    (
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    )
)
"""Texts that stand for a missing value, as in pandas."""
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*|[+-]?inf(inity)?", re.ASCII | re.I)
_WHOLE_LETTERS, _NUMBER_LETTERS = set("0123456789+- \t"), set("0123456789+-.eE \t")
_YES, _NO = {"True", "TRUE", "true"}, {"False", "FALSE", "false"}


def read_lines(path: Path) -> list[list[str]]:
    """Return the lines of a CSV file as they are written, field by field; empty ones are left out.

    Raises:
        InputError: not a UTF-8 CSV file with commas.
    """
    longest = csv.field_size_limit(sys.maxsize)  # a text may be longer than 128 KiB
    try:
        return [line for line in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({in_a_line(error)}): save it as UTF-8") from None
    finally:
        csv.field_size_limit(longest)


def read_texts(path: Path, *, header: bool | None = None) -> dict[str, list[str]]:
    """Return the columns of a CSV file by name, as texts.

    Args:
        header: whether the first line names the columns; None: it does, and a line that looks like data is refused.
            Without a header the names are "0", "1", …

    Raises:
        InputError: not a UTF-8 CSV file with commas, no row, rows of different widths, a name that is there twice or
            empty, or a first line that looks like data.
    """
    lines = read_lines(path)
    if header is False:
        if not lines:
            raise InputError(f"{path}: at least one row is needed")
        lines = [[str(i) for i in range(len(lines[0]))], *lines]
    if len(lines) < 2:
        raise InputError(f"{path}: a header line and at least one row are needed")
    names, body = lines[0], lines[1:]
    _check_separator(path, names)
    for number, line in enumerate(body, 2):
        if len(line) != len(names):
            raise InputError(f"{path}: row {number} has {len(line)} fields, the header has {len(names)}")
    columns = {name: [line[i] for line in body] for i, name in enumerate(names)}
    if header is None and _is_data(names, body):
        raise InputError(
            f"{path}: the first line ({', '.join(names[:4])}{', …' if len(names) > 4 else ''}) looks like a row, not "
            "like names: put a line of names on top, or say data.header: false (columns are then called 0, 1, …), or "
            "true if these are names"
        )
    if len(columns) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: the header names a column twice, {twice!r}")
    if "" in columns:
        place = names.index("")
        raise InputError(
            f"{path}: column {place} has no name (a row number that to_csv() wrote?): call it id, or leave it out "
            "(to_csv(index=False))"
        )
    return columns


def read_json_lines(path: Path) -> dict[str, NDArray[Any]]:
    """Return the columns of a JSON Lines file by name: int64, float64 (NaN where null), bool, or objects.

    Raises:
        InputError: not UTF-8, a line that is no object, or one with other keys or something that is no single value.
    """
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a UTF-8 file ({in_a_line(error)}): save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {number} is not JSON ({in_a_line(error)})") from None
        if not isinstance(row, dict) or any(isinstance(value, (dict, list)) for value in row.values()):
            raise InputError(
                f'{path}: line {number}: an object of single values is needed, {{"text": "…", "label": 0}}'
            )
        if rows and row.keys() != rows[0].keys():
            odd = sorted(row.keys() ^ rows[0].keys())[0]
            raise InputError(
                f"{path}: line {number}: key {odd!r} is not in every line; write null where it has no value"
            )
        rows.append(row)
    if not rows or not rows[0]:
        raise InputError(f"{path}: at least one row is needed")
    return {name: _from_json([row[name] for row in rows]) for name in rows[0]}


def _from_json(values: list[Any]) -> NDArray[Any]:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)} and all(not isinstance(v, int) or abs(v) <= 2**53 for v in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _check_separator(path: Path, names: Sequence[str]) -> None:
    found = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    if found is not None:
        raise InputError(f"{path}: fields are separated by {found!r}; write the table with commas (to_csv(sep=','))")


def _is_data(names: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether a first line is a row: a number among words that are no count, or every field again in its column."""
    numbers = [name for name in names if name in MISSING - {""} or _NUMBER.fullmatch(name)]
    if numbers:
        counted = [[str(i) for i in range(start, start + len(numbers))] for start in (0, 1)]
        return len(numbers) == len(names) or numbers not in counted
    return len(body) > 1 and all(any(line[i] == name for line in body) for i, name in enumerate(names))


def typed(texts: Sequence[str]) -> NDArray[Any]:
    """Return a column's values: int64 (uint64, objects), float64 (NaN where missing), bool, or text (objects, NaN).

    Raises:
        InputError: a whole number that float64 rounds, in a column that needs float64.
    """
    missing = [text in MISSING for text in texts]
    there = [text for text, gone in zip(texts, missing, strict=True) if not gone] if any(missing) else texts
    letters = set("".join(there))
    whole = _read(int, there) if letters <= _WHOLE_LETTERS else None
    if whole and len(there) == len(texts):
        return _whole_numbers(whole)
    if whole is not None or _are_numbers(there, letters):
        return _numbers(texts, missing)
    if all(text in _YES or text in _NO for text in there):
        if len(there) == len(texts):
            return np.array([text in _YES for text in texts])
        return _objects(texts, missing, lambda text: text in _YES)
    return _objects(texts, missing, str)


def _read(kind: Callable[[str], Any], texts: Sequence[str]) -> list[Any] | None:
    try:
        return list(map(kind, texts))
    except ValueError:
        return None


def _are_numbers(texts: Sequence[str], letters: set[str]) -> bool:
    if letters <= _NUMBER_LETTERS:
        return _read(float, texts) is not None
    return all(map(_NUMBER.fullmatch, texts))


def _whole_numbers(values: list[int]) -> NDArray[Any]:
    least, most = min(values), max(values)
    if least >= -(2**63) and most < 2**63:
        return np.array(values, dtype=np.int64)
    if least >= 0 and most < 2**64:
        return np.array(values, dtype=np.uint64)
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _numbers(texts: Sequence[str], missing: Sequence[bool]) -> NDArray[np.float64]:
    values = np.array([np.nan if gone else float(text) for text, gone in zip(texts, missing, strict=True)])
    for i in np.flatnonzero(np.abs(values) >= 2**53).tolist():
        if _WHOLE.fullmatch(texts[i]) and int(texts[i]) != int(values[i]):
            raise InputError(
                f"{texts[i].strip()} beside missing values or fractions: float64 holds whole numbers up to 2^53 there; "
                "fill the missing values, or write the table as .parquet"
            )
    return values


def _objects(texts: Sequence[str], missing: Sequence[bool], read: Callable[[str], Any]) -> NDArray[Any]:
    found = np.empty(len(texts), dtype=object)
    for i, (text, gone) in enumerate(zip(texts, missing, strict=True)):
        found[i] = np.nan if gone else read(text)
    return found
