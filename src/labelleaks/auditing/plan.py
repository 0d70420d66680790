"""From a request to a plan: attacks resolved, rules chosen, needs checked, a budget that the total can pay for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from labelleaks import attacks as registry
from labelleaks.auditing import ladder, thresholds
from labelleaks.auditing.forecast import Planned
from labelleaks.auditing.options import Request, Rows, name_of
from labelleaks.auditing.thresholds import ThresholdRule
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.domains import is_ambiguous, why_no_layout
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.row_hash import digests
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import architectures, checkpoints, shadow_training
from labelleaks.targets.probe import NOISE_ROWS, PROBE_ROWS

__all__ = ["Plan", "plan"]

HOLDOUT_SHARE = 0.25
"""Part of the shadow rows that no model trains on, put aside where a threshold rule needs it."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run will do."""

    planned: tuple[Planned, ...]
    knowledge: Knowledge
    holdout: ShadowRows | None
    """Shadow rows that no model trains on."""
    budget: int
    """Labels per candidate and attack."""
    shadow_dropped: int
    """Shadow rows that are candidates, or nearly."""
    notes: tuple[str, ...]


def plan(
    request: Request,
    rows: Rows,
    candidates: Candidates,
    setup: LabelOracle,
    default_attacks: Callable[[Candidates, bool], list[str]],
) -> Plan:
    """Plan a run: which attacks, with which rules, at which budget. Sends nothing.

    Args:
        setup: for the costs of set-up; asked nothing.
        default_attacks: (candidates, whether there are shadow rows) -> names, where the request names none.

    Raises:
        NeedsError: an attack or a rule lacks what it needs. InputError: whatever else cannot be.
    """
    shadow, dropped = rows.shadow, 0
    if shadow is not None:
        shadow, dropped = shadow_training.drop_near_duplicates(shadow, candidates)
    family = architectures.in_layout(request.family, candidates.shape, candidates.domain.layout)
    _check_family(family, candidates, rows.classes.open)
    knowledge = Knowledge(
        setup=setup,
        shadow=shadow,
        starts=rows.starts,
        family=family,
        references=request.references,
        references_dir=None if request.references_dir is None else checkpoints.check_folder(request.references_dir),
    )
    chosen, left_out = _chosen(request, candidates, knowledge, default_attacks)
    climbing = ladder.asked(request.attacks)
    rules = {name: _rules_for(request.thresholds, attack) for name, attack in chosen.items()}
    _check_thresholds_used(request.thresholds, chosen)

    holdout = None
    if shadow is not None and any("holdout" in rule.needs for found in rules.values() for rule in found):
        shadow, holdout = shadow_training.split_shadow(shadow, HOLDOUT_SHARE, request.seed)
        knowledge = replace(knowledge, shadow=shadow)
    _check_needs(chosen, knowledge, dropped)
    relabelled = replace(knowledge, shadow=None if shadow is None else shadow.as_labelled())

    def at(budget: int) -> tuple[Planned, ...]:
        found = []
        have = knowledge
        for name, attack in chosen.items():
            cost = attack.cost(candidates, have, budget)
            budgets: tuple[int, ...] = ()
            if climbing and cost.least > budget:  # total budget lowered this one
                continue
            if climbing:
                cost, budgets = ladder.cost_of(attack, candidates, have, budget)
            if cost.setup > attack.cost(candidates, relabelled, budget).setup:
                have = relabelled  # who asks first pays for the labels of the shadow rows
            costs = tuple((rule, rule.cost(attack, candidates, have, budget, holdout)) for rule in rules[name])
            found.append(Planned(name, attack, cost, costs, budgets))
        return tuple(found)

    budget, notes = _affordable(request, at, len(candidates))
    planned = at(budget)
    for p in planned:
        if p.cost.least > budget:
            raise NeedsError(
                f"{p.name} needs at least {p.cost.least} labels per candidate, budget={budget} is below it"
            )
    dropped_later = [name for name in chosen if name not in {p.name for p in planned}]
    left_out += tuple(f"ladder: {name} is left out, {budget} labels do not pay for a step" for name in dropped_later)
    return Plan(planned, knowledge, holdout, budget, dropped, (*notes, *left_out))


def _chosen(
    request: Request,
    candidates: Candidates,
    knowledge: Knowledge,
    default_attacks: Callable[[Candidates, bool], list[str]],
) -> tuple[dict[str, Attack], tuple[str, ...]]:
    """Return the attacks of the run by name, and what a ladder leaves out."""
    wanted = request.attacks
    if wanted is None:
        wanted = default_attacks(candidates, knowledge.shadow is not None)
    if not ladder.asked(wanted):
        if isinstance(wanted, str):
            raise InputError(f"attacks={wanted!r}: a list is needed, attacks=[{wanted!r}]")
        return _named([registry.resolve(attack) for attack in wanted]), _unmoved(request, candidates)
    climbed = ladder.climb(candidates, knowledge, request.budget)
    given = [] if isinstance(wanted, str) else [registry.resolve(a) for a in wanted if a != ladder.LADDER]
    others = [attack for attack in given if attack not in climbed.attacks]
    return _named([*climbed.attacks, *others]), climbed.left_out


def _unmoved(request: Request, candidates: Candidates) -> tuple[str, ...]:
    """What default attacks leave out because nobody said where the channels are."""
    shape, word = candidates.shape, candidates.domain.layout
    if request.attacks is not None or not is_ambiguous(shape, word):
        return ()
    return (f"augmentation is left out, and pictures are taken for plain rows: {why_no_layout(shape, word)}",)


def _check_family(family: Any, candidates: Candidates, open_classes: bool) -> None:
    """Build a shadow model once and drop it: a family that cannot be is refused before a label is bought."""
    factory = callable(family) and not isinstance(family, torch.nn.Module)
    if family is None or (open_classes and factory):  # a factory may know of classes that no candidate has
        return
    architectures.build(family, candidates.shape, candidates.classes, seed=0)


def _named(chosen: Sequence[Attack]) -> dict[str, Attack]:
    """Give each attack a name of its own: its kind, and the settings that are not defaults where kinds repeat."""
    if not chosen:
        raise InputError(f"attacks: name at least one of {', '.join(registry.names())}")
    kinds = [attack.name for attack in chosen]
    named: dict[str, Attack] = {}
    for attack in chosen:
        name = attack.name
        if kinds.count(name) > 1:
            settings = _changed(attack)
            name = f"{name}({', '.join(f'{k}={_word(v)}' for k, v in settings.items())})" if settings else name
        if name in named:
            raise InputError(f"attacks: {name} is asked for twice with the same settings")
        named[name] = attack
    return named


def _changed(settings: Any) -> dict[str, Any]:
    if not is_dataclass(settings):
        return {}
    given = {f.name: (getattr(settings, f.name), f.default) for f in fields(settings) if f.init}
    return {name: value for name, (value, default) in given.items() if not _equal(value, default)}


def _equal(value: Any, default: Any) -> bool:
    arrays = [isinstance(one, torch.Tensor | np.ndarray) for one in (value, default)]
    if any(arrays):
        return all(arrays) and torch.equal(torch.as_tensor(value), torch.as_tensor(default))
    return bool(value == default)


def _word(value: Any) -> str:
    """A setting in a name: short, and the same in every run. Of a tensor its shape and a hash of its content."""
    if isinstance(value, torch.Tensor | np.ndarray):
        rows = torch.as_tensor(value)
        return f"{'x'.join(map(str, rows.shape)) or 'number'}-{digests(rows[None])[0].hex()[:6]}"
    if _plain(value) or (isinstance(value, tuple | list) and all(map(_plain, value))):
        return str(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_word, value))})"
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(f'{k}={_word(v)}' for k, v in _changed(value).items())})"
    return str(name_of(value))


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _rules_for(wanted: Sequence[str | ThresholdRule] | None, attack: Attack) -> tuple[ThresholdRule, ...]:
    """The rules that make sense for an attack; by default random inputs where its score is a distance."""
    if wanted is None:
        return (thresholds.RandomInputs(),) if attack.is_distance else ()
    rules = [thresholds.resolve(rule) for rule in wanted]
    return tuple(rule for rule in rules if attack.is_distance or "distance" not in rule.needs)


def _check_thresholds_used(wanted: Sequence[str | ThresholdRule] | None, chosen: Mapping[str, Attack]) -> None:
    if any(attack.is_distance for attack in chosen.values()):
        return
    for rule in map(thresholds.resolve, wanted or ()):
        if "distance" in rule.needs:
            raise NeedsError(
                f"threshold {rule.name} gives a distance, and no attack of this run has a distance for its score: "
                "add 'boundary', or use ShadowCalibrated(), HoldOut(...) or FixedFPR(...)"
            )


_MEND = {
    "shadow": "give shadow=(x,) (a spec: data.shadow), rows of your own from the distribution of the training data",
    "starts": "give starts=x, inputs to start a search from",
}


def _check_needs(chosen: Mapping[str, Attack], knowledge: Knowledge, dropped: int) -> None:
    none_left = dropped > 0 and knowledge.shadow is not None and len(knowledge.shadow) == 0
    for name, attack in chosen.items():
        if none_left and "shadow" in attack.needs:
            raise NeedsError(
                f"attack {name!r} needs shadow rows, and all {dropped} given are equal or nearly equal to a candidate: "
                "give others, from the distribution of the training data"
            )
        for need in sorted(attack.needs):
            if getattr(knowledge, need) is None:
                raise NeedsError(f"attack {name!r} needs {need}: {_MEND.get(need, f'give {need}=')}")


def _affordable(request: Request, plan: Callable[[int], tuple[Planned, ...]], n: int) -> tuple[int, tuple[str, ...]]:
    """The largest budget per candidate, up to the one asked for, whose worst case fits ``budget_total``."""
    if request.budget_total is None:
        return request.budget, ()

    def worst(budget: int) -> int:
        noise = NOISE_ROWS if request.allow_noisy else 0
        return (
            PROBE_ROWS + noise + sum(n * p.cost.most + p.cost.setup + sum(r for _, r in p.rules) for p in plan(budget))
        )

    if worst(request.budget) <= request.budget_total:
        return request.budget, ()
    low, high = 0, request.budget  # worst(low) fits or low is 0; worst(high) does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if worst(middle) <= request.budget_total else (low, middle)
    if low == 0:
        raise NeedsError(
            f"budget_total={request.budget_total} is below the {worst(1)} rows that this run needs at one label per "
            f"candidate ({n} candidates, set-up included)"
        )
    return low, (
        f"budget_total={request.budget_total} lowers the budget from {request.budget} to {low} labels per candidate "
        "and attack, so that the worst case fits",
    )
