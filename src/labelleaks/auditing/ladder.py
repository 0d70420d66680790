"""The ladder: every attack that this adversary's knowledge and budget allow, each at every budget that changes it.

``attacks="ladder"`` plans it. An *anytime* attack notes its score along the way, so one run at the full budget shows
what each label bought. An attack that *plans for its budget* (``anytime = False``: it asks other questions when it may
ask fewer) is run once for each of 1, 2, 5, 10, 20, 50, … labels and the full budget, and these runs make its curve.
Each run keeps to its own budget; all of them are billed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from labelleaks import attacks as registry
from labelleaks.core.attack import Attack, Cost, Knowledge
from labelleaks.core.types import Candidates, Scores, Trajectory, checkpoints_up_to
from labelleaks.errors import InputError

__all__ = ["LADDER", "Climb", "asked", "climb", "cost_of", "fits", "joined", "rungs"]

LADDER = "ladder"
"""What stands in ``attacks`` for all of this."""


@dataclass(frozen=True)
class Climb:
    """The attacks of a ladder, cheapest first, and a sentence for each that this adversary cannot use."""

    attacks: tuple[Attack, ...]
    left_out: tuple[str, ...]


def asked(attacks: Sequence[str | Attack] | None) -> bool:
    """Whether a ladder is asked for: ``"ladder"``, or a list with it."""
    return attacks is not None and (attacks == LADDER or (not isinstance(attacks, str) and LADDER in attacks))


def climb(candidates: Candidates, knowledge: Knowledge, budget: int) -> Climb:
    """Choose the attacks, at their defaults. Sends nothing.

    Left out: those that lack what they need, that do not fit these rows, or that cannot take a step at ``budget``.
    """
    chosen: list[Attack] = []
    left_out: list[str] = []
    for name in registry.names():
        attack = registry.load(name)()
        why = _why_not(attack, candidates, knowledge, budget)
        if why is None:
            chosen.append(attack)
        else:
            left_out.append(f"ladder: {name} is left out, {why}")
    return Climb(tuple(chosen), tuple(left_out))


def fits(name: str, candidates: Candidates, knowledge: Knowledge, budget: int) -> bool:
    """Whether an attack at its defaults can be used by this adversary at ``budget``. Sends nothing."""
    return _why_not(registry.load(name)(), candidates, knowledge, budget) is None


def _why_not(attack: Attack, candidates: Candidates, knowledge: Knowledge, budget: int) -> str | None:
    lacking = sorted(need for need in attack.needs if getattr(knowledge, need) is None)
    if lacking:
        return f"it needs {', '.join(lacking)}"
    try:
        least = attack.cost(candidates, knowledge, budget).least
    except InputError as error:
        return str(error)
    return None if least <= budget else f"it needs at least {least} labels per candidate"


def rungs(most: Callable[[int], Cost], budget: int) -> tuple[int, ...]:
    """Return the budgets at which an attack that plans for its budget is run, increasing.

    Args:
        most: budget -> the attack's cost at it.
        budget: labels per candidate, at least 1.

    Returns:
        Those of 1, 2, 5, 10, … and ``budget`` that pay for a step and that the attack would spend to another extent
        than the one before: at a budget beyond its last question it would ask the same ones again. Empty where even
        ``budget`` does not pay for a step.
    """
    found: dict[int, int] = {}
    for one in checkpoints_up_to(budget):
        cost = most(one)
        if cost.least <= one:
            found.setdefault(cost.most, one)
    return tuple(found.values())


def cost_of(attack: Attack, candidates: Candidates, knowledge: Knowledge, budget: int) -> tuple[Cost, tuple[int, ...]]:
    """Return what an attack of a ladder costs, all its runs together, and their budgets; () for one anytime run."""
    cost = attack.cost(candidates, knowledge, budget)
    if attack.anytime:
        return cost, ()
    budgets = rungs(lambda one: attack.cost(candidates, knowledge, one), budget)
    most = sum(attack.cost(candidates, knowledge, one).most for one in budgets)
    return replace(cost, most=max(most, cost.least)), budgets


def joined(runs: Sequence[Scores], budgets: Sequence[int]) -> Scores:
    """Return the last run's scores, with a trajectory made of the scores of all of them."""
    path = Trajectory(tuple(budgets), torch.stack([found.value for found in runs]))
    return replace(runs[-1], trajectory=path)
