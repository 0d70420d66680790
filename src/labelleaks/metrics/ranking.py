"""The whole ranking: ROC, AUC, two attacks compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from labelleaks.errors import InputError
from labelleaks.metrics.estimates import Comparison, Estimate, Floats, Ints, Roc, difference_limits, error_of, split

__all__ = ["auc", "compare_auc", "holm", "roc"]


def roc(scores: Any, member: Any) -> Roc:
    """Return the ROC with one point for each distinct score, from (0, 0) to (1, 1)."""
    members, nonmembers = split(scores, member)
    levels = np.unique(np.concatenate([members, nonmembers]))[::-1]
    tpr, fpr = (
        (len(group) - np.searchsorted(np.sort(group), levels, "left")) / len(group) for group in (members, nonmembers)
    )
    first = np.zeros(1)
    return Roc(np.concatenate([first, fpr]), np.concatenate([first, tpr]), np.concatenate([first + np.inf, levels]))


def auc(scores: Any, member: Any, *, level: float = 0.95) -> Estimate:
    """Return P(score of a member > score of a non-member) + P(equal) / 2.

    Interval: DeLong's variance (DeLong, DeLong & Clarke-Pearson 1988) by midranks in O(n log n), on the logit scale,
    with Student's t for the degrees of freedom of Welch and Satterthwaite. Near 0 and 1 that is too narrow, and where
    all pairs are in order, all out of order or all tied it is nothing, so a bound that is exact for any distribution
    goes before: min(members, non-members) disjoint pairs are independent, and so all pairs show what a pair shows with
    probability q at most q^pairs often. No data of this size show an AUC above that bound, and none is claimed.
    Scores of two values (the gap attack) have the interval of the balanced accuracy, which their AUC is.
    """
    alpha = error_of(level)
    members, nonmembers = (np.sort(group) for group in split(scores, member))  # sorted look-ups are faster
    m, n = len(members), len(nonmembers)
    of_members, of_nonmembers = _placements(members, nonmembers)
    twice = int(of_members.sum())  # twice the pairs in order, ties counted once: an exact integer
    value = twice / (2 * m * n)
    all_alike = (alpha / 2) ** (1 / min(m, n))
    lowest, highest = min(members[0], nonmembers[0]), max(members[-1], nonmembers[-1])
    if lowest == highest:
        return Estimate(value, all_alike / 2, 1 - all_alike / 2)
    tp, fp = int((members == highest).sum()), int((nonmembers == highest).sum())
    if tp + fp + int((members == lowest).sum()) + int((nonmembers == lowest).sum()) == m + n:
        low, high = difference_limits(tp, m, fp, n, alpha)
        return Estimate(value, (1 + low) / 2, (1 + high) / 2)
    if twice in (0, 2 * m * n):
        return Estimate(value, all_alike if twice else 0.0, 1.0 if twice else 1 - all_alike)
    if min(m, n) < 2:
        return Estimate(value, 0.0, 1.0, unstable=True)  # one row says nothing about the spread of its group
    far = max(value, 1 - value)
    half = _half_width(of_members / (2 * n), of_nonmembers / (2 * m), alpha, far, again=False) / (value * (1 - value))
    logit = math.log(value) - math.log1p(-value)
    return Estimate(value, min(_expit(logit - half), all_alike), max(_expit(logit + half), 1 - all_alike))


def compare_auc(a: Any, b: Any, member: Any, *, level: float = 0.95) -> Comparison:
    """Compare the AUC of scores ``a`` with that of ``b`` on the same candidates: paired DeLong, Student's t.

    The row furthest from its group's mean counts twice in the variance: without that the interval is too narrow for
    attacks that differ in few rows and for attacks that are both nearly perfect.

    Where the variance is 0 because every pair shows the same difference (identical rankings; perfect separation against
    constant scores), interval and p-value are the exact bound of :func:`auc`; where it is 0 otherwise, or a group has
    one row, they say nothing: (-1, 1) and 1.
    """
    alpha = error_of(level)
    groups = [split(scores, member, name) for scores, name in ((a, "a"), (b, "b"))]
    m, n = len(groups[0][0]), len(groups[0][1])
    (members_a, nonmembers_a), (members_b, nonmembers_b) = (_placements(*group) for group in groups)
    of_members, of_nonmembers = members_a - members_b, nonmembers_a - nonmembers_b
    difference = int(of_members.sum()) / (2 * m * n)
    constant = _constant_difference(groups, difference)
    if constant:
        # With probability q a pair shows the difference c seen in all pairs, else anything from -1 to 1.
        pairs = min(m, n)
        q = (alpha / 2) ** (1 / pairs)
        low, high = max(-1.0, q * difference - (1 - q)), min(1.0, q * difference + (1 - q))
        return Comparison(Estimate(difference, low, high), min(1.0, 2 * (1 + abs(difference)) ** -float(pairs)))
    d10, d01 = of_members / (2 * n), of_nonmembers / (2 * m)
    if min(m, n) < 2 or (np.ptp(of_members) == 0 and np.ptp(of_nonmembers) == 0):
        return Comparison(Estimate(difference, -1.0, 1.0, unstable=True), 1.0)
    far = 1 + abs(difference)
    half = _half_width(d10, d01, alpha, far, again=True)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Comparison(Estimate(difference, low, high), _p_value(difference, d10, d01, far))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for making all these comparisons at once (Holm 1979), in the order given.

    Raises:
        InputError: a p-value outside 0 … 1.
    """
    p = np.asarray(p_values, dtype=np.float64).reshape(-1)
    if not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"holm: p-values must be 0 to 1, got {p[~((p >= 0) & (p <= 1))][0]}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(one) for one in adjusted]


def _placements(members: Floats, nonmembers: Floats) -> tuple[Ints, Ints]:
    """Twice the number of rows of the other group that each row beats (a tie: half), as exact integers.

    For a non-member, beating means that the *member* scores higher, so that both sum to the same number.
    """
    x, y = np.sort(members), np.sort(nonmembers)
    of_members = np.searchsorted(y, members, "left") + np.searchsorted(y, members, "right")
    of_nonmembers = 2 * len(x) - np.searchsorted(x, nonmembers, "left") - np.searchsorted(x, nonmembers, "right")
    return of_members.astype(np.int64), of_nonmembers.astype(np.int64)


def _constant_difference(groups: list[tuple[Floats, Floats]], difference: float) -> bool:
    """Whether all (member, non-member) pairs show the same difference between the two scores' verdicts."""
    strict_and_weak = [
        [
            np.searchsorted(np.sort(other), one, side)
            for one, other in ((members, nonmembers), (nonmembers, members))
            for side in ("left", "right")
        ]
        for members, nonmembers in groups
    ]
    # "Beats" and "beats or ties" are nested 0/1 tables; such a table is known by its row and column sums (Ryser).
    if all(np.array_equal(*pair) for pair in zip(*strict_and_weak, strict=True)):
        return True
    verdicts = [_placements(*group)[0] for group in groups]
    n = len(groups[0][1])
    tied = [len(np.unique(np.concatenate(group))) == 1 for group in groups]
    extreme = [bool((one == 0).all() or (one == 2 * n).all()) for one in verdicts]
    return difference != 0 and all(t or e for t, e in zip(tied, extreme, strict=True))


def _spread(d10: Floats, d01: Floats, far: float, again: bool) -> tuple[float, float]:
    """DeLong's variance and its degrees of freedom.

    A group whose rows all agree would add nothing, however small it is; it adds what one more row, ``far`` from them,
    would add. ``again``: the row furthest from its group's mean counts twice, since where a few rows make all the
    difference, the rows that were not drawn matter most.
    """
    parts = []
    for d in (np.sort(d10), np.sort(d01)):  # sorted: sums must not hang on the order of the rows
        squares = (d - d.mean()) ** 2
        total = float(squares.sum() + again * squares.max())
        parts.append(total / (len(d) - 1) / len(d) if d[0] < d[-1] else (far / (len(d) + 1)) ** 2)
    variance = sum(parts)
    df = variance**2 / sum(part**2 / (len(d) - 1) for part, d in zip(parts, (d10, d01), strict=True))
    return variance, df


def _half_width(d10: Floats, d01: Floats, alpha: float, far: float, *, again: bool) -> float:
    from scipy.special import stdtrit

    variance, df = _spread(d10, d01, far, again)
    return float(stdtrit(df, 1 - alpha / 2)) * math.sqrt(variance)


def _p_value(difference: float, d10: Floats, d01: Floats, far: float) -> float:
    from scipy.special import stdtr

    variance, df = _spread(d10, d01, far, True)
    return float(2 * stdtr(df, -abs(difference) / math.sqrt(variance)))


def _expit(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
