"""Domains as users write them: classes of their own with the members of ``labelleaks.Domain``, and nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from labelleaks.core.domains import Group, Norm, distance
from labelleaks.errors import InputError


class _Own:
    """What the domains below share: bounds that are the same for all features."""

    layout = None
    low, high = 0.0, 1.0

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.full(tuple(shape), self.low), torch.full(tuple(shape), self.high)

    def span(self, shape: Sequence[int]) -> Tensor:
        low, high = self.bounds(shape)
        return high - low

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        low, high = self.bounds(shape)
        return float(distance(low[None], high[None], norm)[0])

    def describe(self) -> dict[str, Any]:
        return {"kind": type(self).__name__.lower()}

    def check(self, x: Tensor, what: str) -> None:
        if bool(((x < self.low) | (x > self.high)).any()) or not torch.allclose(self.project(x), x, atol=1e-5):  # type: ignore[attr-defined]
            raise InputError(f"{what}: rows outside the {type(self).__name__}")


class Cube(_Own):
    """What ``Box(0, 1)`` is, under another name."""

    continuous = True

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("continuous", slice(0, prod(shape))),)

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(0.0, 1.0)

    def from_uniform(self, u: Tensor) -> Tensor:
        return self.project(u)


class Holed(Cube):
    """A box without a band in each feature's middle: a sensor that never reads 0.45 … 0.55."""

    def project(self, x: Tensor) -> Tensor:
        x = x.clamp(0.0, 1.0)
        hole = (x > 0.45) & (x < 0.55)
        return torch.where(hole, torch.where(x < 0.5, 0.45, 0.55), x)


class Grid(_Own):
    """Whole numbers from 0 to 20 in every column: counts."""

    continuous = False
    high = 20.0

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("integer", slice(0, prod(shape)), 0, 20),)

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(0.0, 20.0).round()

    def from_uniform(self, u: Tensor) -> Tensor:
        return (u * 21).floor().clamp_max(20.0)


class Record(_Own):
    """A table of 16 columns: 4 shares, 5 yes-or-no answers, a choice of four and 3 counts to 9, in this order."""

    continuous = False
    layout = "none"
    shares, answers, choice, counts = slice(0, 4), slice(4, 9), slice(9, 13), slice(13, 16)

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        high = torch.ones(16)
        high[self.counts] = 9.0
        return torch.zeros(16), high

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (
            Group("continuous", self.shares),
            Group("binary", self.answers),
            Group("one_hot", self.choice),
            Group("integer", self.counts, 0, 9),
        )

    def project(self, x: Tensor) -> Tensor:
        made = x.clone()
        made[:, self.shares] = x[:, self.shares].clamp(0, 1)
        made[:, self.answers] = (x[:, self.answers] > 0.5).to(x.dtype)
        most = x[:, self.choice].argmax(1, keepdim=True)
        made[:, self.choice] = torch.zeros_like(x[:, self.choice]).scatter_(1, most, 1.0)
        made[:, self.counts] = x[:, self.counts].clamp(0, 9).round()
        return made

    def from_uniform(self, u: Tensor) -> Tensor:
        made = u.clone()
        made[:, self.counts] = (u[:, self.counts] * 10).floor().clamp_max(9.0)
        return self.project(made)

    def check(self, x: Tensor, what: str) -> None:
        if tuple(x.shape[1:]) != (16,) or not torch.allclose(self.project(x), x, atol=1e-5):
            raise InputError(f"{what}: rows outside the Record")
