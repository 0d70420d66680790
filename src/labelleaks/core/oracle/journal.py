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
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from labelleaks.core.cache import cache_folder, usual_cache_folder
from labelleaks.core.oracle.journal_file import MARK, SCHEMA, TABLES, batches, check_schema, explained, marks, packed
from labelleaks.core.oracle.query_keys import Answers, Keys, keys_of
from labelleaks.errors import InputError

__all__ = ["Journal", "default_path"]

_INSERT = "INSERT INTO answers (keys, labels, checksum) VALUES (?, ?, ?)"


def default_path(fingerprint: str) -> Path:
    """Return where the journal of a remote target lies that was given none: one file for each fingerprint.

    In ``journals`` of the cache (LABELLEAKS_CACHE, XDG_CACHE_HOME, ~/.cache). Answers that lie in the usual cache and
    were paid for before LABELLEAKS_CACHE was said are used where they are.
    """
    name = f"{hashlib.blake2b(fingerprint.encode(), digest_size=16).hexdigest()}.journal"
    here, usual = (folder / "journals" / name for folder in (cache_folder(), usual_cache_folder()))
    return usual if usual.exists() and not here.exists() else here


class Journal:
    """Answers of one target by the content of the query, for the oracle (its protocol ``Journal``).

    An answer once recorded is never changed or removed: a second answer to the same key is dropped. The file can be
    read by its owner alone (mode 0600): the hashes tell who has the rows that they were asked about. Two runs may share
    one file. What the file holds is also held in memory, 20 bytes an answer.

    Args:
        path: the file; it is made, with its folder, where there is none.
        fingerprint: the target's; a journal of another target is refused.
        must_exist: refuse a path where there is nothing.

    Raises:
        InputError: the file belongs to another target, is no journal, is damaged, or cannot be opened.
    """

    def __init__(self, path: str | Path, fingerprint: str, *, must_exist: bool = False) -> None:
        self.path = Path(path)
        self._answers = Answers()
        self._seen = 0  # number of the last batch of the file that is in memory
        self._marks: list[int] = []  # of this run, in the file
        self._under_way = 0  # rows marked and not recorded
        self._lost: set[bytes] = set()  # on its way when an earlier run died
        if must_exist and not self.path.is_file():
            raise InputError(f"journal {path}: no such file; there is nothing to replay")
        self._connection = self._open()
        try:
            with explained(self.path):
                self._claim(fingerprint)
                self._catch_up()
                self._find_lost()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the last one alone, where it is new
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # before SQLite, whose own mode would be 0644
            os.chmod(self.path, 0o600)
            return sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"journal {self.path} cannot be opened: {error}") from None

    def _claim(self, fingerprint: str) -> None:
        run = self._connection.execute
        (mark,) = run("PRAGMA application_id").fetchone()
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and mark != MARK:
            raise InputError(f"journal {self.path} is an SQLite file of something else; give another path")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        with self._transaction():
            run(f"PRAGMA application_id = {MARK}")
            for table in TABLES:
                run(table)
            run("INSERT OR IGNORE INTO meta VALUES ('schema', ?), ('fingerprint', ?)", (str(SCHEMA), fingerprint))
        meta = dict(run("SELECT key, value FROM meta"))
        check_schema(self.path, meta)
        if meta.get("fingerprint") != fingerprint:
            raise InputError(
                f"journal {self.path} belongs to another target: it holds answers of {meta.get('fingerprint')}, this "
                f"target is {fingerprint}; give each target a journal of its own"
            )

    def _find_lost(self) -> None:
        for number, keys in marks(self._connection, self.path):
            lost = keys[self._answers.find(keys) < 0]
            if len(lost) == 0:  # all of it was answered: the mark tells nothing any more
                self._connection.execute("DELETE FROM sent WHERE id = ?", (number,))
            self._lost.update(_each(lost))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _catch_up(self) -> None:
        """Take into memory what the file holds by now, of this run or another."""
        for number, keys, labels in batches(self._connection, self.path, self._seen):
            self._answers.add(keys, labels)
            self._seen = number

    def lookup(self, keys: Keys) -> Tensor:
        """Return the recorded label of each key, int64 (m,), on the CPU; -1 where nothing is recorded."""
        with explained(self.path):
            self._catch_up()
        return torch.from_numpy(self._answers.find(keys))

    def answers(self, x: Tensor, most: int = 2) -> Tensor:
        """Return what is recorded for each row's first ``most`` turns, int64 (m, most), on the CPU; -1 for nothing."""
        keys = keys_of(x)
        columns = []
        for turn in range(most):
            keys["turn"] = turn
            columns.append(self.lookup(keys))
        return torch.stack(columns, dim=1)

    def begin(self, keys: Keys) -> int:
        """Mark queries that are about to be sent; return how many had been on their way when an earlier run died."""
        again = self._lost.intersection(_each(keys)) if self._lost else set()
        self._lost -= again
        with explained(self.path):
            mark = self._connection.execute("INSERT INTO sent (keys) VALUES (?)", (keys.tobytes(),)).lastrowid
        assert mark is not None
        self._marks.append(mark)
        self._under_way += len(keys)
        return len(again)

    def record(self, keys: Keys, labels: Tensor) -> None:
        """Keep the labels of these keys, all of them or none; they are no longer on their way.

        Args:
            keys: (m,)
            labels: int64 (m,) codes from 0.
        """
        if labels.shape != keys.shape:
            raise ValueError(f"one label a key is needed: {len(keys)} keys, labels of shape {tuple(labels.shape)}")
        batch = packed(keys, labels.cpu().numpy())
        self._under_way -= len(keys)
        with explained(self.path), self._transaction():
            number = self._connection.execute(_INSERT, batch).lastrowid
            if self._under_way <= 0:  # nothing of this run is on its way: its marks go, all at once
                self._connection.executemany("DELETE FROM sent WHERE id = ?", [(mark,) for mark in self._marks])
                self._marks, self._under_way = [], 0
        if number == self._seen + 1:  # no other run wrote in between: what was written need not be read
            self._seen += 1
            self._answers.add(keys, labels.cpu().numpy())

    def __len__(self) -> int:
        return len(self._answers)

    def close(self) -> None:
        """Close the file; what was recorded stays."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _each(keys: Keys) -> list[bytes]:
    return [key.tobytes() for key in keys]
