"""The journal: exact, private, one target's; and resuming a killed run is replaying it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor

from labelleaks.attacks.gap import Gap
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.query_keys import digests, keys_of
from labelleaks.core.types import Candidates, Scores
from labelleaks.errors import InputError

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))


def test_answers_come_back_by_the_exact_content(tmp_path: Path) -> None:
    labels = torch.arange(40) % 7
    with Journal(tmp_path / "a.journal", "t") as journal:
        assert journal.lookup(keys_of(X)).tolist() == [-1] * 40
        journal.record(keys_of(X[:25]), labels[:25])
        order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
        wanted = torch.where(order < 25, labels[order], -1)
        assert journal.lookup(keys_of(X[order])).equal(wanted)
        nearly = X.clone()
        nearly[0, 0] = torch.nextafter(X[0, 0], torch.tensor(2.0))
        assert journal.lookup(keys_of(nearly))[:2].tolist() == [-1, labels[1]]
        assert journal.lookup(keys_of(X.reshape(40, 2, 3))).tolist() == [-1] * 40  # the same bytes in another shape
        assert journal.lookup(keys_of(X.double())).dtype == torch.int64
        assert len(journal) == 25
    with Journal(tmp_path / "a.journal", "t") as again:
        assert again.lookup(keys_of(X[order])).equal(wanted)


def test_many_rows_at_once(tmp_path: Path) -> None:
    x = torch.arange(3001.0)[:, None]
    with Journal(tmp_path / "a", "t") as journal:
        journal.record(keys_of(x[::2]), torch.arange(1501))
        found = journal.lookup(keys_of(x))
    assert found[::2].equal(torch.arange(1501))
    assert (found[1::2] == -1).all()


def test_a_recorded_answer_never_changes(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as journal:
        journal.record(keys_of(X[:2]), torch.tensor([1, 2]))
        journal.record(keys_of(X[1:3]), torch.tensor([5, 6]))
        assert journal.lookup(keys_of(X[:3])).tolist() == [1, 2, 6]


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as journal:
        with pytest.raises(ValueError):
            journal.record(keys_of(X[:3]), torch.tensor([1, 2]))  # one label short
        assert len(journal) == 0
        journal.record(keys_of(X[:3]), torch.tensor([1, 2, 3]))
        assert len(journal) == 3


def test_keys_are_the_bytes_and_the_shape() -> None:
    assert len(set(digests(X))) == 40
    assert digests(X)[3] == digests(X[3:4])[0] == digests(X.t().contiguous().t())[3]
    assert digests(torch.tensor([[0.0]])) != digests(torch.tensor([[-0.0]]))
    assert digests(torch.zeros(1, 2, 3)) != digests(torch.zeros(1, 6))
    assert all(len(key) == 16 for key in digests(X))
    assert digests(X[:0]) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.journal"
    before = os.umask(0o000)
    try:
        with Journal(path, "t") as journal:
            journal.record(keys_of(X), torch.zeros(40, dtype=torch.int64))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"a.journal", "a.journal-wal", "a.journal-shm"}
    assert set(modes.values()) == {0o600} and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    with Journal(path, "t"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_a_write_ahead_log(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t"), sqlite3.connect(tmp_path / "a") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


def test_another_target_is_refused_by_both_names(tmp_path: Path) -> None:
    Journal(tmp_path / "a", "torch:1111").close()
    with pytest.raises(InputError, match="holds answers of torch:1111, this target is torch:2222"):
        Journal(tmp_path / "a", "torch:2222")
    Journal(tmp_path / "a", "torch:1111").close()


def test_two_runs_share_one_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as one, Journal(tmp_path / "a", "t") as two:
        one.record(keys_of(X[:1]), torch.tensor([3]))
        assert two.lookup(keys_of(X[:1])).tolist() == [3]
        two.record(keys_of(X[1:2]), torch.tensor([4]))
        assert one.lookup(keys_of(X[:2])).tolist() == [3, 4]


def test_of_two_runs_that_answer_the_same_the_first_is_right_for_both(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as one, Journal(tmp_path / "a", "t") as two:
        one.record(keys_of(X[:3]), torch.tensor([1, 1, 1]))
        two.record(keys_of(X[1:5]), torch.tensor([2, 2, 2, 2]))  # before it looked
        one.record(keys_of(X[4:6]), torch.tensor([3, 3]))
        for journal in (one, two):
            assert journal.lookup(keys_of(X[:7])).tolist() == [1, 1, 1, 2, 2, 3, -1]
            assert len(journal) == 6
    with Journal(tmp_path / "a", "t") as again:
        assert again.lookup(keys_of(X[:7])).tolist() == [1, 1, 1, 2, 2, 3, -1]


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing of the kind " * 100)
    with pytest.raises(InputError, match="is not a journal of labelleaks"):
        Journal(text, "t")
    assert text.read_text().startswith("nothing")
    base = tmp_path / "else.db"
    with sqlite3.connect(base) as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()
    with pytest.raises(InputError, match="SQLite file of something else"):
        Journal(base, "t")
    with pytest.raises(InputError, match="cannot be opened"):
        Journal(tmp_path, "t")
    newer = tmp_path / "newer"
    Journal(newer, "t").close()
    with sqlite3.connect(newer) as other:
        other.execute("UPDATE meta SET value = '9' WHERE key = 'schema'")
    other.close()
    with pytest.raises(InputError, match="has schema 9, this version reads 2"):
        Journal(newer, "t")


# --- resume is replay -------------------------------------------------------------------------------------------------


class Target:
    """A half-space that counts its rows and dies when it is told to."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.seen: list[bytes] = []
        self.dies_after = dies_after

    def __call__(self, x: Tensor) -> Tensor:
        assert len(x) > 0
        if self.dies_after is not None and len(self.seen) + len(x) > self.dies_after:
            raise KeyboardInterrupt
        self.seen.extend(digests(x))
        return (x.double().sum(1) > 3.0).long()


def wander(oracle, candidates: Candidates, *, seed: int, steps: int = 12) -> Scores:  # type: ignore[no-untyped-def]
    """An attack whose every query depends on the answer before it: steps that halve or go on."""
    from labelleaks.core import rng

    keys = candidates.streams(seed, "wander")
    noise = rng.uniform(keys, steps * 6).reshape(len(candidates), steps, 6) - 0.5
    at = candidates.x.clone()
    value = torch.zeros(len(candidates), dtype=torch.float64)
    everyone = torch.arange(len(candidates))
    for step in range(steps):
        query = candidates.domain.project(at + noise[:, step])
        same = oracle.query(query, everyone, phase="step") == candidates.y
        at = torch.where(same[:, None], query, (at + candidates.x) / 2)
        value += same.double() * (at - candidates.x).double().norm(dim=1)
    return Scores(value=value, status=torch.zeros_like(everyone), queries=oracle.spent)


def run(target: Target, journal: Journal | None) -> tuple[Scores, Scores, Gate]:
    gate = Gate(target, batch_rows=16, journal=journal)
    y = (X.double().sum(1) > 3.0).long()
    candidates = Candidates(X, y, Box(0, 1), 2)
    gap = Gap().score(gate.oracle("gap", 40, 1), candidates, Knowledge(gate.setup_oracle("gap")), seed=0)
    return gap, wander(gate.oracle("wander", 40, 12), candidates, seed=0), gate


@pytest.mark.parametrize("dies_after", [0, 5, 40, 56, 111, 400])
def test_a_killed_run_sends_nothing_twice_and_ends_with_the_same_bits(tmp_path: Path, dies_after: int) -> None:
    whole = Target()
    gap, walk, gate = run(whole, None)
    assert gate.ledger.rows == len(whole.seen) == 40 * 13

    first = Target(dies_after)
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "a", "t") as journal:
        run(first, journal)
    second = Target()
    with Journal(tmp_path / "a", "t") as journal:
        again_gap, again_walk, again_gate = run(second, journal)

    assert not set(first.seen) & set(second.seen)
    assert sorted(set(first.seen) | set(second.seen)) == sorted(set(whole.seen))
    assert again_gate.ledger.rows == len(second.seen)
    assert again_gate.ledger.cached >= len(first.seen)
    for one, other in ((gap, again_gap), (walk, again_walk)):
        assert one.value.equal(other.value) and one.status.equal(other.status)
        assert one.queries.equal(other.queries)  # what the attack needed, cached answers included


def test_a_whole_run_replays_without_the_target(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as journal:
        gap, walk, _ = run(Target(), journal)
    silent = Target(dies_after=0)  # would die at its first row
    with Journal(tmp_path / "a", "t") as journal:
        again_gap, again_walk, gate = run(silent, journal)
    assert gate.ledger.rows == 0 and gate.ledger.cached == 40 * 13
    assert gap.value.equal(again_gap.value) and walk.value.equal(again_walk.value)


@pytest.mark.kill
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_what_was_recorded_survives_the_death_of_the_process(tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import os, signal, torch
        from labelleaks.core.oracle.journal import Journal
        from labelleaks.core.oracle.query_keys import keys_of
        journal = Journal({str(tmp_path / "a")!r}, "t")
        journal.record(keys_of(torch.arange(10.0)[:, None]), torch.arange(10))
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    with Journal(tmp_path / "a", "t") as journal:
        assert journal.lookup(keys_of(torch.arange(10.0)[:, None])).tolist() == list(range(10))
