"""Forecast of a run's queries, before the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from labelleaks.auditing.calibration import LocalTime
from labelleaks.auditing.plan import Plan, Planned
from labelleaks.core.oracle.remote import Remote
from labelleaks.targets import Target
from labelleaks.targets.probe import NOISE_ROWS, PROBE_ROWS, ProbeResult

__all__ = ["Forecast", "ForecastLine", "forecast_of", "money"]


@dataclass(frozen=True)
class ForecastLine:
    """Queries of one attack, at most."""

    name: str
    labels: int
    """Per candidate."""
    rows: int
    """For all candidates."""
    setup_rows: int
    """Relabelling and thresholds."""
    budgets: tuple[int, ...] = ()
    """Of a ladder: the budgets at which it is run; ``labels`` are all of them together."""
    training_seconds: float | None = None
    """Estimate of its set-up on this machine, reference models among it; 0 where an attack before it trains them; None:
    not measured."""
    attack_seconds: float | None = None
    """Estimate of its crafting and search on this machine, without the target; None: not measured."""


@dataclass(frozen=True)
class Forecast:
    """Queries of a run, at most; searches that converge or fail early ask less."""

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
    def local_seconds(self) -> float | None:
        """Estimate of training, crafting and search of all attacks, beside the time inside the target.

        None: not measured, of none or not of all attacks.
        """
        parts = [(line.training_seconds, line.attack_seconds) for line in self.lines]
        known = [a + b for a, b in parts if a is not None and b is not None]
        return sum(known) if known and len(known) == len(parts) else None

    @property
    def wait(self) -> tuple[float, float] | None:
        """(at least, at most) seconds of the whole run, target and this machine; None: one of them is not known."""
        local = self.local_seconds
        return None if local is None or self.seconds is None else (self.seconds[0] + local, self.seconds[1] + local)

    @property
    def rows(self) -> int:
        """All rows, set-up and the run's own probe included."""
        return PROBE_ROWS + self.noise_rows + sum(line.rows + line.setup_rows for line in self.lines)


def forecast_of(
    plan: Plan,
    candidates: int,
    target: Target,
    *,
    noise: bool,
    probed: ProbeResult | None = None,
    local: Mapping[str, LocalTime] | None = None,
) -> Forecast:
    """Return what a planned run will cost at most.

    Args:
        candidates: how many.
        target: for the price and pace of a service.
        noise: whether the run measures how often labels change.
        probed: for the time inside the target; None: no time is given.
        local: time of attacks on this machine, by name.
    """
    here = local or {}
    lines = [_line(p, candidates, here.get(p.name)) for p in plan.planned]
    found = Forecast(
        tuple(lines),
        plan.budget,
        probe_rows=0 if probed is None else probed.rows,
        notes=plan.notes,
        noise_rows=NOISE_ROWS if noise else 0,
    )
    remote = target if isinstance(target, Remote) else None
    if remote is not None:
        found = replace(found, cost=remote.price(found.rows))
    if probed is None:
        return found
    if remote is None:
        return replace(found, seconds=probed.seconds(found.rows, target.batch_rows))
    alone = probed.call_seconds
    return found if alone is None else replace(found, seconds=remote.seconds(found.rows, alone))


def _line(planned: Planned, candidates: int, local: LocalTime | None) -> ForecastLine:
    return ForecastLine(
        name=planned.name,
        labels=planned.cost.most,
        rows=candidates * planned.cost.most,
        setup_rows=planned.cost.setup + sum(rows for _, rows in planned.rules),
        budgets=planned.budgets,
        training_seconds=None if local is None else local.training,
        attack_seconds=None if local is None else local.attack,
    )


def money(amount: float) -> str:
    """Write an amount in the user's currency: two places, of less than 0.1 the first two figures that are not 0."""
    if amount >= 0.1 or amount == 0:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}"
