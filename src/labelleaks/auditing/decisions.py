"""Result of `infer`: a decision and a score for each candidate, and the source of the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.auditing.flags import Flag
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Status
from labelleaks.errors import MissingExtra
from labelleaks.metrics import Estimate

if TYPE_CHECKING:
    import pandas

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
    flags: tuple[Flag, ...] = ()
    """Reasons to doubt the decisions, the serious first."""

    @property
    def expected_fpr(self) -> Estimate:
        """Share of non-members that the threshold calls members, as its rule measured or promises it.

        Without a value, and with the reason, where the rule knows no non-members.
        """
        known = self.threshold.expected_fpr
        reason = f"{self.threshold.source}: no non-member was scored"
        return Estimate(None, reason=reason) if known is None else known

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame, a row for each candidate: what :meth:`rows` holds, threshold and expected FPR.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("to_frame() needs pandas: pip install 'labelleaks[tables]'") from error
        frame = pandas.DataFrame(self.rows(), columns=["id", "member", "score", "status", "queries"])
        return frame.assign(threshold=self.threshold.tau, expected_fpr=self.expected_fpr.value)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from labelleaks.auditing.report import decisions_html

        return decisions_html(self)

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
        doubts = [flag.name for flag in self.flags if flag.severity != "info"]
        return (
            f"Decisions({int(self.member.sum())} of {len(self)} called members, tau = {self.threshold.tau:g} "
            f"from {self.threshold.source}, expected FPR {_rate(self.expected_fpr)}, {self.ledger.rows} labels"
            f"{'; FLAGS: ' + ', '.join(doubts) if doubts else ''})"
        )


def _rate(expected: Estimate) -> str:
    if expected.value is None:
        return "unknown"
    return f"{expected.value:.3g}" if expected.high is None else f"{expected.value:.3g} (up to {expected.high:.3g})"
