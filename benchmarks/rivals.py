"""ART's and foolbox's HopSkipJump behind one meter: every row counted, the best adversarial point kept per budget.

Both run at their defaults and are cut when the largest budget is spent. They are credited with the best adversarial
point that they had *sent* by each budget, whether or not they would have returned it: ART, for one, returns its last
step without the last projection to the boundary.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.closed_form import Problem

__all__ = ["Enough", "Meter", "art", "art_attack", "foolbox", "foolbox_attack"]


class Enough(Exception):
    """The largest budget is spent."""


class Meter:
    """Counts rows and keeps, for each budget, the least distance of an adversarial point sent within it.

    Args:
        labels: the target, rows -> int64 labels.
        distance: (rows, x) -> float64 distances.
        x: (n, d): the candidates that are attacked together; each owns every n-th row of a call.
        budgets: increasing row counts per candidate.
    """

    def __init__(
        self,
        labels: Callable[[Tensor], Tensor],
        distance: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        budgets: Sequence[int],
    ) -> None:
        self._labels, self._distance, self._x, self._budgets = labels, distance, x, tuple(budgets)
        self.spent = 0
        self.best = torch.full((len(budgets), len(x)), torch.inf, dtype=torch.float64)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the labels of ``rows``; raise Enough once every budget is spent."""
        if self.spent >= self._budgets[-1]:
            raise Enough
        rows = rows.to(torch.float32)
        labels = self._labels(rows)
        shaped = rows.reshape(-1, *self._x.shape)
        distances = self._distance(shaped, self._x)
        distances = torch.where(labels.reshape(distances.shape) != 0, distances, torch.inf)
        for b, budget in enumerate(self._budgets):
            within = distances[: max(0, budget - self.spent)]
            if len(within):
                self.best[b] = torch.minimum(self.best[b], within.amin(0))
        self.spent += len(distances)
        return labels


def art_attack(predict: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], classes: int, norm: str) -> Any:
    """Return ART's HopSkipJump at its defaults around ``predict`` (rows -> one-hot), bounds [0, 1]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import HopSkipJump
        from art.estimators.classification import BlackBoxClassifier

    classifier = BlackBoxClassifier(predict, shape, classes, clip_values=(0.0, 1.0))
    # One call for all probes of a step: its default batch of 64 would only slow it down.
    return HopSkipJump(
        classifier, batch_size=1 << 14, norm=2 if norm == "l2" else np.inf, max_iter=10**6, verbose=False
    )


def art(problem: Problem, rows: int, budgets: Sequence[int], *, seed: int) -> Tensor:
    """Return float64 (budgets, rows): ART's best distances, candidate by candidate as it works itself."""
    found = []
    for i in range(rows):
        x = problem.x[i : i + 1]
        meter = Meter(problem.labels, problem.distance, x, budgets)

        def predict(z: np.ndarray, meter: Meter = meter) -> np.ndarray:
            return np.eye(2, dtype=np.float32)[meter(torch.from_numpy(z.astype(np.float32))).numpy()]

        attack = art_attack(predict, (problem.cell.width,), 2, problem.cell.norm)
        np.random.seed(seed * 1000 + i)  # noqa: NPY002 - it draws from numpy's global state
        with contextlib.suppress(Enough):
            attack.generate(x.numpy(), np.eye(2, dtype=np.float32)[[0]], x_adv_init=problem.starts[i : i + 1].numpy())
        found.append(meter.best)
    return torch.cat(found, 1)


def foolbox_attack(norm: str) -> Any:
    """Return foolbox's HopSkipJump at its defaults, with steps without end: the meter stops it."""
    from foolbox.attacks import HopSkipJumpAttack

    return HopSkipJumpAttack(steps=10**6, constraint=norm)


class _Logits(nn.Module):
    def __init__(self, labels: Callable[[Tensor], Tensor], classes: int) -> None:
        super().__init__()
        self._labels, self._classes = labels, classes

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(self._labels(x), self._classes).to(torch.float32)


def foolbox(problem: Problem, rows: int, budgets: Sequence[int], *, seed: int, together: bool) -> Tensor:
    """Return float64 (budgets, rows): foolbox's best distances, one candidate at a time or all in one batch."""
    import foolbox as fb

    found = []
    for group in torch.arange(rows).split(rows if together else 1):
        x = problem.x[group]
        meter = Meter(problem.labels, problem.distance, x, budgets)
        model = fb.PyTorchModel(_Logits(meter, 2).eval(), bounds=(0, 1))
        torch.manual_seed(seed * 1000 + int(group[0]))  # it draws from torch's global state
        criterion = fb.criteria.Misclassification(torch.zeros(len(group), dtype=torch.int64))
        # It asserts that its points stay adversarial, which rounding can break: the best so far counts.
        with contextlib.suppress(Enough, AssertionError):
            foolbox_attack(problem.cell.norm).run(model, x, criterion, starting_points=problem.starts[group])
        found.append(meter.best)
    return torch.cat(found, 1)
