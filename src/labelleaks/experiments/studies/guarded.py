"""A self-check: MemGuard changes posteriors and no label, so it leaves every label-only score as it is."""

from __future__ import annotations

import numpy as np

from labelleaks import metrics
from labelleaks.experiments.studies.base import StudyInput, StudyResult, estimate

__all__ = ["study"]


def study(given: StudyInput) -> StudyResult:
    """Run an attack once more, on the same target behind MemGuard, and compare.

    Points, one for each variant: how many of the ``scores`` are ``identical``, bit by bit, and the AUC ``without`` and
    ``behind`` the defence.
    """
    bench = given.bench
    found = bench.store.scored(given.need)
    points = []
    for plain, behind in zip(found.readings, bench.readings(given.need, given.attacked, guarded=True), strict=True):
        same = (plain.path[-1] == behind.path[-1]) & (plain.kept == behind.kept)
        aucs = [metrics.auc(one.path[-1][one.kept], found.member[one.kept]) for one in (plain, behind)]
        points.append(
            {"variant": plain.variant, "scores": len(same), "identical": int(np.count_nonzero(same))}
            | dict(zip(("without", "behind"), map(estimate, aucs), strict=True))
        )
    return {"labels": given.attacked.labels}, points
