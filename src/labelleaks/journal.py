"""Recorded answers on disk. Resuming a run is replaying it: what was paid for is answered from here.

One SQLite file (write-ahead log) holds the code that one target answered to each exact query. An attack is
deterministic given its seed and the answers, so a run that died goes on where it died when it is run again: no attack
has code for that. At most the batch that was on its way when the process died is asked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from labelleaks.content import digests
from labelleaks.errors import InputError

__all__ = ["Journal", "default_path"]

_SCHEMA = 1
_MARK = 0x6C6C6A31  # "llj1": SQLite's application id, tells this file from any other database
_AT_ONCE = 500  # bound parameters in one statement; SQLite allows 999 everywhere


def default_path(fingerprint: str) -> Path:
    """Return where the journal of a remote target lies that was given none: one file for each fingerprint.

    In ``labelleaks/journals`` below ``XDG_CACHE_HOME``, or ``~/.cache``.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.blake2b(fingerprint.encode(), digest_size=16).hexdigest()
    return Path(cache) / "labelleaks" / "journals" / f"{name}.journal"


class Journal:
    """Answers of one target by the content of the query; implements :class:`labelleaks.oracle.Journal`.

    The key is a 16-byte hash of a row's float32 bytes and its shape. An answer once recorded is never changed or
    removed: a second answer to the same query is dropped. The file can be read by its owner alone (mode 0600): the
    hashes tell who has the rows that they were asked about. Two runs may share one file.

    Args:
        path: the file; it is made, with its folder, where there is none.
        fingerprint: the target's; a journal of another target is refused.

    Raises:
        InputError: the file belongs to another target, is no journal, or cannot be opened.
    """

    def __init__(self, path: str | Path, fingerprint: str) -> None:
        self.path = Path(path)
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
        try:
            (mark,) = self._connection.execute("PRAGMA application_id").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and mark != _MARK:
                raise InputError(f"journal {self.path} is an SQLite file of something else; give another path")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self._transaction():
                self._create(fingerprint)
            held = dict(self._connection.execute("SELECT key, value FROM meta"))
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path} is not a journal of labelleaks ({error}); give another path") from None
        if held.get("schema") != str(_SCHEMA):
            raise InputError(f"journal {self.path} has schema {held.get('schema')}, this version reads {_SCHEMA}")
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

    def lookup(self, x: Tensor) -> Tensor:
        """Return the recorded label of each row.

        Args:
            x: (m, *shape) float32, any device.

        Returns:
            int64 (m,), on the CPU; -1 where nothing is recorded.
        """
        keys = digests(x)
        known: dict[bytes, int] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            known.update(self._connection.execute(f"SELECT query, label FROM answers WHERE query IN ({marks})", part))
        return torch.tensor([known.get(key, -1) for key in keys], dtype=torch.int64)

    def record(self, x: Tensor, labels: Tensor) -> None:
        """Keep the labels of these rows, all of them or none.

        Args:
            x: (m, *shape) float32, any device.
            labels: int64 (m,) codes from 0.
        """
        with self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)", zip(digests(x), labels.tolist(), strict=True)
            )

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
