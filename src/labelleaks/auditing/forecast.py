"""What a run will ask of its target, known before it asks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelleaks.auditing.thresholds import ThresholdRule
from labelleaks.core.attack import Attack, Cost
from labelleaks.targets.probe import PROBE_ROWS

__all__ = ["Forecast", "ForecastLine", "Planned", "money"]


@dataclass(frozen=True, eq=False)
class Planned:
    """One attack of a run, with what it will cost at most."""

    name: str
    """As it stands in the record; attacks of one kind are told apart by their settings."""
    attack: Attack
    cost: Cost
    rules: tuple[tuple[ThresholdRule, int], ...]
    """Threshold rules and their set-up rows."""
    budgets: tuple[int, ...] = ()
    """Of a ladder: the budgets at which it is run, one after the other; (): once, at the run's budget."""


@dataclass(frozen=True)
class ForecastLine:
    """What one attack will ask of the target, at most."""

    name: str
    labels: int
    """Per candidate."""
    rows: int
    """For all candidates."""
    setup_rows: int
    """Relabelling and thresholds."""
    budgets: tuple[int, ...] = ()
    """Of a ladder: the budgets at which it is run; ``labels`` are all of them together."""


@dataclass(frozen=True)
class Forecast:
    """What a run will ask of the target, at most; searches that converge or fail early ask less."""

    lines: tuple[ForecastLine, ...]
    budget: int
    """Labels per candidate and attack; lower than asked where ``budget_total`` demands it."""
    probe_rows: int
    """Rows that were spent on probing (0: nothing was sent)."""
    seconds: tuple[float, float] | None = None
    """(at least, at most) inside the target for all rows, from the probe's speed; None where nothing was sent."""
    cost: tuple[float, float] | None = None
    """(at least, at most) price of all rows without retries, in the user's currency; None for a local target."""

    notes: tuple[str, ...] = ()
    """Sentences for the reader: a lowered budget, what a ladder leaves out."""
    noise_rows: int = 0
    """Rows that measure the noise of a target that may be noisy."""

    @property
    def rows(self) -> int:
        """All rows, set-up and the run's own probe included."""
        return PROBE_ROWS + self.noise_rows + sum(line.rows + line.setup_rows for line in self.lines)


def money(amount: float) -> str:
    """Write an amount in the user's currency: two places, of less than 0.1 the first two figures that are not 0."""
    if amount >= 0.1 or amount == 0:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}"
