"""Decisions: rates, advantage, balanced accuracy, precision; and thresholds that decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelleaks.errors import InputError
from labelleaks.metrics.estimates import (
    Estimate,
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

__all__ = ["advantage", "balanced_accuracy", "best_threshold", "conformal_threshold", "precision", "rate"]


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
