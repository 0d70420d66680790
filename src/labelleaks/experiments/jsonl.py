"""JSON Lines files of result rows: a row a line, written whole, safe for several processes at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from labelleaks.core import serialization
from labelleaks.errors import InputError
from labelleaks.models.checkpoints import check_folder

__all__ = ["MEND", "Row", "locked", "read", "write"]

Row = dict[str, Any]
MEND = "delete the line and run again, which measures it anew"


def read(path: Path) -> list[Row]:
    """Return the rows of a file, in its order; none where it is not there.

    Raises:
        InputError: a line that is no JSON object; file and line are named.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [_row(line, path, number) for number, line in enumerate(lines, 1)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file until the end; its folder is made where it is not there.

    Whoever reads, changes and writes within this loses nothing that another one adds.
    """
    check_folder(path.parent)
    with FileLock(path.with_name(f".{path.stem}.lock")):
        for half in path.parent.glob(f".{path.name}.*"):  # what a kill in the middle of a write has left
            half.unlink(missing_ok=True)
        yield


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a row a line, the file as a whole or not at all."""
    serialization.write_atomic(path, "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows), private=False)


def _row(line: bytes, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:  # no JSON, or no UTF-8
        raise InputError(f"{path}, line {number}: damaged ({error}); {MEND}") from None
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: holds a {type(row).__name__}, not a row; {MEND}")
    return row
