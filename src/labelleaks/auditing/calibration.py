"""Time of an audit beside the target's: training and crafting, measured on a few rows against a free stand-in.

Nothing is sent: the stand-in answers by a random linear rule. Of every attack the set-up is done on a few shadow rows
with one epoch a model, then 64 candidates, one block of a model, are attacked with two of the models; what that took is
scaled to the rows, epochs, models and candidates of the run. Searches take other paths on the real target, and models
that fit early stop early: an estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from labelleaks.auditing.plan import Plan, Planned
from labelleaks.core import rng
from labelleaks.core.attack import Knowledge, ShadowRows, prepared
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.progress import stage
from labelleaks.core.types import Candidates
from labelleaks.errors import LabelLeaksError
from labelleaks.models.reference_models import trainings
from labelleaks.models.shadow_training import SHADOW_RECIPE

__all__ = ["LocalTime", "calibrated"]

_SHADOW = 128  # shadow rows of the short set-up
_ATTACKED = 64  # candidates: one block of a reference model
_MODELS = 2  # reference models that craft


@dataclass(frozen=True)
class LocalTime:
    """Seconds of one attack on this machine, without the target."""

    training: float
    """Set-up: reference models and what is fitted on them. Attacks of a run share models: who comes first pays."""
    attack: float
    """Crafting, search and bookkeeping for all candidates and for the rows of the threshold rules."""


def calibrated(plan: Plan, candidates: Candidates, *, seed: int) -> dict[str, LocalTime]:
    """Return the time of each planned attack, by its name; attacks that cannot be tried on a few rows are left out.

    Takes a few seconds, bills nothing.
    """
    found: dict[str, LocalTime] = {}
    trained: set[Any] = set()
    for planned in plan.planned:
        stage(f"measuring {planned.name}")
        try:
            training, each = _tried(planned, plan, candidates, seed)
        except LabelLeaksError:  # the few rows do not do: one class among them, too few to part
            continue
        recipe = getattr(planned.attack, "recipe", None)
        rows = len(candidates) + sum(rows for _, rows in planned.rules) / max(planned.cost.most, 1)
        found[planned.name] = LocalTime(0.0 if recipe in trained else training, each * rows)
        if "shadow" in planned.attack.needs:
            trained.add(recipe)
    return found


def _tried(planned: Planned, plan: Plan, candidates: Candidates, seed: int) -> tuple[float, float]:
    """Seconds of the set-up, and of the attack on one candidate."""
    attack, budget = planned.attack, max(planned.budgets or (plan.budget,))
    gate = Gate(_stand_in(candidates))
    whole = plan.knowledge.shadow
    few = None if whole is None else ShadowRows(whole.x[:_SHADOW], None if whole.y is None else whole.y[:_SHADOW])
    knowledge = replace(
        plan.knowledge, setup=gate.setup_oracle(planned.name), shadow=few, store={}, references_dir=None
    )
    recipe = getattr(attack, "recipe", None) or SHADOW_RECIPE
    epochs = recipe.epochs
    if is_dataclass(attack) and "recipe" in {f.name for f in fields(attack)}:
        attack = replace(attack, recipe=replace(recipe, epochs=1))
    ready, seconds = _timed(lambda: prepared(attack, knowledge, candidates, seed=seed))
    models = trainings(knowledge.store)
    learnt = sum(model.seconds for model in models)
    share = min(1.0, learnt / seconds) if seconds else 0.0  # of the set-up: the rest does not grow with the rows
    rows = 0 if whole is None else len(whole)
    growth = rows / max(len(few) if few is not None else 1, 1) * (epochs if any(m.epochs for m in models) else 1)
    training = seconds * (1 - share) + seconds * share * growth
    if len(models) > _MODELS:
        ready = replace(ready, references=_MODELS)
    return training, _each(attack, candidates, ready, budget, seed) * max(len(models) / _MODELS, 1.0)


def _each(attack: Any, candidates: Candidates, ready: Knowledge, budget: int, seed: int) -> float:
    """Seconds of the attack on one candidate, without the stand-in's."""
    x = candidates.x[:_ATTACKED]
    stand_in = _stand_in(candidates)
    gate = Gate(stand_in)
    some = Candidates(x, stand_in(x), candidates.domain, candidates.classes)
    oracle = gate.oracle(attack.name, len(some), budget)
    _, seconds = _timed(lambda: attack.score(oracle, some, ready, seed=seed))
    return max(seconds - gate.ledger.seconds, 0.0) / max(len(some), 1)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def _stand_in(candidates: Candidates) -> Callable[[Tensor], Tensor]:
    """A random linear rule through the middle of the candidates: it has a boundary near them, and every class."""
    streams = rng.streams(torch.arange(candidates.classes), 0, "stand-in target")
    weights = (rng.uniform(streams, candidates.width) - 0.5).to(candidates.device, torch.float32)
    middle = candidates.x.flatten(1).to(torch.float32).mean(0)
    return lambda x: ((x.flatten(1).to(torch.float32) - middle) @ weights.T).argmax(1)
