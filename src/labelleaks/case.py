"""What `audit`, `infer` and `forecast` share: inputs checked, target opened, costs planned, and nothing sent yet.

The way of a run: :func:`open_case` checks everything that can be checked without the target, ``probe`` asks at most 16
billed rows, ``score`` runs one attack, ``thresholds`` fits its rules. A :class:`Case` knows no membership.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelleaks import attacks as registry
from labelleaks import calibration, ladder, modelfile, models, shadows
from labelleaks.calibration import Setting, Threshold, ThresholdRule
from labelleaks.domain import Box, Domain
from labelleaks.engine import choose
from labelleaks.errors import InputError, NeedsError, nearest
from labelleaks.journal import Journal, default_path
from labelleaks.oracle import Gate
from labelleaks.request import Request, Rows, check_numbers, describe, gather, name_of
from labelleaks.shards import SHARD_ROWS, Course, Reach, Shards
from labelleaks.targets import Target, sendable, wrap
from labelleaks.targets.probe import (
    NOISE_ROWS,
    PROBE_ROWS,
    NoiseResult,
    ProbeResult,
    canaries,
    measure_noise,
    probe,
)
from labelleaks.traffic import Remote
from labelleaks.types import Attack, Candidates, Cost, Knowledge, Scores, ShadowRows

__all__ = ["Case", "Forecast", "ForecastLine", "Planned", "open_case"]

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


@dataclass(frozen=True, eq=False)
class Case:
    """Everything that a run needs, checked."""

    target: Target
    gate: Gate
    rows: Rows
    candidates: Candidates
    knowledge: Knowledge
    holdout: ShadowRows | None
    planned: tuple[Planned, ...]
    budget: int
    request: Request
    shadow_given: int
    shadow_dropped: int
    notes: tuple[str, ...] = field(default=())
    journal: Journal | None = None
    shards: Shards | None = None
    """Where there are more candidates than a shard holds; None: all are attacked at once."""

    def probe(self) -> ProbeResult:
        """Ask at most 16 billed rows; faults of the target show here."""
        return probe(self.gate.setup_oracle("target"), self.candidates, allow_noisy=self.request.allow_noisy)

    def noise(self) -> NoiseResult | None:
        """Measure how often labels change, with at most 128 billed rows; None where noise is not allowed."""
        if not self.request.allow_noisy:
            return None
        return measure_noise(self.gate.setup_oracle("target"), self.candidates)

    def check_unchanged(self) -> tuple[str, ...]:
        """Ask a service at most 8 billed rows that its journal knows, and refuse one that answers otherwise now.

        Returns:
            A sentence for the record where the change was accepted.

        Raises:
            InputError: the target changed; what there is to choose from.
        """
        if self.journal is None or self.request.replay_only or not isinstance(self.target, Remote):
            return ()
        asked, changed = canaries(self.gate.setup_oracle("target"), self.candidates, self.journal.answers)
        if changed <= (asked // 2 if self.request.allow_noisy else 0):
            return ()
        said = (
            f"the target changed since the journal {self.journal.path} was begun: {changed} of {asked} rows that it "
            "had labelled got another label now"
        )
        if not self.request.accept_changed:
            raise InputError(
                f"{said}. Give a new journal (journal=, --set journal=FILE) to begin anew, go back to the former "
                "model, or mix old and new answers all the same: accept_changed=True (--accept-changed)"
            )
        return (f"{said[0].upper()}{said[1:]}; old and new answers are mixed, as accept_changed allows.",)

    def score(self, planned: Planned) -> Scores:
        """Run one attack on all candidates."""
        budgets = planned.budgets or (self.budget,)
        course = Course(planned.attack, planned.name, budgets, bool(planned.budgets), self.request.seed)
        if self.shards is not None and not getattr(planned.attack, "whole", False):
            most = None if self.request.budget_total is None else planned.cost.most
            return self.shards.score(course, self.knowledge, most=most)
        knowledge = replace(self.knowledge, setup=self.gate.setup_oracle(planned.name))
        accounts = len(self.candidates)
        return course.score(lambda b: self.gate.oracle(planned.name, accounts, b), self.candidates, knowledge)

    def thresholds(self, planned: Planned) -> tuple[Threshold, ...]:
        """Fit the attack's threshold rules; the candidates' scores have no part in it."""
        setting = Setting(
            attack=planned.attack,
            gate=self.gate,
            candidates=self.candidates,
            knowledge=replace(self.knowledge, setup=self.gate.setup_oracle(planned.name)),
            holdout=self.holdout,
            budget=self.budget,
            seed=self.request.seed,
            encode=lambda y: self.rows.classes.encode(y, "hold-out rows"),
        )
        return tuple(rule.fit(setting) for rule, _ in planned.rules)

    def forecast(self, probed: ProbeResult | None = None) -> Forecast:
        """Say what the run will cost at most."""
        n = len(self.candidates)
        lines = [
            ForecastLine(
                p.name, p.cost.most, n * p.cost.most, p.cost.setup + sum(rows for _, rows in p.rules), p.budgets
            )
            for p in self.planned
        ]
        found = Forecast(
            tuple(lines),
            self.budget,
            probe_rows=0 if probed is None else probed.rows,
            notes=self.notes,
            noise_rows=NOISE_ROWS if self.request.allow_noisy else 0,
        )
        remote = self.target if isinstance(self.target, Remote) else None
        if remote is not None:
            found = replace(found, cost=remote.price(found.rows))
        if probed is None:
            return found
        if remote is None:
            return replace(found, seconds=probed.seconds(found.rows, self.target.batch_rows))
        alone = probed.call_seconds
        return found if alone is None else replace(found, seconds=remote.seconds(found.rows, alone))

    def spec(self) -> dict[str, Any]:
        """Return what was asked for, as JSON types: equal for equal runs."""
        request = self.request
        rungs = {p.name: list(p.budgets) for p in self.planned if p.budgets}
        return {
            "attacks": [{"name": p.name, "attack": p.attack.name, **describe(p.attack)} for p in self.planned],
            "thresholds": {p.name: [rule.describe() for rule, _ in p.rules] for p in self.planned},
            "budget": self.budget,
            "budget_asked": request.budget,
            "budget_total": request.budget_total,
            "references": request.references,
            "family": name_of(request.family),
            "preprocess": name_of(request.preprocess),
            "starts": 0 if self.knowledge.starts is None else len(self.knowledge.starts),
            "groups": dict(zip(request.groups, self.rows.sizes, strict=True)),
            "candidates": self.digest,
            **({"ladder": rungs} if rungs else {}),
        }

    @cached_property
    def digest(self) -> str:
        """A hash of all candidates, whatever their order."""
        return f"{int(torch.sum(self.candidates.keys)) & ((1 << 64) - 1):016x}"


@contextmanager
def open_case(
    request: Request, *, default_attacks: Callable[[Candidates, bool], list[str]], progress: Any = None
) -> Iterator[Case]:
    """Check a request and open its target; on leaving, the target is as it was.

    Raises:
        InputError: and its kinds, for whatever is wrong with what was given. Nothing was sent.
    """
    check_numbers(request)
    domain = request.domain if request.domain is not None else Box(0, 1)
    if not isinstance(domain, Domain):
        raise InputError(f"domain={domain!r} is not a domain: give Box(0, 1), Binary() or Mixed(...)")
    domain = sendable(request.target, domain)
    rows = gather(request, domain)
    candidates = Candidates(rows.x, rows.y, domain, len(rows.classes), rows.ids)
    wrapped = partial(
        wrap,
        numpy=rows.numpy,
        classes=rows.classes,
        preprocess=request.preprocess,
        device=request.device,
        batch_rows=request.batch_rows,
        width=candidates.width,
    )
    with (
        choose(request.engine) as engine,
        wrapped(request.target) as target,
        _journal(request.journal, target, replay_only=request.replay_only) as journal,
    ):
        gate = Gate(
            target,
            batch_rows=target.batch_rows,
            total=request.budget_total,
            journal=journal,
            progress=progress,
            replay_only=request.replay_only,
        )
        case = _plan(request, rows, candidates, target, gate, default_attacks)
        case = replace(case, journal=journal, knowledge=replace(case.knowledge, engine=engine))
        size = request.shard_rows or SHARD_ROWS
        if len(candidates) > size and _stays(case) is None:
            reach = Reach(request.target, target, wrapped)
            case = replace(case, shards=Shards(engine, gate, reach, candidates, size, progress))
        yield case


def _stays(case: Case) -> str | None:
    """Why no attack of this run is cut into shards; None where all may be."""
    if isinstance(case.target, Remote):
        return "a service is asked from one place: its pace, its journal and its bill are kept there"
    if case.journal is not None:
        return "its answers are kept in a journal, which has one writer"
    devices = {case.candidates.device.type, str(case.request.device or "cpu")}
    if isinstance(case.request.target, nn.Module):
        devices |= {p.device.type for p in case.request.target.parameters()}
    return None if devices == {"cpu"} else "its target is not on a CPU"


@contextmanager
def _journal(path: str | Path | None, target: Target, *, replay_only: bool) -> Iterator[Journal | None]:
    if path is None and isinstance(target, Remote):  # what was paid for is kept, whatever happens
        path = default_path(target.fingerprint)
    if path is None and replay_only:
        raise InputError("replay_only needs the journal of an earlier run: journal=FILE (--set journal=FILE)")
    if path is None:
        yield None
        return
    with Journal(path, fingerprint=target.fingerprint, must_exist=replay_only) as journal:
        yield journal


def _plan(
    request: Request,
    rows: Rows,
    candidates: Candidates,
    target: Target,
    gate: Gate,
    default_attacks: Callable[[Candidates, bool], list[str]],
) -> Case:
    shadow, dropped = rows.shadow, 0
    if shadow is not None:
        shadow, dropped = shadows.drop_near_duplicates(shadow, candidates)
    _check_family(request.family, candidates, rows.classes.open)
    knowledge = Knowledge(
        setup=gate.setup_oracle("setup"),
        shadow=shadow,
        starts=rows.starts,
        family=request.family,
        references=request.references,
        references_dir=None if request.references_dir is None else modelfile.check_folder(request.references_dir),
    )
    chosen, left_out = _chosen(request, candidates, knowledge, default_attacks)
    climbing = ladder.asked(request.attacks)
    rules = {name: _rules_for(request.thresholds, attack) for name, attack in chosen.items()}
    _check_thresholds_used(request.thresholds, rules)

    holdout = None
    if shadow is not None and any("holdout" in rule.needs for found in rules.values() for rule in found):
        shadow, holdout = shadows.split_shadow(shadow, HOLDOUT_SHARE, request.seed)
        knowledge = replace(knowledge, shadow=shadow)
    _check_needs(chosen, knowledge, dropped)
    relabelled = replace(knowledge, shadow=None if shadow is None else shadow.as_labelled())

    def plan(budget: int) -> tuple[Planned, ...]:
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

    budget, notes = _affordable(request, plan, len(candidates))
    planned = plan(budget)
    for p in planned:
        if p.cost.least > budget:
            raise NeedsError(
                f"{p.name} needs at least {p.cost.least} labels per candidate, budget={budget} is below it"
            )
    dropped_later = [name for name in chosen if name not in {p.name for p in planned}]
    left_out += tuple(f"ladder: {name} is left out, {budget} labels do not pay for a step" for name in dropped_later)
    return Case(
        target=target,
        gate=gate,
        rows=rows,
        candidates=candidates,
        knowledge=knowledge,
        holdout=holdout,
        planned=planned,
        budget=budget,
        request=request,
        shadow_given=0 if rows.shadow is None else len(rows.shadow),
        shadow_dropped=dropped,
        notes=(*notes, *left_out),
    )


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
        return _named([registry.resolve(attack) for attack in wanted]), ()
    climbed = ladder.climb(candidates, knowledge, request.budget)
    given = [] if isinstance(wanted, str) else [registry.resolve(a) for a in wanted if a != ladder.LADDER]
    others = [attack for attack in given if attack not in climbed.attacks]
    return _named([*climbed.attacks, *others]), climbed.left_out


def _check_family(family: Any, candidates: Candidates, open_classes: bool) -> None:
    """Build a shadow model once and drop it: a family that cannot be is refused before a label is bought."""
    factory = callable(family) and not isinstance(family, torch.nn.Module)
    if family is None or (open_classes and factory):  # a factory may know of classes that no candidate has
        return
    models.build(family, candidates.shape, candidates.classes, seed=0)


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
            name = f"{name}({', '.join(f'{k}={v}' for k, v in settings.items())})" if settings else name
        if name in named:
            raise InputError(f"attacks: {name} is asked for twice with the same settings")
        named[name] = attack
    return named


def _changed(attack: Attack) -> dict[str, Any]:
    if not is_dataclass(attack):
        return {}
    given = {f.name: (getattr(attack, f.name), f.default) for f in fields(attack) if f.init}
    return {name: value for name, (value, default) in given.items() if value != default}


def _rules_for(wanted: Sequence[str | ThresholdRule] | None, attack: Attack) -> tuple[ThresholdRule, ...]:
    """The rules that make sense for an attack; by default random inputs where its score is a distance."""
    if wanted is None:
        return (calibration.RandomInputs(),) if attack.is_distance else ()
    rules = [_rule(rule) for rule in wanted]
    return tuple(rule for rule in rules if attack.is_distance or not isinstance(rule, calibration.RandomInputs))


def _rule(rule: str | ThresholdRule) -> ThresholdRule:
    if isinstance(rule, str):
        if rule not in calibration.RULES:
            raise InputError(f"unknown threshold {rule!r}{nearest(rule, calibration.RULES)}")
        if rule == calibration.HoldOut.name:
            raise InputError("threshold 'hold_out' needs its rows: HoldOut(members=(x, y), nonmembers=(x, y))")
        built: ThresholdRule = calibration.RULES[rule]()  # type: ignore[call-arg]  # HoldOut was refused above
        return built
    if not isinstance(rule, ThresholdRule):
        raise InputError(f"{rule!r} is not a threshold rule; known: {', '.join(sorted(calibration.RULES))}")
    return rule


def _check_thresholds_used(
    wanted: Sequence[str | ThresholdRule] | None, rules: Mapping[str, tuple[ThresholdRule, ...]]
) -> None:
    for rule in map(_rule, wanted or ()):
        if not any(rule in found for found in rules.values()):
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
