"""Limits of Clopper & Pearson (1934) for a binomial proportion, exact for any n."""

from __future__ import annotations

import numpy as np

from labelleaks.metrics.estimates import Floats, Ints


def clopper_pearson(k: int, n: int, alpha: float) -> tuple[float, float]:
    half, count = np.array([alpha / 2]), np.array([k], dtype=np.int64)
    return float(lower_limit(count, n, half)[0]), float(upper_limit(count, n, half)[0])


def upper_limit(k: Ints, n: int, error: Floats) -> Floats:
    from scipy.special import betaincinv

    inside = np.minimum(k, n - 1)
    return np.asarray(np.where(k < n, betaincinv(inside + 1.0, n - inside, 1 - error), 1.0), dtype=np.float64)


def lower_limit(k: Ints, n: int, error: Floats) -> Floats:
    from scipy.special import betaincinv

    inside = np.maximum(k, 1)
    return np.asarray(np.where(k > 0, betaincinv(inside, n - inside + 1.0, error), 0.0), dtype=np.float64)
