"""Tabular rows of continuous, integer and one-hot features."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from labelleaks.core.domains.base import Group, Kind, Norm, check_range, diameter_of
from labelleaks.core.domains.layout import Word
from labelleaks.core.domains.text import Tokens
from labelleaks.errors import InputError

__all__ = ["Continuous", "Integer", "Mixed", "OneHot"]


@dataclass(frozen=True)
class Continuous:
    """``width`` neighbouring real features between ``low`` and ``high``; a part of :class:`Mixed`."""

    low: float
    high: float
    width: int = 1

    def __post_init__(self) -> None:
        _check_part(self, self.low, self.high, 1)


@dataclass(frozen=True)
class Integer:
    """``width`` neighbouring whole-number features from ``low`` to ``high``, both included."""

    low: int
    high: int
    width: int = 1

    def __post_init__(self) -> None:
        _check_part(self, self.low, self.high, 1)


@dataclass(frozen=True)
class OneHot:
    """``width`` neighbouring features of which exactly one is 1 and the others are 0."""

    width: int

    def __post_init__(self) -> None:
        _check_part(self, 0, 1, 2)


MixedPart = Continuous | Integer | OneHot | Tokens
"""Neighbouring features of one kind."""


def _check_part(part: Any, low: Any, high: Any, narrowest: int) -> None:
    name = type(part).__name__
    for end, value in (("low", low), ("high", high)):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number:
            raise InputError(f"{name}: {end}={value!r} is no finite number")
    if not low < high:
        raise InputError(f"{name}: low must be below high and both finite, got {low} and {high}")
    width = part.width
    if isinstance(width, bool) or not isinstance(width, numbers.Integral) or width < narrowest:
        raise InputError(f"{name}: width={width!r} is too narrow or no whole number: at least {narrowest} is needed")


@dataclass(frozen=True, init=False)
class Mixed:
    """Tabular rows: continuous, integer and one-hot features, in the order of the columns.

    ``Mixed(Continuous(17, 90), Integer(0, 16), OneHot(7))`` speaks of rows with 1 + 1 + 7 = 9 features.

    Raises:
        InputError: no part, a width below 1 (2 for one-hot), or bounds that are not ordered.
    """

    parts: tuple[MixedPart, ...]
    _low: Tensor = field(compare=False, repr=False)
    _high: Tensor = field(compare=False, repr=False)

    def __init__(self, *parts: MixedPart) -> None:
        if not parts:
            raise InputError("Mixed: name at least one part, for example Mixed(Continuous(0, 1, width=4))")
        low: list[float] = []
        high: list[float] = []
        for part in parts:
            if not isinstance(part, Continuous | Integer | OneHot | Tokens):
                shown = part.__name__ if isinstance(part, type) else repr(part)
                raise InputError(
                    f"Mixed: {shown} is no part: give Continuous(low, high), Integer(low, high) or OneHot(width), one "
                    "after the other"
                )
            bounds = (0.0, 1.0) if isinstance(part, OneHot) else (float(part.low), float(part.high))
            low += [bounds[0]] * part.width
            high += [bounds[1]] * part.width
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "_low", torch.tensor(low))
        object.__setattr__(self, "_high", torch.tensor(high))

    @property
    def width(self) -> int:
        """Number of features of a row."""
        return len(self._low)

    @property
    def continuous(self) -> bool:
        return False

    @property
    def layout(self) -> Word | None:
        return "none"

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._low.expand(tuple(shape)).clone(), self._high.expand(tuple(shape)).clone()

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return tuple(_group(part, columns) for part, columns in self.columns())

    def columns(self) -> list[tuple[MixedPart, slice]]:
        """Return each part with the columns that it owns."""
        found = []
        start = 0
        for part in self.parts:
            found.append((part, slice(start, start + part.width)))
            start += part.width
        return found

    def project(self, x: Tensor) -> Tensor:
        given = x
        x = torch.minimum(torch.maximum(x, self._low.to(x.device)), self._high.to(x.device))
        for part, columns in self.columns():
            if isinstance(part, Integer):
                x[:, columns] = torch.round(x[:, columns])
            elif isinstance(part, OneHot):
                hot = given[:, columns].argmax(1, keepdim=True)  # before clipping, which would tie what exceeds 1
                x[:, columns] = torch.zeros_like(x[:, columns]).scatter_(1, hot, 1.0)
            elif isinstance(part, Tokens):
                x[:, columns] = part.project(x[:, columns])
        return x

    def check(self, x: Tensor, what: str) -> None:
        if x.dim() != 2 or x.shape[1] != self.width:
            raise InputError(
                f"{what}: rows of shape {tuple(x.shape[1:])}, but the Mixed domain describes {self.width} features"
            )
        check_range(x, self._low.to(x.device), self._high.to(x.device), what)
        for part, columns in self.columns():
            block = x[:, columns]
            if isinstance(part, Integer):
                wrong = (block != torch.round(block)).any(1)
                rule = "whole numbers"
            elif isinstance(part, OneHot):
                wrong = ((block != 0) & (block != 1)).any(1) | (block.sum(1) != 1)
                rule = "exactly one 1 among 0s"
            elif isinstance(part, Tokens):
                wrong = (part.project(block) != block).any(1)
                rule = "codes of words"
            else:
                continue
            if bool(wrong.any()):
                row = int(wrong.to(torch.int8).argmax())
                raise InputError(
                    f"{what}: {int(wrong.sum())} of {len(x)} rows break {part} in columns {columns.start} to "
                    f"{columns.stop - 1} ({rule}); the first is row {row}: {block[row].tolist()[:8]}"
                )

    def from_uniform(self, u: Tensor) -> Tensor:
        low, high = self._low.to(u.device), self._high.to(u.device)
        whole = torch.zeros(self.width, dtype=torch.bool, device=u.device)
        for part, columns in self.columns():
            whole[columns] = isinstance(part, Integer)
        # Integer(low, high) has high - low + 1 equally likely values.
        spread = torch.where(whole, torch.floor(u * (high - low + 1)), u * (high - low))
        for part, columns in self.columns():
            if isinstance(part, Tokens):
                spread[:, columns] = part.from_uniform(u[:, columns])
        return self.project(low + spread)

    def span(self, shape: Sequence[int]) -> Tensor:
        return (self._high - self._low).expand(tuple(shape)).clone()

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        span = self.span(shape)
        for part, columns in self.columns():  # two one-hot groups differ in two features at most
            if isinstance(part, OneHot):
                span[columns] = 0.0
                span[columns.start : columns.start + 2] = 1.0
            elif isinstance(part, Tokens):  # a word counts one
                span[columns] = 1.0
        return diameter_of(span, norm)

    def describe(self) -> dict[str, Any]:
        return {"kind": "mixed", "parts": [_described(p) for p in self.parts]}

    def __repr__(self) -> str:
        return f"Mixed({', '.join(map(repr, self.parts))})"


def _group(part: MixedPart, columns: slice) -> Group:
    if isinstance(part, Tokens):
        return part.group(columns)
    if isinstance(part, OneHot):
        return Group("one_hot", columns)
    kind: Kind = "integer" if isinstance(part, Integer) else "continuous"
    return Group(kind, columns, part.low, part.high)


def _described(part: MixedPart) -> dict[str, Any]:
    return (
        {"part": "text", **part.describe()}
        if isinstance(part, Tokens)
        else {"part": type(part).__name__.lower(), **vars(part)}
    )
