"""Studies of scores that the grid has: where they lie, how two readings differ, and two self-checks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from labelleaks import metrics
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.store import Reading
from labelleaks.experiments.studies.base import StudyInput, StudyResult, estimate
from labelleaks.experiments.work import read_at

__all__ = ["distribution", "fresh", "memguard", "paired"]


BINS = 40
LOSSES = (1e-4, 10.0)
"""Ends of the bins of losses, which are equally wide in their logarithm; the first and the last hold all beyond."""
WRONG_LOSS = 100.0
"""The transfer attack's loss of a candidate that the target itself misclassifies."""


def distribution(task: StudyInput) -> StudyResult:
    """Count. Asks nothing.

    Head: ``quantity``, and [members, non-members] that are in no bin: ``misclassified`` by the target (distance 0, loss
    100 by definition), and without a start (``no_start``: the search found no other label). Points: bins.
    """
    scored = task.bench.store.scored(task.need)
    transfer = task.attacked.attack == "transfer"
    reading = next(one for one in scored.readings if one.variant == ("loss" if transfer else task.attacked.variant))
    value = (-reading.path[-1] if transfer else reading.path[-1])[reading.kept]
    member = scored.member[reading.kept]
    wrong = value >= WRONG_LOSS if transfer else value == 0
    shape, domain = task.bench.dataset.shape, task.bench.dataset.domain
    nothing = np.zeros_like(wrong) if transfer else value >= domain.diameter(shape, "l2")
    edges = _edges(value[~wrong & ~nothing], transfer)
    inside = np.clip(value, edges[0], np.nextafter(edges[-1], 0))
    counts = [np.histogram(inside[~wrong & ~nothing & side], edges)[0] for side in (member, ~member)]
    head = {
        "quantity": "loss" if transfer else "distance",
        "labels": task.attacked.labels,
        "n_members": int(member.sum()),
        "n_nonmembers": int((~member).sum()),
        "misclassified": [int((wrong & side).sum()) for side in (member, ~member)],
        "no_start": [int((nothing & side).sum()) for side in (member, ~member)],
    }
    points = [
        {"low": float(f"{low:.5g}"), "high": float(f"{high:.5g}"), "members": int(m), "nonmembers": int(n)}
        for low, high, m, n in zip(edges[:-1], edges[1:], *counts, strict=True)
    ]
    return head, points


def _edges(value: NDArray[np.float64], transfer: bool) -> NDArray[np.float64]:
    if transfer:
        return np.geomspace(*LOSSES, BINS + 1)
    return np.linspace(0, max(float(value.max(initial=0)), 1e-9), BINS + 1)


def paired(task: StudyInput) -> StudyResult:
    """Compare the variants of an attack with each other, and a variant read at several label counts with its end.

    Points: ``first`` and ``second``, each [variant, labels] of a row of the grid, and their ``difference`` of AUCs, by
    :func:`labelleaks.metrics.compare_auc`. Asks nothing.
    """
    scored, measure = task.bench.store.scored(task.need), task.attacked
    readings = [one for one in scored.readings if measure.norms or ", norm=" not in one.variant]
    points = []
    ends = [(one, len(one.checkpoints) - 1) for one in readings]
    middles = [(one, at) for one in readings for at in read_at(one, measure.read)[:-1]]
    pairs = [*combinations(ends, 2), *((middle, (middle[0], len(middle[0].checkpoints) - 1)) for middle in middles)]
    for (one, at), (other, there) in pairs:
        kept = one.kept & other.kept
        compared = metrics.compare_auc(one.path[at][kept], other.path[there][kept], scored.member[kept])
        points.append(
            {"first": _side(one, at), "second": _side(other, there), "difference": estimate(compared.difference)}
        )
    kept = readings[0].kept
    head: Row = {"attack": measure.attack, "labels": measure.labels}
    head |= {"n_members": int((kept & scored.member).sum()), "n_nonmembers": int((kept & ~scored.member).sum())}
    return head, points


def _side(reading: Reading, at: int) -> list[str | int]:
    return [reading.variant, reading.checkpoints[at]]


def fresh(task: StudyInput) -> StudyResult:
    """Call every other non-member a member, which is an attack on a target without a gap. Asks nothing.

    Points, one for each variant: ``auc``, which should be 0.5 within its interval, and ``swapped``, the AUC of the same
    scores with the two groups exchanged, which should be 1 - ``auc``.
    """
    scored = task.bench.store.scored(task.need)
    points = []
    for reading in scored.readings:
        if ", norm=" in reading.variant:
            continue
        value = reading.path[-1][reading.kept & ~scored.member]
        called = np.arange(len(value)) % 2 == 0
        first, second = (metrics.auc(value, side) for side in (called, ~called))
        points.append({"variant": reading.variant, "auc": estimate(first), "swapped": estimate(second)["value"]})
    return {"labels": task.attacked.labels, "n_nonmembers": int((~scored.member).sum())}, points


def memguard(task: StudyInput) -> StudyResult:
    """Run an attack once more, on the same target behind MemGuard, and compare.

    Points, one for each variant: how many of the ``scores`` are ``identical``, bit by bit, and the AUC ``without`` and
    ``behind`` the defence.
    """
    bench = task.bench
    scored = bench.store.scored(task.need)
    points = []
    for plain, behind in zip(scored.readings, bench.readings(task.need, task.attacked, guarded=True), strict=True):
        same = (plain.path[-1] == behind.path[-1]) & (plain.kept == behind.kept)
        aucs = [metrics.auc(one.path[-1][one.kept], scored.member[one.kept]) for one in (plain, behind)]
        points.append(
            {"variant": plain.variant, "scores": len(same), "identical": int(np.count_nonzero(same))}
            | dict(zip(("without", "behind"), map(estimate, aucs), strict=True))
        )
    return {"labels": task.attacked.labels}, points
