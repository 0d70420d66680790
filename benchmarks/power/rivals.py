"""ART's and foolbox's HopSkipJump as membership scores: the best adversarial point sent within a budget.

As published by both, at their defaults, with starts of their own finding; every row that they send is counted, and they
are credited with points that they sent but would not have returned (see :mod:`benchmarks.rivals`). A candidate that the
target misclassifies costs the one label that shows it, and scores 0; one without any adversarial point, the diameter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks import rivals
from benchmarks.power.worlds import OpenWorld
from labelleaks.core.types import Candidates

__all__ = ["REVISION", "measure"]

REVISION = 1
"""Raise it where scores of ART or foolbox change."""
_ROWS = 1024


def measure(name: str, world: OpenWorld, candidates: Candidates, budgets: Sequence[int]) -> Tensor:
    """Return the scores at each budget: float64 (budgets, n)."""
    wrong = _wrong(world, candidates)
    correct = ~wrong(candidates.x.flatten(1), torch.arange(len(candidates)))
    diameter = candidates.domain.diameter(candidates.shape, "l2")
    found = torch.zeros(len(budgets), len(candidates), dtype=torch.float64)
    left = [budget - 1 for budget in budgets]  # one label showed that the candidate is classified correctly
    rows = correct.nonzero().reshape(-1)
    best = (_art if name == "art" else _foolbox)(wrong, candidates.x.flatten(1), rows, left, world.seed)
    found[:, rows] = best.clamp(max=diameter)
    return found


Wrong = Callable[[Tensor, Tensor], Tensor]
"""Flat rows (m, d) and the candidate that each belongs to -> bool (m,): not that candidate's label."""


def _wrong(world: OpenWorld, candidates: Candidates) -> Wrong:
    def wrong(rows: Tensor, owner: Tensor) -> Tensor:
        with torch.inference_mode():
            parts = [world.module(x).argmax(1) for x in rows.reshape(-1, *candidates.shape).split(_ROWS)]
        return torch.cat(parts) != candidates.y[owner]

    return wrong


def _distance(rows: Tensor, x: Tensor) -> Tensor:
    return (rows.to(torch.float64) - x.to(torch.float64)).norm(dim=-1)


def _meter(wrong: Wrong, x: Tensor, owner: Tensor, budgets: Sequence[int]) -> rivals.Meter:
    def labels(rows: Tensor) -> Tensor:
        return wrong(rows, owner.repeat(len(rows) // len(owner))).to(torch.int64)

    return rivals.Meter(labels, _distance, x[owner], budgets)


def _art(wrong: Wrong, x: Tensor, rows: Tensor, budgets: Sequence[int], seed: int) -> Tensor:
    """One candidate after the other, as ART works itself."""
    found = []
    for i in rows.tolist():
        meter = _meter(wrong, x, torch.tensor([i]), budgets)

        def predict(z: np.ndarray, meter: rivals.Meter = meter) -> np.ndarray:
            return np.eye(2, dtype=np.float32)[meter(torch.from_numpy(z.astype(np.float32))).numpy()]

        attack = rivals.art_attack(predict, (x.shape[1],), 2, "l2")
        np.random.seed(seed * 100_000 + i)  # noqa: NPY002 - it draws from numpy's global state
        with contextlib.suppress(rivals.Enough):
            attack.generate(x[i : i + 1].numpy(), np.eye(2, dtype=np.float32)[[0]])
        found.append(meter.best)
    return torch.cat(found, 1)


def _foolbox(wrong: Wrong, x: Tensor, rows: Tensor, budgets: Sequence[int], seed: int) -> Tensor:
    """All candidates in one batch: every call sends a row of each."""
    import foolbox

    meter = _meter(wrong, x, rows, budgets)
    model = foolbox.PyTorchModel(rivals._Logits(meter, 2).eval(), bounds=(0, 1))
    torch.manual_seed(seed)  # it draws from torch's global state
    criterion = foolbox.criteria.Misclassification(torch.zeros(len(rows), dtype=torch.int64))
    # It asserts that its points stay adversarial, which rounding can break: the best so far counts.
    with contextlib.suppress(rivals.Enough, AssertionError):
        rivals.foolbox_attack("l2").run(model, x[rows], criterion)
    return meter.best
