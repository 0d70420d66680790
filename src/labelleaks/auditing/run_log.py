"""Ledger of a record (rows by phase and candidate), and the log of a run (times, calls, retries, price)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core import serialization
from labelleaks.core.oracle.label_oracle import CANARY, Ledger

__all__ = ["LedgerSummary", "RunLog"]


@dataclass(frozen=True, eq=False)
class LedgerSummary:
    """Rows that the target saw, by phase and by candidate."""

    setup: Mapping[str, int]
    """Rows that belong to no candidate, by phase."""
    candidates: Mapping[str, int]
    """Rows sent for candidates, by phase."""
    by_candidate: NDArray[np.int64]
    """(n,): rows sent for each candidate, all attacks together."""

    @classmethod
    def of(cls, ledger: Ledger, n: int) -> LedgerSummary:
        """Sum up a run's ledger for its ``n`` candidates.

        Rows that a journal answered count as what they are, rows that an earlier sitting of the same run paid for: so
        a run that was resumed leaves the same record as one that was not. For the same reason canaries are left out:
        they are in the run's log.
        """
        total = np.zeros(n, dtype=np.int64)
        setup: dict[str, int] = {}
        candidates: dict[str, int] = {}
        for book in (ledger.setup, ledger.replayed_setup):
            for phase, count in book.items():
                setup[phase] = setup.get(phase, 0) + count
        for accounts in (ledger.candidates, ledger.replayed_candidates):
            for phase, rows in accounts.items():
                candidates[phase] = candidates.get(phase, 0) + int(rows.sum())
                total[: len(rows)] += rows.numpy()
        setup.pop(CANARY, None)
        return cls(setup=dict(sorted(setup.items())), candidates=dict(sorted(candidates.items())), by_candidate=total)

    @property
    def setup_rows(self) -> int:
        return sum(self.setup.values())

    @property
    def rows(self) -> int:
        """All rows that the target saw."""
        return self.setup_rows + sum(self.candidates.values())

    @property
    def by_phase(self) -> dict[str, int]:
        """Rows by phase, set-up first."""
        rows_of = dict(self.setup)
        for phase, rows in self.candidates.items():
            rows_of[phase] = rows_of.get(phase, 0) + rows
        return rows_of


@dataclass(frozen=True)
class RunLog:
    """Facts that differ between two equal runs; never part of a record."""

    started: str = ""
    """UTC, ISO 8601."""
    seconds: float = 0.0
    target_seconds: float = 0.0
    """Spent inside the target."""
    calls: int = 0
    cached: int = 0
    """Rows answered from the journal."""
    retries: int = 0
    """Rows sent again after a failure."""
    maybe_repaid: int = 0
    """Rows sent that had been on their way when an earlier sitting died: it may have been charged for them too."""
    canary_rows: int = 0
    """Rows that only found out whether the target changed since its journal was begun; not in the record's ledger."""
    cost: float = 0.0
    """Price of all requests, in the user's currency."""
    host: str = ""
    platform: str = ""
    attack_seconds: Mapping[str, float] = field(default_factory=dict)
    models_reused: int = 0
    """Shadow models taken from ``references_dir``."""
    training_seconds: float = 0.0
    """For the other shadow models, one added to the other; less than that passed where processes shared them."""

    engine: Mapping[str, Any] = field(default_factory=dict)
    """Who did the work: name, size, how many shards; and why attacks were not cut into shards, where they were not."""

    def save(self, folder: str | Path) -> None:
        """Write ``run.json``, readable as widely as the record beside it."""
        path = Path(folder) / "run.json"
        record = path.with_name("record.json")
        private = record.exists() and not record.stat().st_mode & 0o077
        serialization.write_atomic(path, serialization.to_json(serialization.encode(self, {}, "run")), private=private)

    @classmethod
    def load(cls, folder: str | Path) -> RunLog | None:
        """Return the log of a run's folder, or None where there is none."""
        path = Path(folder) / "run.json"
        if not path.exists():
            return None
        data = serialization.parse_json(path.read_text("utf-8"), path)
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})
