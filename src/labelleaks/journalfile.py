"""The file of a journal: its form, looking into it without a target, and checking it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labelleaks.errors import InputError

__all__ = ["MARK", "SCHEMA", "Contents", "check_schema", "explained", "packed", "read", "unpacked", "verify"]

SCHEMA = 1
MARK = 0x6C6C6A31
"""``llj1``: SQLite's application id, tells this file from any other database."""


def packed(keys: Sequence[bytes]) -> bytes:
    """20 bytes a key."""
    return b"".join(key.ljust(20, b"\0") for key in keys)


def unpacked(keys: object, path: Path) -> list[bytes]:
    if not isinstance(keys, bytes) or len(keys) % 20:
        raise InputError(f"journal {path} is damaged: what was on its way cannot be read; give another")
    parts = [keys[at : at + 20] for at in range(0, len(keys), 20)]
    return [key[:16] if key.endswith(bytes(4)) else key for key in parts]


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Whatever SQLite finds wrong with a file becomes one clear line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "full" in str(error) or "readonly" in str(error) or "disk I/O" in str(error):
            raise InputError(f"journal {path} cannot be used now: {error}") from None
        raise InputError(f"{path} is not a journal of labelleaks ({error}); give another path") from None
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path} is not a journal of labelleaks ({error}); give another path") from None


def check_schema(path: Path, meta: dict[str, str]) -> None:
    if meta.get("schema") != str(SCHEMA):
        raise InputError(f"journal {path} has schema {meta.get('schema')}, this version reads {SCHEMA}")


@dataclass(frozen=True)
class Contents:
    """What a journal holds."""

    fingerprint: str
    answers: int
    repeated: int
    """Answers to a query that had been asked before."""
    in_flight: int
    """Queries that were on their way when a run died, and were not asked again since."""
    labels: dict[int, int]
    """Answers by class code."""


@contextlib.contextmanager
def read(path: str | Path) -> Iterator[tuple[Contents, Iterator[tuple[bytes, int]]]]:
    """Open a journal to look at it, whatever target it is of: its contents, and all keys and labels, by key.

    Nothing in the file is changed.

    Raises:
        InputError: not there, no journal, or damaged.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"journal {file}: no such file")
    connection = None
    try:
        with explained(file):
            connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)
            contents = _contents(connection, file)
        yield contents, _rows(connection, file)
    finally:
        if connection is not None:
            connection.close()


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != MARK:
        raise InputError(f"{path} is not a journal of labelleaks; give the file that a run was told (journal=)")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    check_schema(path, meta)
    count = "SELECT count(*) FROM"
    (repeated,) = connection.execute(f"{count} answers WHERE length(query) > 16").fetchone()
    found = connection.execute("SELECT keys FROM sent").fetchall() if "sent" in tables else []
    sent = {key for (keys,) in found for key in unpacked(keys, path)}
    answered = "SELECT 1 FROM answers WHERE query = ?"
    in_flight = sum(connection.execute(answered, (key,)).fetchone() is None for key in sent)
    labels = dict(connection.execute("SELECT label, count(*) FROM answers GROUP BY label ORDER BY label"))
    return Contents(str(meta.get("fingerprint")), sum(labels.values()), repeated, in_flight, labels)


def _rows(connection: sqlite3.Connection, path: Path) -> Iterator[tuple[bytes, int]]:
    with explained(path):
        yield from connection.execute("SELECT query, label FROM answers ORDER BY query")


def verify(path: str | Path) -> list[str]:
    """Return what is wrong with a journal, one sentence each; [] where nothing is.

    Checks the file itself (SQLite's integrity check), the form of each key, and that each label is a code.

    Raises:
        InputError: not there, or no journal that can be read at all.
    """
    file = Path(path)
    with read(file) as (_, rows):
        odd_keys = odd_labels = 0
        for key, label in rows:
            odd_keys += not (isinstance(key, bytes) and len(key) in (16, 20))
            odd_labels += type(label) is not int or label < 0
    with explained(file), contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as base:
        found = [f"SQLite: {line}" for (line,) in base.execute("PRAGMA integrity_check(5)") if line != "ok"]
    if odd_keys:
        found.append(f"{odd_keys} keys are not hashes of a query")
    if odd_labels:
        found.append(f"{odd_labels} labels are not codes from 0")
    return found
