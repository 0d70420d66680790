"""Decisions that are given: rates, advantage, balanced accuracy, precision."""

from __future__ import annotations

from typing import Any

from labelleaks.errors import InputError
from labelleaks.metrics.binomial import clopper_pearson, difference_limits
from labelleaks.metrics.checks import count_decisions, error_of
from labelleaks.metrics.estimates import Estimate

__all__ = ["advantage", "balanced_accuracy", "precision", "rate"]


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
