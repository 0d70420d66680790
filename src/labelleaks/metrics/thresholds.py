"""Thresholds from scores: member iff score > tau."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelleaks.errors import InputError
from labelleaks.metrics.checks import check_fpr, checked_scores, largest_count, least_rows, split

__all__ = ["best_threshold", "conformal_threshold"]


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
