"""Which inputs exist: bounds, projection, quantisation to what a real client can send, and how far apart they are.

A domain speaks of inputs of shape (n, *shape), float32, in the *domain's units*: the units in which the candidates
are given and the distances are reported. Every query of every attack goes through :meth:`project`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from labelleaks.errors import InputError

__all__ = [
    "Binary",
    "Box",
    "Continuous",
    "Domain",
    "Integer",
    "Mixed",
    "Norm",
    "OneHot",
    "distance",
]

Norm = Literal["l0", "l1", "l2", "linf"]
_TOLERANCE = 1e-6  # of the range: what float32 arithmetic on the client's side may have added


@runtime_checkable
class Domain(Protocol):
    """The set of inputs that a target can be sent."""

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest input of the domain, feature by feature: same shape, dtype, device; a new tensor."""
        ...

    def check(self, x: Tensor, what: str) -> None:
        """Raise InputError where rows of ``x`` lie outside the domain; ``what`` names them in the message."""
        ...

    def from_uniform(self, u: Tensor) -> Tensor:
        """Turn uniform draws in [0, 1), (n, *shape), into uniformly random inputs of the domain."""
        ...

    def span(self, shape: Sequence[int]) -> Tensor:
        """Return high - low for each feature: float32 of ``shape``."""
        ...

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        """Return the largest distance between two inputs: the value of a censored distance."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a record needs to say about this domain (JSON types only)."""
        ...


def distance(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """Distance of each row of ``a`` to the same row of ``b``: float64 (n,), in the domain's units.

    L0 counts the features that differ. Source: the plain Lp norms of the flattened difference, as the paper uses
    them (Li & Zhang, perturbation-based attack).
    """
    difference = (a.to(torch.float64) - b.to(torch.float64)).reshape(len(a), -1)
    if norm == "l0":
        return (difference != 0).sum(1).to(torch.float64)
    if norm == "l1":
        return difference.abs().sum(1)
    if norm == "l2":
        return difference.square().sum(1).sqrt()
    return difference.abs().amax(1)


def _diameter(span: Tensor, norm: Norm) -> float:
    zero = torch.zeros_like(span)[None]
    return float(distance(span[None], zero, norm)[0])


def _check_range(x: Tensor, low: Tensor, high: Tensor, what: str) -> None:
    slack = _TOLERANCE * (high - low)
    outside = (x < low - slack) | (x > high + slack)
    if not bool(outside.any()):
        return
    excess = torch.maximum(low - x, x - high)
    worst = int(excess.reshape(-1).argmax())
    rows = int(outside.reshape(len(x), -1).any(1).sum())
    row, feature = divmod(worst, x[0].numel())
    raise InputError(
        f"{what}: {rows} of {len(x)} rows have values outside the domain; the worst is "
        f"{x.reshape(-1)[worst].item():g} at row {row}, feature {feature}, allowed "
        f"[{low.expand_as(x).reshape(-1)[worst].item():g}, {high.expand_as(x).reshape(-1)[worst].item():g}]: "
        "give the right domain (for example Box(0, 255)) or rescale the data"
    )


@dataclass(frozen=True, eq=False)
class Box:
    """Real features between bounds, for example images: ``Box(0, 1)``, or ``Box(0, 1, levels=256)`` for 8 bits.

    Args:
        low, high: a number for all features, or an array that broadcasts to a row's shape. low < high.
        levels: number of equally spaced values that a client can send (256 for 8-bit pixels); None: any float32.

    Raises:
        InputError: bounds that are not finite or not ordered, or fewer than 2 levels.
    """

    low: float | Tensor | Sequence[float] = 0.0
    high: float | Tensor | Sequence[float] = 1.0
    levels: int | None = None

    def __post_init__(self) -> None:
        low = torch.as_tensor(self.low, dtype=torch.float32)
        high = torch.as_tensor(self.high, dtype=torch.float32)
        if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (low < high).all()):
            raise InputError(f"Box: low must be below high and both finite, got {self.low} and {self.high}")
        if self.levels is not None and self.levels < 2:
            raise InputError(f"Box: levels must be at least 2 (256 for 8-bit pixels), got {self.levels}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        assert isinstance(self.low, Tensor) and isinstance(self.high, Tensor)
        return self.low.to(device), self.high.to(device)

    def project(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x.device)
        x = torch.minimum(torch.maximum(x, low), high)
        if self.levels is not None:
            steps = self.levels - 1
            x = torch.round((x - low) / (high - low) * steps) / steps * (high - low) + low
        return x

    def check(self, x: Tensor, what: str) -> None:
        low, high = self._bounds(x.device)
        try:
            fits = torch.broadcast_shapes(low.shape, high.shape, x.shape[1:]) == x.shape[1:]
        except RuntimeError:
            fits = False
        if not fits:
            raise InputError(
                f"{what}: rows of shape {tuple(x.shape[1:])} do not fit the domain's bounds of shape "
                f"{tuple(low.shape or high.shape)}: give one bound for all features or one for each"
            )
        _check_range(x, low, high, what)

    def from_uniform(self, u: Tensor) -> Tensor:
        low, high = self._bounds(u.device)
        return self.project(low + u * (high - low))

    def span(self, shape: Sequence[int]) -> Tensor:
        low, high = self._bounds(torch.device("cpu"))
        return (high - low).expand(tuple(shape)).clone()

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        return _diameter(self.span(shape), norm)

    def describe(self) -> dict[str, Any]:
        low, high = self._bounds(torch.device("cpu"))
        return {"kind": "box", "low": low.tolist(), "high": high.tolist(), "levels": self.levels}

    def __repr__(self) -> str:
        low, high = self._bounds(torch.device("cpu"))
        show = [f"{b.item():g}" if b.dim() == 0 else f"<{tuple(b.shape)}>" for b in (low, high)]
        return f"Box({', '.join(show)}{'' if self.levels is None else f', levels={self.levels}'})"


@dataclass(frozen=True)
class Binary:
    """Features that are 0 or 1, for example Location-30, Purchase-100 and Texas-100."""

    def project(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(x.dtype)

    def check(self, x: Tensor, what: str) -> None:
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
        return _diameter(self.span(shape), norm)

    def describe(self) -> dict[str, Any]:
        return {"kind": "binary"}


@dataclass(frozen=True)
class Continuous:
    """``width`` neighbouring real features between ``low`` and ``high``; a part of :class:`Mixed`."""

    low: float
    high: float
    width: int = 1


@dataclass(frozen=True)
class Integer:
    """``width`` neighbouring whole-number features from ``low`` to ``high``, both included."""

    low: int
    high: int
    width: int = 1


@dataclass(frozen=True)
class OneHot:
    """``width`` neighbouring features of which exactly one is 1 and the others are 0."""

    width: int


@dataclass(frozen=True, init=False)
class Mixed:
    """Tabular rows: continuous, integer and one-hot features, in the order of the columns.

    ``Mixed(Continuous(17, 90), Integer(0, 16), OneHot(7))`` speaks of rows with 1 + 1 + 7 = 9 features.

    Raises:
        InputError: no part, a width below 1 (2 for one-hot), or bounds that are not ordered.
    """

    parts: tuple[Continuous | Integer | OneHot, ...]
    _low: Tensor = field(compare=False, repr=False)
    _high: Tensor = field(compare=False, repr=False)

    def __init__(self, *parts: Continuous | Integer | OneHot) -> None:
        if not parts:
            raise InputError("Mixed: name at least one part, for example Mixed(Continuous(0, 1, width=4))")
        low: list[float] = []
        high: list[float] = []
        for part in parts:
            if part.width < (2 if isinstance(part, OneHot) else 1):
                raise InputError(f"Mixed: {part} is too narrow")
            bounds = (0.0, 1.0) if isinstance(part, OneHot) else (float(part.low), float(part.high))
            if not (math.isfinite(bounds[0]) and math.isfinite(bounds[1]) and bounds[0] < bounds[1]):
                raise InputError(f"Mixed: low must be below high and both finite in {part}")
            low += [bounds[0]] * part.width
            high += [bounds[1]] * part.width
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "_low", torch.tensor(low))
        object.__setattr__(self, "_high", torch.tensor(high))

    @property
    def width(self) -> int:
        """Number of features of a row."""
        return len(self._low)

    def groups(self) -> list[tuple[Continuous | Integer | OneHot, slice]]:
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
        for part, columns in self.groups():
            if isinstance(part, Integer):
                x[:, columns] = torch.round(x[:, columns])
            elif isinstance(part, OneHot):
                hot = given[:, columns].argmax(1, keepdim=True)  # before clipping, which would tie what exceeds 1
                x[:, columns] = torch.zeros_like(x[:, columns]).scatter_(1, hot, 1.0)
        return x

    def check(self, x: Tensor, what: str) -> None:
        if x.dim() != 2 or x.shape[1] != self.width:
            raise InputError(
                f"{what}: rows of shape {tuple(x.shape[1:])}, but the Mixed domain describes {self.width} features"
            )
        _check_range(x, self._low.to(x.device), self._high.to(x.device), what)
        for part, columns in self.groups():
            block = x[:, columns]
            if isinstance(part, Integer):
                wrong = (block != torch.round(block)).any(1)
                rule = "whole numbers"
            elif isinstance(part, OneHot):
                wrong = ((block != 0) & (block != 1)).any(1) | (block.sum(1) != 1)
                rule = "exactly one 1 among 0s"
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
        for part, columns in self.groups():
            whole[columns] = isinstance(part, Integer)
        # Integer(low, high) has high - low + 1 equally likely values.
        spread = torch.where(whole, torch.floor(u * (high - low + 1)), u * (high - low))
        return self.project(low + spread)

    def span(self, shape: Sequence[int]) -> Tensor:
        return (self._high - self._low).expand(tuple(shape)).clone()

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        span = self.span(shape)
        for part, columns in self.groups():  # two one-hot groups differ in two features at most
            if isinstance(part, OneHot):
                span[columns] = 0.0
                span[columns.start : columns.start + 2] = 1.0
        return _diameter(span, norm)

    def describe(self) -> dict[str, Any]:
        return {"kind": "mixed", "parts": [{"part": type(p).__name__.lower(), **vars(p)} for p in self.parts]}

    def __repr__(self) -> str:
        return f"Mixed({', '.join(map(repr, self.parts))})"
