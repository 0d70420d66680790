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
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from labelleaks.content import digests
from labelleaks.errors import InputError
from labelleaks.journalfile import MARK, SCHEMA, check_schema, explained, packed, unpacked
from labelleaks.turns import Turns

__all__ = ["Journal", "default_path", "keys_of"]

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
        self._marks: dict[bytes, int] = {}  # what is on its way -> its row in the file
        self._left: dict[int, int] = {}
        self._lost: set[bytes] = set()  # on its way when an earlier run died
        if must_exist and not self.path.is_file():
            raise InputError(f"journal {self.path}: no such file; there is nothing to replay")
        self._connection = self._open()
        try:
            self._claim(fingerprint)
            self._find_lost()
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
        with explained(self.path):
            (mark,) = self._connection.execute("PRAGMA application_id").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and mark != MARK:
                raise InputError(f"journal {self.path} is an SQLite file of something else; give another path")
            self._connection.execute("PRAGMA page_size = 1024")  # of a new file: keys are random, each row is a page
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA wal_autocheckpoint = 65536")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
            with self._transaction():
                self._create(fingerprint)
            held = dict(self._connection.execute("SELECT key, value FROM meta"))
        check_schema(self.path, held)
        if held.get("fingerprint") != fingerprint:
            raise InputError(
                f"journal {self.path} belongs to another target: it holds answers of {held.get('fingerprint')}, this "
                f"target is {fingerprint}; give each target a journal of its own"
            )

    def _find_lost(self) -> None:
        with explained(self.path):
            for mark, keys in self._connection.execute("SELECT id, keys FROM sent"):
                self._marked(mark, unpacked(keys, self.path))
        self._lost = set(self._marks)

    def _create(self, fingerprint: str) -> None:
        run = self._connection.execute
        run(f"PRAGMA application_id = {MARK}")
        run("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        run("CREATE TABLE IF NOT EXISTS answers (query BLOB PRIMARY KEY, label INTEGER NOT NULL) WITHOUT ROWID")
        run("CREATE TABLE IF NOT EXISTS sent (id INTEGER PRIMARY KEY, keys BLOB NOT NULL)")
        run("INSERT OR IGNORE INTO meta VALUES ('schema', ?), ('fingerprint', ?)", (str(SCHEMA), fingerprint))

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
        with explained(self.path):
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
        again = [key for key in keys if key in self._lost] if self._lost else []
        self._lost.difference_update(again)
        with explained(self.path), self._transaction():
            self._settle(again)
            mark = self._connection.execute("INSERT INTO sent (keys) VALUES (?)", (packed(keys),)).lastrowid
            assert mark is not None
            self._marked(mark, keys)
        return len(again)

    def record(self, keys: Sequence[bytes], labels: Tensor) -> None:
        """Keep the labels of these keys, all of them or none; they are no longer on their way.

        Args:
            keys: of :func:`keys_of`.
            labels: int64 (m,) codes from 0.
        """
        answers = sorted(zip(keys, labels.tolist(), strict=True))  # neighbours in the file are written together
        with explained(self.path), self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers)
            self._settle(keys)

    def _marked(self, mark: int, keys: Sequence[bytes]) -> None:
        new = [key for key in keys if key not in self._marks]
        self._marks.update(dict.fromkeys(new, mark))
        self._left[mark] = len(new)

    def _settle(self, keys: Sequence[bytes]) -> None:
        """Take keys from their marks; a mark without keys goes."""
        for key in keys:
            mark = self._marks.pop(key, None)
            if mark is None:
                continue
            self._left[mark] -= 1
            if self._left[mark] == 0:
                del self._left[mark]
                self._connection.execute("DELETE FROM sent WHERE id = ?", (mark,))

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
