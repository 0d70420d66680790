"""Targets whose distance to the decision boundary is known exactly, with candidates and start points for them.

Everything lives in the unit box: one of the rivals clips to [0, 1] whatever bounds it is given. Candidates are
placed so that their nearest boundary point is inside the box, so clipping does not change the closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Cell", "Problem", "problem"]

CANDIDATES = 64
"""Made for every cell; a slow method takes the first few."""


@dataclass(frozen=True)
class Cell:
    """One row of the table: which boundary, in how many dimensions, measured in which norm."""

    target: str
    """``linear`` (a half-space) or ``ball``."""
    width: int
    norm: str
    """``l2`` or ``linf``."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A closed-form target with candidates of class 0 and, for each, a start point of class 1."""

    cell: Cell
    normal: Tensor
    """float64 (d,): the half-space's unit normal; unused by the ball."""
    radius: float
    """of the ball around the box's centre; unused by the half-space."""
    x: Tensor
    """float32 (n, d)"""
    starts: Tensor
    """float32 (n, d)"""
    true: Tensor
    """float64 (n,): distance to the boundary in the cell's norm."""

    def margin(self, z: Tensor) -> Tensor:
        """Return float64 (m,), positive where the label is 1. Row by row in float64: no effect of batch mates."""
        centred = z.to(torch.float64) - 0.5
        if self.cell.target == "linear":
            return (centred * self.normal).sum(1)
        return centred.square().sum(1).sqrt() - self.radius

    def labels(self, z: Tensor) -> Tensor:
        """Return int64 (m,)."""
        return (self.margin(z) > 0).to(torch.int64)

    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        """Return float64: distance of rows ``z`` to ``x`` (broadcast) in the cell's norm."""
        difference = z.to(torch.float64) - x.to(torch.float64)
        if self.cell.norm == "l2":
            return difference.square().sum(-1).sqrt()
        return difference.abs().amax(-1)


def problem(cell: Cell, *, seed: int = 0) -> Problem:
    """Make the target, the candidates and the starts of ``cell``; the same for every method."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + cell.width)
    make = _linear if cell.target == "linear" else _ball
    made = make(cell, generator)
    starts = torch.stack([_start(made, generator) for _ in range(CANDIDATES)])
    made = Problem(cell, made.normal, made.radius, made.x, starts, _true(made))
    assert int(made.labels(made.x).sum()) == 0 and bool((made.labels(starts) == 1).all())
    return made


def _unfinished(cell: Cell, normal: Tensor, radius: float, x: Tensor) -> Problem:
    return Problem(cell, normal, radius, x.to(torch.float32), torch.empty(0), torch.empty(0))


def _linear(cell: Cell, generator: torch.Generator) -> Problem:
    """A hyperplane through the centre of the box; candidates 0.05 to 0.25 below it, off the centre."""
    normal = torch.randn(cell.width, generator=generator, dtype=torch.float64)
    normal /= normal.norm()
    aside = 0.2 * (torch.rand(CANDIDATES, cell.width, generator=generator, dtype=torch.float64) - 0.5)
    aside -= (aside @ normal)[:, None] * normal
    margin = 0.05 + 0.2 * torch.rand(CANDIDATES, 1, generator=generator, dtype=torch.float64)
    return _unfinished(cell, normal, 0.0, 0.5 + aside - margin * normal)


def _ball(cell: Cell, generator: torch.Generator) -> Problem:
    """A ball around the centre; candidates inside it, from 2 % to 30 % of the radius below the surface."""
    radius = 0.9 * math.sqrt(cell.width / 12)  # uniform random inputs are then mostly outside
    direction = 2 * torch.rand(8 * CANDIDATES, cell.width, generator=generator, dtype=torch.float64) - 1
    direction /= direction.norm(dim=1, keepdim=True)
    inside = (radius * direction).abs().amax(1) < 0.49  # at d = 8 the ball reaches beyond the box
    direction = direction[inside][:CANDIDATES]
    depth = 0.02 * (0.3 / 0.02) ** torch.rand(CANDIDATES, 1, generator=generator, dtype=torch.float64)
    return _unfinished(cell, direction[0], radius, 0.5 + (1 - depth) * radius * direction)


def _start(made: Problem, generator: torch.Generator) -> Tensor:
    """Draw uniform inputs until one has label 1: what both rivals would start from."""
    for _ in range(1000):
        rows = torch.rand(8, made.cell.width, generator=generator)
        hits = made.labels(rows).nonzero()
        if len(hits):
            return rows[int(hits[0])]
    raise RuntimeError("no start point found: the target's second class is too small")


def _true(made: Problem) -> Tensor:
    """The closed forms, for the float32 candidates as they are, with a check that the nearest point is in the box."""
    a = made.x.to(torch.float64) - 0.5
    depth = -made.margin(made.x)
    if made.cell.target == "linear":
        w = made.normal
        if made.cell.norm == "l2":
            true, step = depth, depth[:, None] * w
        else:
            true = depth / w.abs().sum()
            step = true[:, None] * w.sign()
    elif made.cell.norm == "l2":
        true, step = depth, depth[:, None] * a / a.norm(dim=1, keepdim=True)
    else:
        # The farthest corner of the cube of half-side t around a is a + t sign(a): d t^2 + 2 t |a|_1 + |a|^2 = R^2.
        one, square, d = a.abs().sum(1), a.square().sum(1), made.cell.width
        true = (-one + (one.square() - d * (square - made.radius**2)).sqrt()) / d
        step = true[:, None] * torch.where(a >= 0, 1.0, -1.0)
    assert float((a + step).abs().max()) <= 0.5, "the nearest boundary point is outside the box"
    return true
