"""Decisions: rates, advantage, balanced accuracy, precision; and thresholds that decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelleaks.errors import InputError
from labelleaks.metrics.estimates import (
    Bools,
    Estimate,
    Floats,
    check_fpr,
    checked_scores,
    clopper_pearson,
    count_decisions,
    difference_limits,
    error_of,
    largest_count,
    least_rows,
    split,
)

__all__ = [
    "advantage",
    "balanced_accuracy",
    "best_threshold",
    "called_at_fdr",
    "conformal_p_values",
    "conformal_threshold",
    "precision",
    "precision_at_prior",
    "rate",
]


def rate(k: int, n: int, *, level: float = 0.95) -> Estimate:
    """Return k / n with the exact interval of Clopper & Pearson (1934).

    Raises:
        InputError: not 0 <= k <= n, or n < 1.
    """
    alpha = error_of(level)
    if not 0 <= k <= n or n < 1:
        raise InputError(f"rate: k of n needs 0 <= k <= n and n >= 1, got {k} of {n}")
    low, high = clopper_pearson(int(k), int(n), alpha)
    return Estimate(k / n, low, high)


def advantage(decided: Any, member: Any, *, level: float = 0.95) -> Estimate:
    """Return TPR - FPR of decisions that were not fitted on these rows.

    Interval: MOVER (Newcombe 1998, Zou & Donner 2008) from the two Clopper-Pearson intervals.
    """
    alpha = error_of(level)
    tp, m, fp, n = count_decisions(decided, member)
    low, high = difference_limits(tp, m, fp, n, alpha)
    return Estimate((tp * n - fp * m) / (m * n), low, high)


def balanced_accuracy(decided: Any, member: Any, *, level: float = 0.95) -> Estimate:
    """Return (TPR + 1 - FPR) / 2 of decisions that were not fitted on these rows; (1 + advantage) / 2, interval too."""
    difference = advantage(decided, member, level=level)
    value, low, high = (None if v is None else (1 + v) / 2 for v in (difference.value, difference.low, difference.high))
    return Estimate(value, low, high)


def precision(decided: Any, member: Any, *, level: float = 0.95) -> Estimate:
    """Return the share of members among the candidates called members, at these candidates' ratio of the groups.

    Interval: Clopper-Pearson on the candidates called members (conservative, since the groups' sizes are fixed).
    """
    tp, _, fp, _ = count_decisions(decided, member)
    if tp + fp == 0:
        error_of(level)
        return Estimate(None, reason="no candidate is called a member")
    return rate(tp, tp + fp, level=level)


def precision_at_prior(decided: Any, member: Any, prior: float, *, level: float = 0.95) -> Estimate:
    """Return the share of members among those called members, where a share ``prior`` of all candidates are members.

    π TPR / (π TPR + (1 - π) FPR), by Bayes' rule: an audit's groups are of a size of its own choice, a release is not.

    Interval: at the Clopper-Pearson limits of TPR and FPR, each with half of the error (conservative).

    Raises:
        InputError: a prior outside (0, 1).
    """
    alpha = error_of(level)
    if not 0 < prior < 1:
        raise InputError(f"prior={prior!r}: a share of members above 0 and below 1 is needed (1 % is 0.01)")
    tp, m, fp, n = count_decisions(decided, member)
    if tp + fp == 0:
        return Estimate(None, reason="no candidate is called a member")
    (tpr_low, tpr_high), (fpr_low, fpr_high) = clopper_pearson(tp, m, alpha / 2), clopper_pearson(fp, n, alpha / 2)

    def share(tpr: float, fpr: float) -> float:
        called = prior * tpr + (1 - prior) * fpr
        return prior * tpr / called if called > 0 else 0.0

    return Estimate(share(tp / m, fp / n), share(tpr_low, fpr_high), share(tpr_high, fpr_low))


def conformal_p_values(scores: Any, nonmember_scores: Any) -> Floats:
    """Return for each score the chance that a non-member scores as high: float64 (n,), above 0, at most 1.

    (1 + known non-members with at least this score) / (1 + known non-members): for a candidate that is a non-member,
    exchangeable with those, it is below p with probability at most p (Vovk et al. 2005). It speaks of the population of
    non-members, not of this record.

    Args:
        scores: (n,) of candidates. nonmember_scores: (k,) of known non-members that nothing was fitted on.

    Raises:
        InputError: NaN or infinity, or no known non-member.
    """
    asked, nonmembers = checked_scores(scores, "scores"), np.sort(checked_scores(nonmember_scores, "nonmember_scores"))
    if len(nonmembers) == 0:
        raise InputError("nonmember_scores: p-values need known non-members; give at least one")
    above = len(nonmembers) - np.searchsorted(nonmembers, asked, "left")
    return np.asarray((1 + above) / (1 + len(nonmembers)), dtype=np.float64)


def called_at_fdr(p_values: Any, fdr: float) -> Bools:
    """Return who is called a member such that at most a share ``fdr`` of the calls are false, in the mean: bool (n,).

    Benjamini & Hochberg (1995); with conformal p-values of one calibration set it holds as well (Bates et al. 2023,
    2104.08279).

    Raises:
        InputError: a p-value or an ``fdr`` outside (0, 1].
    """
    p = checked_scores(p_values, "p_values")
    if not 0 < fdr <= 1 or isinstance(fdr, bool):
        raise InputError(f"fdr={fdr!r}: a share of false calls above 0 and at most 1 is needed (10 % is 0.1)")
    if len(p) and not (p.min() > 0 and p.max() <= 1):
        raise InputError(f"p_values: {float(p.min()):g} to {float(p.max()):g}; above 0 and at most 1 is needed")
    ascending = np.sort(p)
    allowed = np.flatnonzero(ascending <= fdr * np.arange(1, len(p) + 1) / max(1, len(p)))
    return np.asarray(p <= ascending[allowed[-1]]) if len(allowed) else np.zeros(len(p), dtype=np.bool_)


def best_threshold(scores: Any, member: Any) -> float:
    """Return tau of maximal balanced accuracy, member iff score > tau: halfway between two tie groups.

    Of several equally good the highest, which calls the fewest members; if nothing beats calling nobody a member, the
    highest score. Always finite.
    """
    members, nonmembers = split(scores, member)
    m, n = len(members), len(nonmembers)
    levels = np.unique(np.concatenate([members, nonmembers]))[::-1]
    tp, fp = ((len(g) - np.searchsorted(np.sort(g), levels, "right")).astype(np.int64) for g in (members, nonmembers))
    best = int(np.argmax(tp * n - fp * m))  # integers: equally good is exactly equal; levels descend, the first wins
    below = float(levels[best])
    if best == 0:
        return below
    above = float(levels[best - 1])
    halfway = below / 2 + above / 2  # not (below + above) / 2, which overflows
    return halfway if below <= halfway < above else below


def conformal_threshold(nonmember_scores: Any, fpr: float) -> float:
    """Return tau such that an exchangeable non-member scores > tau with probability at most ``fpr``, exactly.

    The j-th highest of n scores, j = floor((n + 1) fpr) (split conformal; Vovk et al. 2005).

    Args:
        nonmember_scores: (n,) scores of known non-members that nothing was fitted on.
        fpr: a fraction, 0 < fpr < 1.

    Raises:
        InputError: NaN or infinity, an ``fpr`` outside (0, 1), or fewer than 1/fpr - 1 scores.
    """
    check_fpr(fpr)
    descending = np.sort(checked_scores(nonmember_scores, "nonmember_scores"))[::-1]
    rank = largest_count(fpr, len(descending) + 1)
    if rank == 0:
        raise InputError(
            f"a threshold at {100 * fpr:g} % FPR needs at least {least_rows(fpr) - 1} non-members to calibrate on, got "
            f"{len(descending)}: give more rows or a larger fpr"
        )
    return float(descending[rank - 1])
