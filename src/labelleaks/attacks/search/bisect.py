"""One-dimensional searches with labels, for all candidates at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["widest"]


def widest(
    holds: Callable[[Tensor, Tensor], Tensor],
    may_ask: Callable[[Tensor, Tensor], Tensor],
    *,
    most: float,
    guess: Tensor,
    steps: int,
    least: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Look for the largest value in [0, ``most``] for which something holds, by galloping from a guess, then bisection.

    It is known to hold at 0 (or at ``least``), and not to hold at ``most``. From the guess the value doubles while it
    holds and halves until it does; then the bracket is bisected. Every label either raises the lower end or lowers the
    upper one.

    Args:
        holds: given values (k,) and positions (k,) among the candidates, returns bool (k,). Costs one label each.
        may_ask: given the lower and upper ends (n,), returns bool (n,): which are still worth a label and can pay it.
        most: a value for which it does not hold.
        guess: float64 (n,), where to ask first, inside (0, ``most``).
        steps: labels for each candidate at most.
        least: float64 (n,), below the guess: where it is known to hold; None: 0.

    Returns:
        Lower ends, for which it holds, and upper ends, for which it does not: float64 (n,) each.
    """
    low = torch.zeros_like(guess) if least is None else least.clone()
    high = torch.full_like(guess, most)
    for asked in range(steps):
        rows = may_ask(low, high).nonzero().reshape(-1)
        if len(rows) == 0:
            break
        middle = (low + high) * 0.5
        value = guess if asked == 0 else torch.where(low > 0, torch.minimum(low * 2.0, middle), middle)
        yes = holds(value[rows], rows)
        low[rows] = torch.where(yes, value[rows], low[rows])
        high[rows] = torch.where(yes, high[rows], value[rows])
    return low, high
