"""TPR at a fixed FPR, with an interval that covers the estimated threshold too."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from labelleaks.metrics.estimates import (
    Estimate,
    Floats,
    Ints,
    check_fpr,
    error_of,
    largest_count,
    least_rows,
    lower_limit,
    split,
    upper_limit,
)

__all__ = ["tpr_at_fpr"]


def tpr_at_fpr(scores: Any, member: Any, fpr: float, *, level: float = 0.95) -> Estimate:
    """Return the TPR of the last operating point whose FPR is at most ``fpr``. No interpolation.

    The interval is for the *population's* TPR at the population's own last operating point with FPR <= ``fpr``, so it
    covers the threshold too, which is estimated from few non-members. It holds for any distribution and any ties:

    Let K be the number of non-members among the n that the population's threshold admits, and X that of members. K is
    binomial(n, fpr) once ties are broken at random, X is binomial(m, TPR), the two are independent, and (K, X) lies on
    the observed curve. So the largest, over k, of the Clopper-Pearson upper limits at the curve's k-th point is an
    upper limit, with error sum_k P(K = k) alpha(k): each rank may spend an error alpha(k) of its own. Likely ranks get
    a small one, unlikely ranks a large one, and ranks with alpha(k) = 1 are given up. Likewise for the lower limit.

    Args:
        fpr: a fraction, 0 < fpr < 1 (1 % is 0.01).
        level: of the interval.

    Returns:
        the estimate; without a value below 1/fpr non-members, unstable below 10/fpr.

    Raises:
        InputError: also for an ``fpr`` outside (0, 1).
    """
    alpha = error_of(level)
    check_fpr(fpr)
    members, nonmembers = split(scores, member)
    m, n = len(members), len(nonmembers)
    admitted = largest_count(fpr, n)
    if admitted == 0:
        need = f"{100 * fpr:g} % FPR needs at least {least_rows(fpr)} non-members"
        return Estimate(None, reason=f"{need}, there are {n}")
    members.sort()
    descending = np.sort(nonmembers)[::-1]

    def members_above(rank: Ints) -> Ints:
        """Members that score above the rank-th highest non-member (1 = the highest; above the 0th: none)."""
        inside = np.clip(rank, 1, n)
        above = m - np.searchsorted(members, descending[inside - 1], "right")
        return np.where(rank < 1, 0, np.where(rank > n, m, above)).astype(np.int64)

    count = int(members_above(np.array([admitted + 1]))[0])
    inside, inside_errors = _spending(n, fpr, alpha / 2, upper=False)
    # With so few non-members that the threshold may well admit none, there is no lower limit: the upper one gets all.
    nothing_below = inside[0] == 0
    outside, outside_errors = _spending(n, fpr, alpha if nothing_below else alpha / 2, upper=True)
    low = 0.0 if nothing_below else float(lower_limit(members_above(inside), m, inside_errors).min())
    high = float(upper_limit(members_above(outside + 1), m, outside_errors).max())
    return Estimate(count / m, low, high, unstable=admitted < 10)


_TRADE = 1.75
"""Shape of the trade between the two errors: 2 a circle, 1 a straight line, large a rectangle (a fixed split). Chosen
for the least width over flat, straight and steep curves; the coverage holds for any."""


@lru_cache(maxsize=256)
def _spending(n: int, fpr: float, alpha: float, *, upper: bool) -> tuple[Ints, Floats]:
    """Ranks k and the error alpha(k) that each may spend, with sum_k P(K = k) alpha(k) <= alpha, K ~ binomial(n, fpr).

    In normal scores: the worse of z_K (how unlikely a rank is) and z_X (what Clopper-Pearson spends) trade along
    z_K^p + z_X^p = r^p, and r is the smallest that keeps the sum. Ranks on the likely side share one error, and the
    curve is monotone, so that only the outermost of them can matter.
    """
    from scipy.special import bdtr, bdtrc, ndtr, ndtri

    spread = math.sqrt(n * fpr * (1 - fpr))
    k = np.arange(max(0, int(n * fpr - 9 * spread - 20)), min(n, int(n * fpr + 9 * spread + 40)) + 1)
    at_most = bdtr(k.astype(np.float64), n, fpr)
    at_least = np.where(k > 0, bdtrc(np.maximum(k - 1.0, 0), n, fpr), 1.0)
    more, less = bdtrc(k.astype(np.float64), n, fpr), np.where(k > 0, bdtr(np.maximum(k - 1.0, 0), n, fpr), 0.0)
    tail = (at_least + more) / 2 if upper else (at_most + less) / 2
    probability = np.maximum(np.where(tail < 0.5, (at_least - more) if upper else (at_most - less), at_most - less), 0)
    z = np.maximum(-ndtri(np.clip(tail, 1e-300, 1.0)), 0.0)

    def spend(r: float) -> Floats:
        rest = np.maximum(r**_TRADE - z**_TRADE, 0.0) ** (1 / _TRADE)
        return np.asarray(np.where(z >= r, 1.0, ndtr(-rest)), dtype=np.float64)

    low, high = 0.0, 40.0
    for _ in range(60):
        r = (low + high) / 2
        low, high = (low, r) if float(probability @ spend(r)) <= alpha else (r, high)
    errors = spend(high)
    likely = np.flatnonzero(z == 0)
    keep = (z > 0) & (errors < 1)
    if len(likely):
        keep[likely[-1] if upper else likely[0]] = True
    ranks, errors = k[keep].astype(np.int64), errors[keep]
    ranks.setflags(write=False)
    errors.setflags(write=False)
    return ranks, errors
