"""Members and non-members, counted by shadow loss (transfer) or by distance to the boundary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelleaks.experiments.studies.base import StudyInput, StudyResult

__all__ = ["study"]

BINS = 40
LOSSES = (1e-4, 10.0)
"""Ends of the bins of losses, which are equally wide in their logarithm; the first and the last hold all beyond."""
WRONG_LOSS = 100.0
"""The transfer attack's loss of a candidate that the target itself misclassifies."""


def study(given: StudyInput) -> StudyResult:
    """Count. Asks nothing.

    Head: ``quantity``, and [members, non-members] that are in no bin: ``misclassified`` by the target (distance 0, loss
    100 by definition), and without a start (``no_start``: the search found no other label). Points: bins.
    """
    found = given.bench.store.scored(given.need)
    transfer = given.attacked.attack == "transfer"
    reading = next(one for one in found.readings if one.variant == ("loss" if transfer else given.attacked.variant))
    value = (-reading.path[-1] if transfer else reading.path[-1])[reading.kept]
    member = found.member[reading.kept]
    wrong = value >= WRONG_LOSS if transfer else value == 0
    shape, domain = given.bench.dataset.shape, given.bench.dataset.domain
    nothing = np.zeros_like(wrong) if transfer else value >= domain.diameter(shape, "l2")
    edges = _edges(value[~wrong & ~nothing], transfer)
    inside = np.clip(value, edges[0], np.nextafter(edges[-1], 0))
    counts = [np.histogram(inside[~wrong & ~nothing & side], edges)[0] for side in (member, ~member)]
    head = {
        "quantity": "loss" if transfer else "distance",
        "labels": given.attacked.labels,
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
