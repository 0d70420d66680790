"""Checks of the arrays that metrics are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from labelleaks.errors import InputError
from labelleaks.metrics.estimates import Bools, Floats


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
