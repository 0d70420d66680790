"""Real features between bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelleaks.core.domains.base import Group, Norm, check_range, diameter_of
from labelleaks.core.domains.layout import Word, check_word, image_layout
from labelleaks.errors import InputError

__all__ = ["Box"]


@dataclass(frozen=True, eq=False)
class Box:
    """Real features between bounds, for example images: ``Box(0, 1)``, or ``Box(0, 1, levels=256)`` for 8 bits.

    Args:
        low, high: a number for all features, or an array that broadcasts to a row's shape. low < high.
        levels: number of equally spaced values that a client can send (256 for 8-bit pixels); None: any float32.
        layout: how a row is a picture, sequence or volume, where its shape does not tell: ``"chw"``, ``"tc"``, …
            (:mod:`labelleaks.core.domains.layout`).

    Raises:
        InputError: bounds that are not finite or not ordered, fewer than 2 levels, or another layout.
    """

    low: float | Tensor | Sequence[float] = 0.0
    high: float | Tensor | Sequence[float] = 1.0
    levels: int | None = None
    layout: Word | None = None

    def __post_init__(self) -> None:
        low, high = _bound("low", self.low), _bound("high", self.high)
        _check_order(low, high)
        if self.levels is not None:
            whole = isinstance(self.levels, int | float) and not isinstance(self.levels, bool) and self.levels % 1 == 0
            if not whole or self.levels < 2:
                raise InputError(
                    f"Box: levels must be a whole number of at least 2 (256 for 8-bit pixels), got {self.levels!r}"
                )
            object.__setattr__(self, "levels", int(self.levels))
        check_word(self.layout, "Box")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        assert isinstance(self.low, Tensor) and isinstance(self.high, Tensor)
        return self.low.to(device), self.high.to(device)

    @property
    def continuous(self) -> bool:
        return True

    def spans(self, low: float, high: float) -> bool:
        """Whether every feature's bounds are these numbers, as float32."""
        own = self._bounds(torch.device("cpu"))
        return all(bool((end == torch.tensor(bound)).all()) for end, bound in zip(own, (low, high), strict=True))

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        low, high = (self.project(torch.full((1, *shape), end))[0] for end in (-math.inf, math.inf))
        return low, high

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        step = 0.0 if self.levels is None else float(self.span(shape).max()) / (self.levels - 1)
        low, high = (
            end.item() if end.dim() == 0 else end.expand(tuple(shape)).reshape(-1)
            for end in self._bounds(torch.device("cpu"))
        )
        return (Group("continuous", slice(0, math.prod(shape)), low, high, step),)

    def project(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x.device)
        x = torch.minimum(torch.maximum(x, low), high)
        if self.levels is not None:
            steps = self.levels - 1
            if bool((high - low == steps).all()):  # whole numbers, which a division would leave by a rounding error
                return torch.round(x - low) + low
            x = torch.round((x - low) / (high - low) * steps) / steps * (high - low) + low
        return x

    def check(self, x: Tensor, what: str) -> None:
        image_layout(x.shape[1:], self.layout)  # a word that rows of this shape cannot have is refused here
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
        check_range(x, low, high, what)

    def from_uniform(self, u: Tensor) -> Tensor:
        low, high = self._bounds(u.device)
        return self.project(low + u * (high - low))

    def span(self, shape: Sequence[int]) -> Tensor:
        low, high = self._bounds(torch.device("cpu"))
        return (high - low).expand(tuple(shape)).clone()

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        return diameter_of(self.span(shape), norm)

    def describe(self) -> dict[str, Any]:
        low, high = self._bounds(torch.device("cpu"))
        word = {} if self.layout is None else {"layout": self.layout}
        return {"kind": "box", "low": low.tolist(), "high": high.tolist(), "levels": self.levels, **word}

    def __repr__(self) -> str:
        low, high = self._bounds(torch.device("cpu"))
        show = [f"{b.item():g}" if b.dim() == 0 else f"<{tuple(b.shape)}>" for b in (low, high)]
        given = [f"{name}={value!r}" for name in ("levels", "layout") if (value := getattr(self, name)) is not None]
        return f"Box({', '.join(show + given)})"


def _bound(name: str, value: Any) -> Tensor:
    """One bound as float32: a number, an array, a list, or a Series with a value for each column."""
    try:
        if isinstance(value, str | bytes | bool) or value is None:
            raise TypeError
        array = value.detach().cpu() if isinstance(value, Tensor) else np.array(value)
        found: Tensor = torch.as_tensor(array).to(torch.float32)
    except (TypeError, ValueError, RuntimeError):
        shown = " ".join(repr(value).split())[:60]
        raise InputError(f"Box: {name}={shown} is no number: give a number, or one for each feature") from None
    return found[0].clone() if hasattr(value, "columns") and len(found) == 1 else found.clone()  # a table of one row


def _check_order(low: Tensor, high: Tensor) -> None:
    try:
        both = torch.broadcast_tensors(low, high)
    except RuntimeError:
        raise InputError(
            f"Box: low has the shape {tuple(low.shape)} and high {tuple(high.shape)}: give each one for all "
            "features, or one for each"
        ) from None
    wrong = ~(torch.isfinite(both[0]) & torch.isfinite(both[1]) & (both[0] < both[1])).reshape(-1)
    if bool(wrong.any()):
        i = int(wrong.to(torch.uint8).argmax())
        least, most = (end.reshape(-1)[i].item() for end in both)
        where = f" of feature {i}" if len(wrong) > 1 else ""
        raise InputError(f"Box: low must be below high and both finite, got {least:g} and {most:g}{where}")
