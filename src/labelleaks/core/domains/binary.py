"""Features that are 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from labelleaks.core.domains.base import Group, Norm, diameter_of
from labelleaks.core.domains.layout import Word, check_word, image_layout
from labelleaks.errors import InputError

__all__ = ["Binary"]


@dataclass(frozen=True)
class Binary:
    """Features that are 0 or 1, for example Location-30, Purchase-100 and Texas-100.

    Args:
        layout: how a row is a picture, where its shape does not tell (:mod:`labelleaks.core.domains.layout`).
    """

    layout: Word | None = None

    def __post_init__(self) -> None:
        check_word(self.layout, "Binary")

    @property
    def continuous(self) -> bool:
        return False

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.zeros(tuple(shape)), torch.ones(tuple(shape))

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("binary", slice(0, prod(shape))),)

    def project(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(x.dtype)

    def check(self, x: Tensor, what: str) -> None:
        image_layout(x.shape[1:], self.layout)  # a word that rows of this shape cannot have is refused here
        wrong = (x != 0) & (x != 1)
        if bool(wrong.any()):
            row, feature = divmod(int(wrong.reshape(-1).to(torch.int8).argmax()), x[0].numel())
            rows = int(wrong.reshape(len(x), -1).any(1).sum())
            raise InputError(
                f"{what}: {rows} of {len(x)} rows have values that are neither 0 nor 1; the first is "
                f"{x.reshape(len(x), -1)[row, feature].item():g} at row {row}, feature {feature}: use Box or Mixed"
            )

    def from_uniform(self, u: Tensor) -> Tensor:
        return (u >= 0.5).to(u.dtype)

    def span(self, shape: Sequence[int]) -> Tensor:
        return torch.ones(tuple(shape))

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        return diameter_of(self.span(shape), norm)

    def describe(self) -> dict[str, Any]:
        return {"kind": "binary", **({} if self.layout is None else {"layout": self.layout})}

    def __repr__(self) -> str:
        return "Binary()" if self.layout is None else f"Binary(layout={self.layout!r})"
