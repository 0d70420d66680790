"""The file of a journal: its form, looking into it without a target, and checking it.

One row of the table ``answers`` is one batch of answers, as it came in: the keys, the class codes, and a checksum of
both. So writing is appending, whatever the keys are, and a damaged batch is told from a whole one. A query that is
there twice (two runs shared the file) has the answer of the first batch.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.oracle.query_keys import KEY, Keys
from labelleaks.errors import InputError, in_a_line

__all__ = [
    "MARK", "SCHEMA", "TABLES", "JournalContents", "batches", "check_schema", "explained", "marks", "packed", "read",
    "verify",
]  # fmt: skip

SCHEMA = 2
MARK = 0x6C6C6A31
"""``llj1``: SQLite's application id, tells this file from any other database."""
TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS answers "
    "(id INTEGER PRIMARY KEY, keys BLOB NOT NULL, labels BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sent (id INTEGER PRIMARY KEY, keys BLOB NOT NULL)",
)
_LABEL = np.dtype("<i4")


def packed(keys: Keys, labels: NDArray[Any]) -> tuple[bytes, bytes, int]:
    """Return a batch as its row: keys, labels, checksum."""
    key_bytes, label_bytes = keys.tobytes(), labels.astype(_LABEL).tobytes()
    return key_bytes, label_bytes, zlib.crc32(label_bytes, zlib.crc32(key_bytes))


def unpacked(row: tuple[Any, Any, Any]) -> tuple[Keys, NDArray[np.int32]] | None:
    """Return the keys and labels of a batch; None where it is damaged."""
    key_bytes, label_bytes, checksum = row
    if not (isinstance(key_bytes, bytes) and isinstance(label_bytes, bytes)):
        return None
    if len(key_bytes) % KEY.itemsize or len(label_bytes) * KEY.itemsize != len(key_bytes) * _LABEL.itemsize:
        return None
    labels = np.frombuffer(label_bytes, dtype=_LABEL)
    if checksum != zlib.crc32(label_bytes, zlib.crc32(key_bytes)) or bool((labels < 0).any()):
        return None
    return np.frombuffer(key_bytes, dtype=KEY), labels


def batches(connection: sqlite3.Connection, path: Path, after: int) -> Iterator[tuple[int, Keys, NDArray[np.int32]]]:
    """The batches that were recorded after number ``after``: number, keys and labels of each, in order.

    Raises:
        InputError: one of them is damaged.
    """
    for number, *row in connection.execute("SELECT * FROM answers WHERE id > ? ORDER BY id", (after,)):
        batch = unpacked((row[0], row[1], row[2]))
        if batch is None or not isinstance(number, int):
            raise InputError(f"journal {path} is damaged: batch {number} of its answers is not whole; give another")
        yield int(number), *batch


def marks(connection: sqlite3.Connection, path: Path) -> Iterator[tuple[int, Keys]]:
    """The marks of what was about to be sent: number and keys of each.

    Raises:
        InputError: one of them is damaged.
    """
    for number, keys in connection.execute("SELECT id, keys FROM sent ORDER BY id").fetchall():
        if not (isinstance(number, int) and isinstance(keys, bytes)) or len(keys) % KEY.itemsize:
            raise InputError(f"journal {path} is damaged: what was on its way cannot be read; give another")
        yield int(number), np.frombuffer(keys, dtype=KEY)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one clear line each."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "full" in str(error) or "readonly" in str(error) or "disk I/O" in str(error):
            raise InputError(f"journal {path} cannot be used now: {in_a_line(error)}") from None
        raise InputError(f"{path} is not a journal of labelleaks ({in_a_line(error)}); give another path") from None
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path} is not a journal of labelleaks ({in_a_line(error)}); give another path") from None


def check_schema(path: Path, meta: dict[str, str]) -> None:
    """Refuse a journal of another schema."""
    if meta.get("schema") != str(SCHEMA):
        raise InputError(f"journal {path} has schema {meta.get('schema')}, this version reads {SCHEMA}")


@dataclass(frozen=True, eq=False)
class JournalContents:
    """Content of a journal."""

    fingerprint: str
    keys: Keys
    """Distinct, in their order."""
    labels: NDArray[np.int32]
    """The class code of each key."""
    in_flight: int
    """Queries that were on their way when a run died, and were not answered since."""

    @property
    def repeated(self) -> int:
        """Answers to a query that had been asked before."""
        return int((self.keys["turn"] > 0).sum())

    @property
    def by_class(self) -> dict[int, int]:
        """Answers by class code."""
        codes, counts = np.unique(self.labels, return_counts=True)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True))


def read(path: str | Path) -> JournalContents:
    """Look at a journal, whatever target it is of. Nothing in the file is changed.

    Raises:
        InputError: not there, no journal, or damaged.
    """
    file = Path(path)
    with _looking_at(file) as connection:
        meta = _meta(connection, file)
        answers = [(keys, labels) for _, keys, labels in batches(connection, file, 0)]
        sent = [keys for _, keys in marks(connection, file)]
    keys = np.concatenate([np.empty(0, dtype=KEY), *[keys for keys, _ in answers]])
    labels = np.concatenate([np.empty(0, dtype=_LABEL), *[labels for _, labels in answers]])
    keys, first = np.unique(keys, return_index=True)
    left = np.setdiff1d(np.concatenate([np.empty(0, dtype=KEY), *sent]), keys)
    return JournalContents(str(meta.get("fingerprint")), keys, labels[first], len(left))


def verify(path: str | Path) -> list[str]:
    """Return what is wrong with a journal, one sentence each; [] where nothing is.

    Checks the file itself (SQLite's integrity check), and the form and checksum of each batch.

    Raises:
        InputError: not there, or no journal that can be read at all.
    """
    file = Path(path)
    with _looking_at(file) as connection:
        _meta(connection, file)
        faults = [f"SQLite: {line}" for (line,) in connection.execute("PRAGMA integrity_check(5)") if line != "ok"]
        rows = connection.execute("SELECT keys, labels, checksum FROM answers")
        damaged = sum(unpacked(row) is None for row in rows)
        if damaged:
            faults.append(f"{damaged} batches of answers are not as they were written")
        try:
            list(marks(connection, file))
        except InputError:
            faults.append("what was on its way cannot be read")
    return faults


@contextlib.contextmanager
def _looking_at(file: Path) -> Iterator[sqlite3.Connection]:
    if not file.is_file():
        raise InputError(f"journal {file}: no such file")
    with explained(file):
        address = f"{file.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=30.0)) as connection:
            yield connection


def _meta(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != MARK:
        raise InputError(f"{path} is not a journal of labelleaks; give the file that a run was told (journal=)")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    check_schema(path, meta)
    return meta
