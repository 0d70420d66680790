"""From options to a plan: attacks resolved, rules chosen, needs checked, a budget that the total can pay for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from labelleaks import attacks as registry
from labelleaks.auditing import ladder, thresholds
from labelleaks.auditing.options import AuditOptions, name_of
from labelleaks.auditing.rows import RunRows
from labelleaks.auditing.thresholds import ThresholdRule
from labelleaks.core import progress
from labelleaks.core.attack import Attack, Cost, Knowledge, ShadowRows
from labelleaks.core.domains import is_ambiguous, why_no_layout
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.oracle.query_keys import digests
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import architectures, checkpoints, shadow_training, text_models
from labelleaks.targets.probe import NOISE_ROWS, PROBE_ROWS

__all__ = ["Plan", "Planned", "plan"]

HOLDOUT_SHARE = 0.25
"""Part of the shadow rows that no model trains on, put aside where a threshold rule needs it."""


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


@dataclass(frozen=True, eq=False)
class Plan:
    """Attacks, thresholds and costs of a run, planned."""

    planned: tuple[Planned, ...]
    knowledge: Knowledge
    holdout: ShadowRows | None
    """Shadow rows that no model trains on."""
    budget: int
    """Labels per candidate and attack."""
    shadow_dropped: int
    """Shadow rows that are candidates, or nearly."""
    notes: tuple[str, ...]


def plan(options: AuditOptions, rows: RunRows, setup: LabelOracle) -> Plan:
    """Plan a run: which attacks, with which rules, at which budget. Sends nothing.

    Args:
        setup: for the costs of set-up; asked nothing.

    Raises:
        NeedsError: an attack or a rule lacks what it needs. InputError: whatever else cannot be.
    """
    candidates = rows.candidates
    knowledge, dropped = _knowledge(options, rows, setup)
    shadow = knowledge.shadow
    chosen, left_out = _chosen(options, candidates, knowledge)
    climbing = ladder.asked(options.attacks)
    rules = {name: _rules_for(options.thresholds, attack) for name, attack in chosen.items()}
    _check_thresholds_used(options.thresholds, chosen)

    holdout = None
    if shadow is not None and any("holdout" in rule.needs for several in rules.values() for rule in several):
        shadow, holdout = shadow_training.split_shadow(shadow, HOLDOUT_SHARE, options.seed)
        knowledge = replace(knowledge, shadow=shadow)
    _check_needs(chosen, knowledge, dropped)
    relabelled = replace(knowledge, shadow=None if shadow is None else shadow.as_labelled())

    def at(budget: int) -> tuple[Planned, ...]:
        affordable = []
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
            affordable.append(Planned(name, attack, cost, costs, budgets))
        return tuple(affordable)

    budget, notes = _affordable(options, at, len(candidates))
    planned = at(budget)
    for p in planned:
        if p.cost.least > budget:
            raise NeedsError(
                f"{p.name} needs at least {p.cost.least} labels per candidate, budget={budget} is below it"
            )
    dropped_later = [name for name in chosen if name not in {p.name for p in planned}]
    left_out += tuple(f"ladder: {name} is left out, {budget} labels do not pay for a step" for name in dropped_later)
    return Plan(planned, knowledge, holdout, budget, dropped, (*notes, *left_out))


def _knowledge(options: AuditOptions, rows: RunRows, setup: LabelOracle) -> tuple[Knowledge, int]:
    """The adversary's knowledge, and how many shadow rows were left out: those that are candidates, or nearly."""
    candidates, shadow, dropped = rows.candidates, rows.shadow, 0
    if shadow is not None:
        progress.stage("comparing shadow rows with candidates")
        shadow, dropped = shadow_training.drop_near_duplicates(shadow, candidates)
    family = text_models.for_texts(options.family, candidates.domain, candidates.shape)
    family = architectures.family_for(family, candidates.shape, candidates.domain)
    _check_family(family, candidates, rows.classes.open)
    knowledge = Knowledge(
        setup=setup,
        shadow=shadow,
        starts=rows.starts,
        family=family,
        references=options.references,
        references_dir=None if options.references_dir is None else checkpoints.check_folder(options.references_dir),
    )
    return knowledge, dropped


def _chosen(
    options: AuditOptions, candidates: Candidates, knowledge: Knowledge
) -> tuple[dict[str, Attack], tuple[str, ...]]:
    """Return the attacks of the run by name, and what a ladder leaves out."""
    wanted = options.attacks
    if wanted is None:
        wanted = _all_that_fit(candidates, knowledge, options.budget)
    if not ladder.asked(wanted):
        if isinstance(wanted, str):
            raise InputError(f"attacks={wanted!r}: a list is needed, attacks=[{wanted!r}]")
        return _named([registry.resolve(attack) for attack in wanted]), _unmoved(options, candidates)
    climbed = ladder.climb(candidates, knowledge, options.budget)
    given = [] if isinstance(wanted, str) else [registry.resolve(a) for a in wanted if a != ladder.LADDER]
    others = [attack for attack in given if attack not in climbed.attacks]
    return _named([*climbed.attacks, *others]), climbed.left_out


def _all_that_fit(candidates: Candidates, knowledge: Knowledge, budget: int) -> list[str]:
    """The default attacks, where these rows and this knowledge allow them."""
    moved = ["augmentation"] if _movable(candidates) else []
    by_models = ["transfer", *(["guided"] if ladder.fits("guided", candidates, knowledge, budget) else [])]
    return ["gap", "noise", *moved, "boundary", *(by_models if knowledge.shadow is not None else [])]


def _movable(candidates: Candidates) -> bool:
    """Whether the rows are pictures that can be turned and shifted, or texts."""
    from labelleaks.attacks.augmentation import Augmentation

    try:
        Augmentation().count(candidates)
    except NeedsError:
        return False
    return True


def _unmoved(options: AuditOptions, candidates: Candidates) -> tuple[str, ...]:
    """Note on what default attacks leave out because nobody said where the channels are."""
    shape, word = candidates.shape, candidates.domain.layout
    if options.attacks is not None or not is_ambiguous(shape, word):
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


def _affordable(
    options: AuditOptions, plan: Callable[[int], tuple[Planned, ...]], n: int
) -> tuple[int, tuple[str, ...]]:
    """The largest budget per candidate, up to the one asked for, whose worst case fits ``budget_total``."""
    if options.budget_total is None:
        return options.budget, ()

    def worst(budget: int) -> int:
        noise = NOISE_ROWS if options.allow_noisy else 0
        return (
            PROBE_ROWS + noise + sum(n * p.cost.most + p.cost.setup + sum(r for _, r in p.rules) for p in plan(budget))
        )

    if worst(options.budget) <= options.budget_total:
        return options.budget, ()
    low, high = 0, options.budget  # worst(low) fits or low is 0; worst(high) does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if worst(middle) <= options.budget_total else (low, middle)
    if low == 0:
        raise NeedsError(
            f"budget_total={options.budget_total} is below the {worst(1)} rows that this run needs at one label per "
            f"candidate ({n} candidates, set-up included)"
        )
    return low, (
        f"budget_total={options.budget_total} lowers the budget from {options.budget} to {low} labels per candidate "
        "and attack, so that the worst case fits",
    )
