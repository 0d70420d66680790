"""Results of metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
