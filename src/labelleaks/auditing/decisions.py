"""Result of `infer`: a decision and a score for each candidate, and the source of the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Status

__all__ = ["Decisions"]


@dataclass(frozen=True, eq=False)
class Decisions:
    """One row a candidate, in the order given."""

    member: NDArray[np.bool_]
    """(n,): score > threshold.tau"""
    scores: NDArray[np.float64]
    """(n,); higher = more likely a member"""
    status: NDArray[np.int64]
    """(n,), values of :class:`labelleaks.Status`"""
    queries: NDArray[np.int64]
    """(n,): labels that the attack needed"""
    threshold: Threshold
    ids: tuple[str, ...]
    attack: Mapping[str, Any]
    """The attack's name and hyperparameters."""
    ledger: Ledger
    details: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each candidate: id, member, score, status (by name), queries."""
        columns = zip(self.ids, self.member, self.scores, self.status, self.queries, strict=True)
        return [
            {"id": i, "member": bool(m), "score": float(s), "status": Status(int(st)).name, "queries": int(q)}
            for i, m, s, st, q in columns
        ]

    def __repr__(self) -> str:
        return (
            f"Decisions({int(self.member.sum())} of {len(self)} called members, tau = {self.threshold.tau:g} "
            f"from {self.threshold.source}, {self.ledger.rows} labels)"
        )
