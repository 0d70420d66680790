"""Scores of one run beside each other: the same candidates, so a difference is known better than either side."""

from __future__ import annotations

from itertools import combinations

from labelleaks import metrics
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.store import Reading
from labelleaks.experiments.studies.base import StudyInput, StudyResult, estimate
from labelleaks.experiments.work import read_at

__all__ = ["study"]


def study(given: StudyInput) -> StudyResult:
    """Compare the variants of an attack with each other, and a variant read at several label counts with its end.

    Points: ``first`` and ``second``, each [variant, labels] of a row of the grid, and their ``difference`` of AUCs, by
    :func:`labelleaks.metrics.compare_auc`. Asks nothing.
    """
    found, measure = given.bench.store.scored(given.need), given.attacked
    readings = [one for one in found.readings if measure.norms or ", norm=" not in one.variant]
    points = []
    ends = [(one, len(one.checkpoints) - 1) for one in readings]
    middles = [(one, at) for one in readings for at in read_at(one, measure.read)[:-1]]
    pairs = [*combinations(ends, 2), *((middle, (middle[0], len(middle[0].checkpoints) - 1)) for middle in middles)]
    for (one, at), (other, there) in pairs:
        kept = one.kept & other.kept
        compared = metrics.compare_auc(one.path[at][kept], other.path[there][kept], found.member[kept])
        points.append(
            {"first": _side(one, at), "second": _side(other, there), "difference": estimate(compared.difference)}
        )
    kept = readings[0].kept
    head: Row = {"attack": measure.attack, "labels": measure.labels}
    head |= {"n_members": int((kept & found.member).sum()), "n_nonmembers": int((kept & ~found.member).sum())}
    return head, points


def _side(reading: Reading, at: int) -> list[str | int]:
    return [reading.variant, reading.checkpoints[at]]
