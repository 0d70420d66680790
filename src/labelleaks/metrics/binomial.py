"""Limits for binomial proportions: Clopper & Pearson (1934), exact for any n, and for a difference of two."""

from __future__ import annotations

import math

import numpy as np

from labelleaks.metrics.estimates import Floats, Ints


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
