"""Common ground of the metrics: their results, checks of the arrays they are given, exact limits of proportions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, or no number and the reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    """Why there is no value."""
    unstable: bool = False
    """There are so few rows behind the value that it may move by a multiple of itself."""


@dataclass(frozen=True)
class Comparison:
    """Two attacks on the same candidates."""

    difference: Estimate
    """AUC of the first minus AUC of the second."""
    p_value: float
    """Two-sided, of the hypothesis that the population difference is 0."""


@dataclass(frozen=True, eq=False)
class Roc:
    """Operating points, one for each tie group: member iff score >= ``thresholds[i]``."""

    fpr: Floats
    """float64 (k,), increasing, 0 … 1."""
    tpr: Floats
    """float64 (k,), increasing, 0 … 1."""
    thresholds: Floats
    """float64 (k,), decreasing; the first is +inf (nobody is called a member)."""


def largest_count(fpr: float, n: int) -> int:
    """The largest k with k / n <= fpr, as a reader who divides would find it (0.29 * 100 is 28.999...)."""
    k = math.floor(fpr * n)
    return k + 1 if (k + 1) / n <= fpr else k - 1 if k / n > fpr else k


def least_rows(fpr: float) -> int:
    """The smallest n with 1 / n <= fpr."""
    n = math.ceil(1 / fpr)
    return n - 1 if n > 1 and 1 / (n - 1) <= fpr else n


def check_fpr(fpr: float) -> None:
    """Refuse a false-positive rate outside (0, 1)."""
    if not 0 < fpr < 1:
        raise InputError(f"fpr must be a fraction between 0 and 1 (1 % is 0.01), got {fpr!r}")


def error_of(level: float) -> float:
    """Return 1 - level; refuse a level outside (0, 1)."""
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1 (95 % is 0.95), got {level!r}")
    return 1 - level


def checked_scores(scores: Any, name: str) -> Floats:
    """Return scores as float64 (n,); refuse what is no finite number for each row."""
    array = np.asarray(scores)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be real numbers, got {array.dtype}")
    if array.ndim != 1:
        raise InputError(f"{name} must be one number a row, shape (n,), got {array.shape}")
    real = array.astype(np.float64) + 0.0  # -0.0 becomes 0.0: equal scores must be equal bits
    bad = np.flatnonzero(~np.isfinite(real))
    if len(bad):
        raise InputError(f"{name}: {len(bad)} of {len(real)} are NaN or infinite, the first in row {bad[0]}")
    return real


def checked_truth(values: Any, name: str) -> Bools:
    """Return membership as bool (n,); refuse anything but True and False for each row."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"{name} must be one value a row, shape (n,), got {array.shape}")
    if (len(array) and array.dtype.kind not in "biu") or not np.all((array == 0) | (array == 1)):
        raise InputError(f"{name} must be True or False for each row, got {array.dtype} values")
    return array.astype(np.bool_)


def check_groups(truth: Bools, length: int, name: str) -> None:
    """Refuse a length that differs from the scores', or a group without a row."""
    if len(truth) != length:
        raise InputError(f"{name} has {length} rows but member has {len(truth)}")
    for group, there in (("members", truth), ("non-members", ~truth)):
        if not there.any():
            raise InputError(f"there are no {group} among the {length} rows: both groups are needed")


def split(scores: Any, member: Any, name: str = "scores") -> tuple[Floats, Floats]:
    """Scores of members and of non-members, checked."""
    real, truth = checked_scores(scores, name), checked_truth(member, "member")
    check_groups(truth, len(real), name)
    return real[truth], real[~truth]


def count_decisions(decided: Any, member: Any) -> tuple[int, int, int, int]:
    """True positives, members, false positives, non-members."""
    called, truth = checked_truth(decided, "decided"), checked_truth(member, "member")
    check_groups(truth, len(called), "decided")
    members = int(truth.sum())
    return int((called & truth).sum()), members, int((called & ~truth).sum()), len(truth) - members


def clopper_pearson(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Return the exact limits of k / n, each with error alpha / 2."""
    half, count = np.array([alpha / 2]), np.array([k], dtype=np.int64)
    return float(lower_limit(count, n, half)[0]), float(upper_limit(count, n, half)[0])


def difference_limits(k: int, m: int, j: int, n: int, alpha: float) -> tuple[float, float]:
    """Limits of k / m - j / n: MOVER (Newcombe 1998; Zou & Donner 2008) from two Clopper-Pearson intervals."""
    (p_low, p_high), (q_low, q_high) = clopper_pearson(k, m, alpha), clopper_pearson(j, n, alpha)
    p, q = k / m, j / n
    value = (k * n - j * m) / (m * n)
    low, high = value - math.hypot(p - p_low, q_high - q), value + math.hypot(p_high - p, q - q_low)
    return max(-1.0, low), min(1.0, high)


def upper_limit(k: Ints, n: int, error: Floats) -> Floats:
    """Return the upper Clopper-Pearson limits of k / n, each with its one-sided error."""
    from scipy.special import betaincinv

    inside = np.minimum(k, n - 1)
    return np.asarray(np.where(k < n, betaincinv(inside + 1.0, n - inside, 1 - error), 1.0), dtype=np.float64)


def lower_limit(k: Ints, n: int, error: Floats) -> Floats:
    """Return the lower Clopper-Pearson limits of k / n, each with its one-sided error."""
    from scipy.special import betaincinv

    inside = np.maximum(k, 1)
    return np.asarray(np.where(k > 0, betaincinv(inside, n - inside + 1.0, error), 0.0), dtype=np.float64)
