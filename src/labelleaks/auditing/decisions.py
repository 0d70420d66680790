"""Result of `infer`: a decision and a score for each candidate, and the source of the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelleaks import metrics
from labelleaks.auditing.flags import Flag
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Status
from labelleaks.errors import InputError, MissingExtra
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

    @property
    def p_values(self) -> NDArray[np.float64] | None:
        """(n,), above 0, at most 1: the chance that a non-member scores as high as the candidate.

        A conformal p-value against the known non-members that the threshold's rule scored; it speaks of the population
        of non-members. None where the rule scored none (a number, random inputs).
        """
        known = self.threshold.nonmember_scores
        return None if known is None else metrics.conformal_p_values(self.scores, known)

    def at_fdr(self, fdr: float) -> Decisions:
        """Return these decisions made anew: of the calls, a share of at most ``fdr`` is false, in the mean.

        Benjamini & Hochberg's procedure on :attr:`p_values`; asks the target nothing. With k known non-members and m
        calls it can call nobody where n / (k + 1) > m ``fdr``: more known non-members let it call fewer candidates.

        Raises:
            InputError: an ``fdr`` that is none, or no known non-members: use threshold="fixed_fpr" or a hold-out.
        """
        p = self.p_values
        if p is None:
            raise InputError(
                f"at_fdr: the threshold ({self.threshold.source}) scored no known non-members; use "
                "threshold='fixed_fpr' with shadow rows, or HoldOut(...) with rows that are no candidates"
            )
        called = metrics.called_at_fdr(p, fdr)
        left = np.append(self.scores[~called], self.threshold.nonmember_scores or ())
        highest = (
            float(left[left < self.scores[called].min()].max(initial=-np.finfo(float).max)) if called.any() else None
        )
        decided = replace(
            self.threshold,
            tau=float(self.scores.max()) if highest is None else highest,
            objective=f"share of false calls of at most {fdr:g}",
            source=f"Benjamini-Hochberg over {len(self)} candidates; {self.threshold.source}",
            expected_fpr=None,
        )
        return replace(self, member=called, threshold=decided)

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame, a row for each candidate: what :meth:`rows` holds, threshold and expected FPR.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("to_frame() needs pandas: pip install 'labelleaks[tables]'") from error
        frame = pandas.DataFrame(self.rows(), columns=self.columns)
        return frame.assign(threshold=self.threshold.tau, expected_fpr=self.expected_fpr.value)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from labelleaks.auditing.report import decisions_html

        return decisions_html(self)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def columns(self) -> list[str]:
        """Names of what :meth:`rows` holds of each candidate."""
        return ["id", "member", "score", "status", "queries", *([] if self.p_values is None else ["p_value"])]

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each candidate: id, member, score, status (by name), queries, and p_value where known."""
        columns = zip(self.ids, self.member, self.scores, self.status, self.queries, strict=True)
        rows: list[dict[str, Any]] = [
            {"id": i, "member": bool(m), "score": float(s), "status": Status(int(st)).name, "queries": int(q)}
            for i, m, s, st, q in columns
        ]
        p = self.p_values
        return rows if p is None else [row | {"p_value": float(value)} for row, value in zip(rows, p, strict=True)]

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
