"""Kinds of rows x what a run can be (shards, votes, journals, resumed): each leaves what a plain run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import labelleaks as ll
from labelleaks.attacks import Boundary, Noise
from tests.doors.test_kinds import cut

RNG = np.random.default_rng(1)
Y = np.arange(40) % 2
ROWS: dict[str, Any] = {
    "table": pd.DataFrame(
        {"a": RNG.random(40), "city": list("abcd" * 10), "b": [None if i % 7 == 0 else i for i in range(40)]}
    ),
    "missing": np.where(RNG.random((40, 5)) > 0.9, np.nan, RNG.random((40, 5))),
    "sparse": scipy.sparse.csr_matrix(np.round(RNG.random((40, 6))) * RNG.random((40, 6))),
    "dict": {"input_ids": RNG.integers(0, 50, (40, 4)), "attention_mask": np.ones((40, 4), int)},
    "8-bit": RNG.integers(0, 256, (40, 5, 5)).astype("u1"),
}


def first_numbers(rows: Any) -> Any:
    if isinstance(rows, dict):
        return rows["input_ids"][:, 0] % 2
    if isinstance(rows, pd.DataFrame):
        return (rows["a"].to_numpy() > 0.5).astype(int)
    dense = rows.toarray() if scipy.sparse.issparse(rows) else rows
    return (
        np.nan_to_num(dense.reshape(len(dense), -1).astype(float)).mean(1) > 0.4 * (255 if dense.dtype == "u1" else 1)
    ).astype(int)


class Target:
    """Answers by what a row holds, and counts the rows; ``dies_after`` rows it fails."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.rows, self.dies_after = 0, dies_after

    fingerprint = "by the numbers"

    def __call__(self, rows: Any) -> Any:
        answer = first_numbers(rows)
        self.rows += len(answer)
        if self.dies_after is not None and self.rows > self.dies_after:
            raise ConnectionError("gone")
        return answer


def audit(kind: str, target: Any = None, **options: Any) -> Any:
    x = ROWS[kind]
    given: dict[str, Any] = {
        "attacks": ["gap", Noise(), Boundary()],
        "budget": 40,
        "classes": 2,
        "show_progress": False,
    }
    halves = {"members": (cut(x, slice(0, 20)), Y[:20]), "nonmembers": (cut(x, slice(20, 40)), Y[20:])}
    return ll.audit(target or Target(), **halves, **{**given, **options})


def same(a: Any, b: Any) -> None:
    assert list(a) == list(b)
    for name in a:
        assert (
            a[name].scores.tolist() == b[name].scores.tolist() and a[name].queries.tolist() == b[name].queries.tolist()
        )


@pytest.mark.parametrize("kind", ROWS)
def test_shards_votes_and_a_journal_change_no_score(kind: str, tmp_path: Path) -> None:
    attacks = ["gap", Noise(), Boundary(votes=3)]
    whole = audit(kind, attacks=attacks, allow_noisy=True, budget=120)
    same(audit(kind, attacks=attacks, allow_noisy=True, budget=120, shard_rows=7), whole)
    journal = tmp_path / "j.sqlite"
    kept = audit(kind, attacks=attacks, allow_noisy=True, budget=120, journal=journal)
    same(kept, whole)
    target = Target()
    same(audit(kind, target, attacks=attacks, allow_noisy=True, budget=120, journal=journal, shard_rows=7), whole)
    assert target.rows == 0, "every answer is in the journal"


@pytest.mark.parametrize("kind", ROWS)
def test_a_run_that_died_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    whole, all_rows = audit(kind), Target()
    audit(kind, all_rows)
    journal = tmp_path / "j.sqlite"
    dying = Target(dies_after=all_rows.rows // 2)
    with pytest.raises(ll.LabelLeaksError):
        audit(kind, dying, journal=journal)
    rest = Target()
    same(audit(kind, rest, journal=journal), whole)
    assert 0 < rest.rows < all_rows.rows


@pytest.mark.parametrize("kind", ROWS)
def test_ids_are_one_for_each_row(kind: str) -> None:
    with pytest.raises(ll.InputError, match="names more than one candidate"):
        audit(kind, attacks=["gap"], ids=["a"] * 40)
    record = audit(kind, attacks=["gap"])
    assert len(set(record.ids)) == 40
