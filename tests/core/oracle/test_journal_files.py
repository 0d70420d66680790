"""Journals as files: what `labelleaks journal` says of them; no damaged or foreign file does worse than a line."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.journal_file import read, verify
from labelleaks.core.oracle.query_keys import KEY, Answers, Keys, RepeatCounter, digests, keys_of
from labelleaks.errors import InputError
from tests.support import cli

X = torch.rand(300, 6, generator=torch.Generator().manual_seed(0))


def filled(path: Path, rows: int = 300) -> Path:
    counter = RepeatCounter()
    with Journal(path, "t") as journal:
        for _ in range(2):
            keys = keys_of(X[:rows], counter)
            journal.record(keys, torch.arange(rows) % 3)
        journal.begin(keys_of(-1 - X[:2]))
    return path


def run(*arguments: str | Path) -> tuple[int, str]:
    found = cli("journal", *arguments)
    return found.exit_code, found.output


def test_info(tmp_path: Path) -> None:
    code, said = run("info", filled(tmp_path / "j"))
    assert code == 0
    assert "600 (300 of them to a query that had been asked before)" in said and "0: 200, 1: 200, 2: 200" in said
    told = json.loads(run("info", tmp_path / "j", "--json")[1])
    assert told["fingerprint"] == "t" and told["in_flight"] == 2 and told["labels"] == {"0": 200, "1": 200, "2": 200}


def test_export(tmp_path: Path) -> None:
    code, said = run("export", filled(tmp_path / "j"))
    rows = list(csv.DictReader(io.StringIO(said)))
    assert code == 0 and len(rows) == 600
    found = {(row["query"], int(row["turn"])): int(row["label"]) for row in rows}
    assert found == {(key.hex(), turn): i % 3 for turn in (0, 1) for i, key in enumerate(digests(X))}
    assert run("export", tmp_path / "j", "--out", tmp_path / "new" / "a.csv")[0] == 0
    assert (tmp_path / "new" / "a.csv").read_text() == said
    assert stat.S_IMODE((tmp_path / "new" / "a.csv").stat().st_mode) == 0o600


def test_verify(tmp_path: Path) -> None:
    assert run("verify", filled(tmp_path / "j")) == (0, f"{tmp_path / 'j'}: whole, 600 answers\n")
    for change, fault in {
        "UPDATE answers SET labels = zeroblob(1200) WHERE id = 1": "1 batches of answers are not as they were written",
        "INSERT INTO answers VALUES (9, x'00ff', 'text', 1)": "2 batches",
        "INSERT INTO sent VALUES (9, x'00ff')": "what was on its way cannot be read",
    }.items():
        with sqlite3.connect(tmp_path / "j") as base:
            base.execute(change)
        base.close()
        code, said = run("verify", tmp_path / "j")
        assert code == 2 and fault in said and said.count("\n") == 1
    for command in ("info", "export"):
        code, said = run(command, tmp_path / "j")
        assert code == 2 and "is damaged: batch 1 of its answers is not whole" in said


def test_no_changed_bit_of_an_answer_is_accepted(tmp_path: Path) -> None:
    """SQLite has no checksums: a label that flips on the disk is still a label."""
    path = filled(tmp_path / "j", 40)
    with sqlite3.connect(path) as base:
        (labels,) = base.execute("SELECT labels FROM answers WHERE id = 1").fetchone()
        base.execute("UPDATE answers SET labels = ? WHERE id = 1", (bytes([labels[0] ^ 1]) + labels[1:],))
    base.close()
    with pytest.raises(InputError, match="batch 1 of its answers is not whole"):
        Journal(path, "t")


@pytest.mark.parametrize(
    ("table", "number", "columns"), [("sent", "NULL", "keys"), ("answers", "'one'", "keys, labels, checksum")]
)
def test_a_row_without_a_number_is_refused(tmp_path: Path, table: str, number: str, columns: str) -> None:
    """A table that somebody wrote, without a primary key: found by fuzzing."""
    path = filled(tmp_path / "j", 40)
    with sqlite3.connect(path) as base:
        base.execute(f"CREATE TABLE other AS SELECT {number} AS id, {columns} FROM {table}")
        base.execute(f"DROP TABLE {table}")
        base.execute(f"ALTER TABLE other RENAME TO {table}")
    base.close()
    code, said = run("verify", path)
    assert code == 2 and said.count("\n") == 1
    with pytest.raises(InputError):
        Journal(path, "t")


def test_looking_changes_nothing(tmp_path: Path) -> None:
    before = filled(tmp_path / "j").read_bytes()
    for command in ("info", "export", "verify"):
        run(command, tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == before


def test_looking_while_a_run_writes(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "t") as journal:
        journal.record(keys_of(X[:5]), torch.zeros(5, dtype=torch.int64))
        assert run("info", tmp_path / "j")[0] == 0
        assert "5 answers" in run("verify", tmp_path / "j")[1]


def test_what_is_not_there_or_no_journal_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no journal " * 50)
    with sqlite3.connect(tmp_path / "other") as base:
        base.execute("CREATE TABLE mine (a)")
    base.close()
    for command in ("info", "export", "verify"):
        for name in ("none", "text", "other", ""):
            code, said = run(command, tmp_path / name)
            assert code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "none").exists()


@given(st.data())
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_a_damaged_journal_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder) / "j", 60)
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            del content[data.draw(st.integers(0, len(content))) :]
        for _ in range(data.draw(st.integers(0, 6))):
            if content:
                at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(len(content) - 1, 200)))
                junk = data.draw(st.binary(min_size=1, max_size=40))
                content[at : at + len(junk)] = junk
        path.write_bytes(content)
        _only_clear_errors(path)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_foreign_bytes_are_refused_in_one_line(content: bytes, header: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        path.write_bytes((b"SQLite format 3\x00" if header else b"") + content)
        _only_clear_errors(path)


_Cell = st.binary(max_size=60) | st.text(max_size=9) | st.integers(-9, 9)


@given(st.lists(st.tuples(_Cell, _Cell, _Cell), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_foreign_rows_are_refused_in_one_line(rows: list[tuple[Any, Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder) / "j", 3)
        with sqlite3.connect(path) as base:
            base.executemany("INSERT INTO answers (keys, labels, checksum) VALUES (?, ?, ?)", rows)
            base.executemany("INSERT INTO sent (keys) VALUES (?)", [row[:1] for row in rows])
        base.close()
        _only_clear_errors(path)
        if any(row != (b"", b"", 0) for row in rows):
            assert verify(path)
            with pytest.raises(InputError, match="is damaged"):
                Journal(path, "t")


def _only_clear_errors(path: Path) -> None:
    """Looking at a file and using it as a journal: it works, or it is one line."""

    def look() -> None:
        read(path)

    def use() -> None:
        with Journal(path, "t") as journal:
            journal.lookup(keys_of(X))
            journal.record(keys_of(X[:5]), torch.zeros(5, dtype=torch.int64))

    for action in (look, lambda: verify(path), use):
        try:
            action()
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)


# --- turns ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=12), st.data())
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_turns_count_like_a_dictionary(batches: list[list[int]], data: st.DataObject) -> None:
    counter, seen = RepeatCounter(), dict[int, int]()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(seen.get(value, 0))
            seen[value] = expected[-1] + 1
        found = counter.take(np.array(batch, dtype=np.uint64))
        assert found.tolist() == expected
        if data.draw(st.booleans()):
            counter._settle()


def test_turns_keep_a_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelleaks.core.oracle.query_keys._NEWEST", 7)
    counter = RepeatCounter()
    generator = np.random.default_rng(0)
    for _ in range(500):
        counter.take(generator.integers(0, 2**63, 7, dtype=np.uint64))
    assert len(counter._runs) <= 4
    assert sum(map(len, counter._runs)) == 3500


# --- answers in memory ------------------------------------------------------------------------------------------------

_SMALL = st.integers(0, 3)  # so that keys agree in a half, in both, and in all but the turn
_Batch = st.lists(st.tuples(_SMALL, _SMALL, _SMALL, st.integers(0, 99)), max_size=12)


@given(st.lists(st.tuples(_Batch, st.booleans()), max_size=9))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_answers_are_found_like_in_a_dictionary_and_the_first_stays(steps: list[tuple[Any, bool]]) -> None:
    answers, expected = Answers(), dict[tuple[int, int, int], int]()
    everything = np.array([(high, low, turn) for high in range(4) for low in range(4) for turn in range(4)], dtype=KEY)
    for batch, settle in steps:
        keys: Keys = np.array([row[:3] for row in batch], dtype=KEY)
        answers.add(keys, np.array([row[3] for row in batch], dtype=np.int32))
        for *key, label in batch:
            expected.setdefault(tuple(key), label)
        if settle:
            answers._settle()
        assert answers.find(everything).tolist() == [expected.get(tuple(key), -1) for key in everything.tolist()]
    assert len(answers) == len(expected)


def test_answers_keep_a_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelleaks.core.oracle.query_keys._NEWEST", 7)
    answers = Answers()
    keys = np.zeros(3500, dtype=KEY)
    keys["high"] = np.random.default_rng(0).integers(0, 2**63, 3500, dtype=np.uint64)
    labels = np.arange(3500, dtype=np.int32)
    for start in range(0, 3500, 7):
        answers.add(keys[start : start + 7], labels[start : start + 7])
    assert len(answers._runs) <= 4
    assert answers.find(keys).tolist() == labels.tolist()
