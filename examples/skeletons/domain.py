"""A domain: copy this file where Box, Binary and Mixed do not say which inputs exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labelleaks.core import Group, Norm, Word, check_range, distance
from labelleaks.errors import InputError


@dataclass(frozen=True)
class Yours:
    """Real features between -limit and limit.

    Args:
        limit: above 0.

    Raises:
        InputError: a limit that is not finite and positive.
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.limit < math.inf:
            raise InputError(f"Yours: limit={self.limit}: a number above 0 is needed")

    @property
    def continuous(self) -> bool:
        """Every feature can move a little: attacks search along straight lines."""
        return True

    @property
    def layout(self) -> Word | None:
        """How a row is a picture; None: by its shape."""
        return None

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        high = torch.full(tuple(shape), self.limit)
        return -high, high

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("continuous", slice(0, math.prod(shape)), -self.limit, self.limit),)

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(-self.limit, self.limit)

    def check(self, x: Tensor, what: str) -> None:
        low, high = (end.to(x.device) for end in self.bounds(x.shape[1:]))
        check_range(x, low, high, what)

    def from_uniform(self, u: Tensor) -> Tensor:
        return self.project((2.0 * u - 1.0) * self.limit)

    def span(self, shape: Sequence[int]) -> Tensor:
        low, high = self.bounds(shape)
        return high - low

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        low, high = self.bounds(shape)
        return float(distance(low[None], high[None], norm)[0])

    def describe(self) -> dict[str, Any]:
        return {"kind": "yours", "limit": self.limit}
