"""Ledger of a run's queries: rows by candidate and phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["CANARY", "SETUP", "Ledger"]

SETUP = -1
"""Owner of rows that belong to no candidate: relabelling, random inputs for a threshold, probes of the target."""

CANARY = "target.canary"
"""Phase of rows that only find out whether the target changed since a journal was begun: billed, never recorded."""


@dataclass(eq=False)
class Ledger:
    """Rows sent, by candidate and phase. Rows are counted when they are sent, whatever the target makes of them."""

    setup: dict[str, int] = field(default_factory=dict)
    """Rows of owner -1, by phase (``"transfer.relabel"``)."""
    candidates: dict[str, Tensor] = field(default_factory=dict)
    """Rows by phase (``"boundary.gradient"``): int64 (n,) each."""
    calls: int = 0
    """Calls of the target; of a remote one, requests that were sent, repeated ones among them."""
    seconds: float = 0.0
    """Time spent inside the target."""
    replayed_setup: dict[str, int] = field(default_factory=dict)
    """Rows of owner -1 that the journal answered, by phase: paid for by an earlier run; not in any other count."""
    replayed_candidates: dict[str, Tensor] = field(default_factory=dict)
    """The same for candidates: int64 (n,) each."""
    retries: int = 0
    """Rows sent again after a failure (remote targets); not in any other count of rows."""
    maybe_repaid: int = 0
    """Rows sent that had been on their way when an earlier run died: that one may have been charged for them too."""
    cost: float = 0.0
    """Price of all requests that were sent, repeated ones among them (remote targets that have one)."""

    @property
    def rows(self) -> int:
        """All rows that the target saw."""
        return self.setup_rows + sum(int(rows.sum()) for rows in self.candidates.values())

    @property
    def setup_rows(self) -> int:
        """Rows billed to set-up."""
        return sum(self.setup.values())

    @property
    def cached(self) -> int:
        """Rows answered from the journal instead of the target."""
        replayed = sum(int(rows.sum()) for rows in self.replayed_candidates.values())
        return sum(self.replayed_setup.values()) + replayed

    def by_phase(self) -> dict[str, int]:
        """Rows by phase, set-up phases included, in the order of first use."""
        rows_of = dict(self.setup)
        for phase, rows in self.candidates.items():
            rows_of[phase] = rows_of.get(phase, 0) + int(rows.sum())
        return rows_of

    def bill(self, owner: Tensor, phase: str, accounts: int, *, replayed: bool = False) -> None:
        """Enter one row for each entry of ``owner`` (int64, -1 = set-up): sent, or answered by the journal."""
        setup_rows = self.replayed_setup if replayed else self.setup
        candidate_rows = self.replayed_candidates if replayed else self.candidates
        by_owner = torch.bincount(owner + 1, minlength=accounts + 1).cpu()  # owner -1 comes first
        setup, counts = int(by_owner[0]), by_owner[1:]
        if setup:
            setup_rows[phase] = setup_rows.get(phase, 0) + setup
        if setup < len(owner):
            before = candidate_rows.get(phase)
            candidate_rows[phase] = counts if before is None else before + counts

    def describe(self) -> dict[str, Any]:
        """Return what a record says: counts only, nothing that differs between two equal runs."""
        return {"rows": self.rows, "setup_rows": self.setup_rows, "by_phase": self.by_phase()}

    def take_in(self, other: Ledger, first: int, accounts: int) -> None:
        """Add what was sent for a part of the candidates; what was replayed there was paid for here.

        Args:
            other: its candidate 0 is candidate ``first`` here.
            accounts: candidates here.
        """
        for phase, rows in other.setup.items():
            self.setup[phase] = self.setup.get(phase, 0) + rows
        for phase, counts in other.candidates.items():
            mine = self.candidates.setdefault(phase, torch.zeros(accounts, dtype=torch.int64))
            mine[first : first + len(counts)] += counts
        self.calls += other.calls
        self.seconds += other.seconds
