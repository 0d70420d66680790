"""Answers on a scale of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from labelleaks.core import Group, Norm, Word, distance
from labelleaks.errors import InputError

__all__ = ["Likert"]


@dataclass(frozen=True)
class Likert:
    """Rows of answers, each a whole number from 1 to ``points``.

    Args:
        points: how many answers there are to a question, at least 2.

    Raises:
        InputError: fewer than two points.
    """

    points: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.points, bool) or not isinstance(self.points, int) or self.points < 2:
            raise InputError(f"Likert: points={self.points!r}: a whole number of at least 2 is needed")

    @property
    def continuous(self) -> bool:
        return False

    @property
    def layout(self) -> Word | None:
        return "none"

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.ones(tuple(shape)), torch.full(tuple(shape), float(self.points))

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("integer", slice(0, prod(shape)), 1.0, float(self.points)),)

    def project(self, x: Tensor) -> Tensor:
        return torch.round(x).clamp(1.0, float(self.points))

    def check(self, x: Tensor, what: str) -> None:
        wrong = (x != self.project(x)).flatten(1)
        if bool(wrong.any()):
            row, question = divmod(int(wrong.to(torch.int8).argmax()), wrong.shape[1])
            raise InputError(
                f"{what}: {int(wrong.any(1).sum())} of {len(x)} rows have answers that are no whole numbers from 1 to "
                f"{self.points}; the first is {x.flatten(1)[row, question].item():g} at row {row}, feature {question}"
            )

    def from_uniform(self, u: Tensor) -> Tensor:
        return self.project(1.0 + torch.floor(u * self.points))

    def span(self, shape: Sequence[int]) -> Tensor:
        return torch.full(tuple(shape), self.points - 1.0)

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        low, high = self.bounds(shape)
        return float(distance(low[None], high[None], norm)[0])

    def describe(self) -> dict[str, Any]:
        return {"kind": "likert", "points": self.points}
