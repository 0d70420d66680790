"""A self-check: rows that the target never saw cannot be told from rows that it never saw either."""

from __future__ import annotations

import numpy as np

from labelleaks import metrics
from labelleaks.experiments.studies.base import StudyInput, StudyResult, estimate

__all__ = ["study"]


def study(given: StudyInput) -> StudyResult:
    """Call every other non-member a member, which is an attack on a target without a gap. Asks nothing.

    Points, one for each variant: ``auc``, which should be 0.5 within its interval, and ``swapped``, the AUC of the same
    scores with the two groups exchanged, which should be 1 - ``auc``.
    """
    found = given.bench.store.scored(given.need)
    points = []
    for reading in found.readings:
        if ", norm=" in reading.variant:
            continue
        value = reading.path[-1][reading.kept & ~found.member]
        called = np.arange(len(value)) % 2 == 0
        first, second = (metrics.auc(value, side) for side in (called, ~called))
        points.append({"variant": reading.variant, "auc": estimate(first), "swapped": estimate(second)["value"]})
    return {"labels": given.attacked.labels, "n_nonmembers": int((~found.member).sum())}, points
