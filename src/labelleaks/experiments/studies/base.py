"""Input and output of a study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.spec import MeasureSpec, StudySpec
from labelleaks.experiments.stages import Stage
from labelleaks.experiments.work import Bench
from labelleaks.metrics import Estimate

__all__ = ["Interval", "StudyInput", "StudyResult", "difference_of_means", "mean", "plain"]

StudyResult = tuple[Row, list[Row]]
"""What a study adds to its head, and its points."""
Interval = dict[str, float]
"""value, low, high: 95 %."""


@dataclass(frozen=True, eq=False)
class StudyInput:
    """One study on one world."""

    bench: Bench
    need: Stage
    """The scores that it reads, or the target."""
    study: StudySpec
    measure: MeasureSpec | None

    @property
    def attacked(self) -> MeasureSpec:
        """The measure whose scores it reads."""
        assert self.measure is not None
        return self.measure


def plain(value: float, low: float, high: float) -> Interval:
    """Five digits."""
    return {
        key: round(float(number), 5) + 0.0
        for key, number in zip(("value", "low", "high"), (value, low, high), strict=True)
    }


def estimate(metric: Estimate) -> Interval:
    """The same of a metric that has a value and an interval."""
    assert metric.value is not None and metric.low is not None and metric.high is not None
    return plain(metric.value, metric.low, metric.high)


def mean(values: NDArray[np.float64]) -> Interval:
    """Mean with Student's interval; at least 2 values."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return plain(values.mean(), values.mean() - half, values.mean() + half)


def difference_of_means(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """Mean of ``first`` minus mean of ``second``, with Welch's interval; at least 2 values each."""
    from scipy.stats import t

    parts = [values.var(ddof=1) / len(values) for values in (first, second)]
    value, both = float(first.mean() - second.mean()), float(sum(parts))
    if both == 0:
        return plain(value, value, value)
    freedom = both**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    half = float(t.ppf(0.975, freedom)) * both**0.5
    return plain(value, value - half, value + half)
