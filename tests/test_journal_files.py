"""Journals as files: what `labelleaks journal` says of them; no damaged or foreign file does worse than a line."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from labelleaks.cli import app
from labelleaks.content import digests
from labelleaks.errors import InputError
from labelleaks.journal import Journal, keys_of
from labelleaks.journalfile import read, verify
from labelleaks.turns import Turns

X = torch.rand(300, 6, generator=torch.Generator().manual_seed(0))


def filled(path: Path, rows: int = 300) -> Path:
    turns = Turns()
    with Journal(path, "t") as journal:
        for _ in range(2):
            keys = keys_of(X[:rows], turns)
            journal.record(keys, torch.arange(rows) % 3)
        journal.begin([b"x" * 16, b"y" * 16])
    return path


def run(*arguments: str | Path) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["journal", *map(str, arguments)])
    assert found.exception is None or isinstance(found.exception, SystemExit)
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
    with sqlite3.connect(tmp_path / "j") as base:
        base.execute("UPDATE answers SET label = -4")
        base.execute("INSERT INTO answers VALUES (x'00ff', 1)")
    base.close()
    code, said = run("verify", tmp_path / "j")
    assert code == 2 and "1 keys are not hashes" in said and "600 labels are not codes" in said
    assert said.count("\n") == 1


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


@given(st.lists(st.tuples(st.binary(max_size=30) | st.text(max_size=9), st.integers(-9, 9) | st.text(max_size=9))))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_foreign_rows_are_refused_in_one_line(rows: list[tuple[bytes | str, int | str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder) / "j", 3)
        with sqlite3.connect(path) as base:
            base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", [(key, "no") for key in digests(X[:1])])
        base.close()
        _only_clear_errors(path)
        with Journal(path, "t") as journal, pytest.raises(InputError, match="an answer that is not a label"):
            journal.lookup(keys_of(X[:3]))
        assert verify(path)


def _only_clear_errors(path: Path) -> None:
    """Looking at a file and using it as a journal: it works, or it is one line."""

    def look() -> None:
        with read(path) as (_, rows):
            list(rows)

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


@given(st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=12))
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_turns_count_like_a_dictionary(batches: list[list[int]]) -> None:
    turns, seen = Turns(), dict[int, int]()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(seen.get(value, 0))
            seen[value] = expected[-1] + 1
        found = turns.take([value.to_bytes(16, "little") for value in batch])
        assert found.tolist() == expected


def test_turns_keep_a_few_runs() -> None:
    turns = Turns()
    generator = np.random.default_rng(0)
    for _ in range(500):
        turns.take([generator.bytes(16) for _ in range(7)])
    assert len(turns._runs) <= 14
    assert sum(map(len, turns._runs)) == 3500
