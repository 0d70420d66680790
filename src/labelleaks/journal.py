"""Recorded answers on disk. Resuming a run is replaying it: what was paid for is answered from here.

One SQLite file (write-ahead log) holds the code that one target answered to each exact query. An attack is
deterministic given its seed and the answers, so a run that died goes on where it died when it is run again: no attack
has code for that. At most what was on its way when the process died is asked again: those queries are marked before
they are sent, so that the next run can say how many rows may have been paid for twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from labelleaks.content import digests
from labelleaks.errors import InputError
from labelleaks.turns import Turns

__all__ = ["Contents", "Journal", "default_path", "keys_of", "read", "verify"]

_SCHEMA = 1
_MARK = 0x6C6C6A31  # "llj1": SQLite's application id, tells this file from any other database
_CACHE_KB = 1 << 16
_AT_ONCE = 500  # bound parameters in one statement; SQLite allows 999 everywhere


def default_path(fingerprint: str) -> Path:
    """Return where the journal of a remote target lies that was given none: one file for each fingerprint.

    In ``labelleaks/journals`` below ``XDG_CACHE_HOME``, or ``~/.cache``.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.blake2b(fingerprint.encode(), digest_size=16).hexdigest()
    return Path(cache) / "labelleaks" / "journals" / f"{name}.journal"


def keys_of(x: Tensor, turns: Turns | None = None) -> list[bytes]:
    """Return the journal's key of each row: a hash of its float32 bytes and shape, and its turn where that is not 0.

    Args:
        x: (m, *shape), any device.
        turns: how often each row was asked before; counted here. None: every row is asked for the first time.

    Returns:
        m keys of 16 bytes, or 20 for a query that was asked before.
    """
    keys = digests(x)
    if turns is None or not keys:
        return keys
    counted = zip(keys, turns.take(keys).tolist(), strict=True)
    return [key + turn.to_bytes(4, "little") if turn else key for key, turn in counted]


class Journal:
    """Answers of one target by the content of the query; implements :class:`labelleaks.oracle.Journal`.

    The keys are those of :func:`keys_of`. An answer once recorded is never changed or removed: a second answer to the
    same key is dropped. The file can be read by its owner alone (mode 0600): the hashes tell who has the rows that they
    were asked about. Two runs may share one file.

    Args:
        path: the file; it is made, with its folder, where there is none.
        fingerprint: the target's; a journal of another target is refused.
        must_exist: refuse a path where there is nothing.

    Raises:
        InputError: the file belongs to another target, is no journal, is damaged, or cannot be opened.
    """

    def __init__(self, path: str | Path, fingerprint: str, *, must_exist: bool = False) -> None:
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise InputError(f"journal {self.path}: no such file; there is nothing to replay")
        self._connection = self._open()
        try:
            self._claim(fingerprint)
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # before SQLite, whose own mode would be 0644
            os.chmod(self.path, 0o600)
            return sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"journal {self.path} cannot be opened: {error}") from None

    def _claim(self, fingerprint: str) -> None:
        with _explained(self.path):
            (mark,) = self._connection.execute("PRAGMA application_id").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and mark != _MARK:
                raise InputError(f"journal {self.path} is an SQLite file of something else; give another path")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
            with self._transaction():
                self._create(fingerprint)
            held = dict(self._connection.execute("SELECT key, value FROM meta"))
        _check_schema(self.path, held)
        if held.get("fingerprint") != fingerprint:
            raise InputError(
                f"journal {self.path} belongs to another target: it holds answers of {held.get('fingerprint')}, this "
                f"target is {fingerprint}; give each target a journal of its own"
            )

    def _create(self, fingerprint: str) -> None:
        run = self._connection.execute
        run(f"PRAGMA application_id = {_MARK}")
        run("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        run("CREATE TABLE IF NOT EXISTS answers (query BLOB PRIMARY KEY, label INTEGER NOT NULL) WITHOUT ROWID")
        run("CREATE TABLE IF NOT EXISTS flights (query BLOB PRIMARY KEY) WITHOUT ROWID")
        run("INSERT OR IGNORE INTO meta VALUES ('schema', ?), ('fingerprint', ?)", (str(_SCHEMA), fingerprint))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def lookup(self, keys: Sequence[bytes]) -> Tensor:
        """Return the recorded label of each key, int64 (m,), on the CPU; -1 where nothing is recorded."""
        known: dict[bytes, int] = {}
        with _explained(self.path):
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT query, label FROM answers WHERE query IN ({marks})"
                known.update(self._connection.execute(query, part))
        if any(type(label) is not int or label < 0 for label in known.values()):
            raise InputError(f"journal {self.path} is damaged: it holds an answer that is not a label; give another")
        return torch.tensor([known.get(key, -1) for key in keys], dtype=torch.int64)

    def answers(self, x: Tensor, most: int = 2) -> Tensor:
        """Return what is recorded for each row's first ``most`` turns, int64 (m, most), on the CPU; -1 for nothing."""
        keys = keys_of(x)
        turns = [keys, *[[key + turn.to_bytes(4, "little") for key in keys] for turn in range(1, most)]]
        return torch.stack([self.lookup(part) for part in turns], dim=1)

    def begin(self, keys: Sequence[bytes]) -> int:
        """Mark queries that are about to be sent; return how many had been on their way when an earlier run died."""
        with _explained(self.path), self._transaction():
            before = self._connection.total_changes
            self._connection.executemany("INSERT OR IGNORE INTO flights VALUES (?)", [(key,) for key in keys])
            return len(keys) - (self._connection.total_changes - before)

    def record(self, keys: Sequence[bytes], labels: Tensor) -> None:
        """Keep the labels of these keys, all of them or none; they are no longer on their way.

        Args:
            keys: of :func:`keys_of`.
            labels: int64 (m,) codes from 0.
        """
        with _explained(self.path), self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)", zip(keys, labels.tolist(), strict=True)
            )
            self._connection.executemany("DELETE FROM flights WHERE query = ?", [(key,) for key in keys])

    def __len__(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file; what was recorded stays."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever SQLite finds wrong with a file becomes one clear line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "full" in str(error) or "readonly" in str(error) or "disk I/O" in str(error):
            raise InputError(f"journal {path} cannot be used now: {error}") from None
        raise InputError(f"{path} is not a journal of labelleaks ({error}); give another path") from None
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path} is not a journal of labelleaks ({error}); give another path") from None


def _check_schema(path: Path, meta: dict[str, str]) -> None:
    if meta.get("schema") != str(_SCHEMA):
        raise InputError(f"journal {path} has schema {meta.get('schema')}, this version reads {_SCHEMA}")


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
        with _explained(file):
            connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)
            contents = _contents(connection, file)
        yield contents, _rows(connection, file)
    finally:
        if connection is not None:
            connection.close()


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != _MARK:
        raise InputError(f"{path} is not a journal of labelleaks; give the file that a run was told (journal=)")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    _check_schema(path, meta)
    count = "SELECT count(*) FROM"
    (repeated,) = connection.execute(f"{count} answers WHERE length(query) > 16").fetchone()
    in_flight = connection.execute(f"{count} flights").fetchone()[0] if "flights" in tables else 0
    labels = dict(connection.execute("SELECT label, count(*) FROM answers GROUP BY label ORDER BY label"))
    return Contents(str(meta.get("fingerprint")), sum(labels.values()), repeated, in_flight, labels)


def _rows(connection: sqlite3.Connection, path: Path) -> Iterator[tuple[bytes, int]]:
    with _explained(path):
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
    with _explained(file), contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as base:
        found = [f"SQLite: {line}" for (line,) in base.execute("PRAGMA integrity_check(5)") if line != "ok"]
    if odd_keys:
        found.append(f"{odd_keys} keys are not hashes of a query")
    if odd_labels:
        found.append(f"{odd_labels} labels are not codes from 0")
    return found
