"""Run what is missing, one (world, attack, budget) after the other; each writes its rows as soon as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.power import attacks, ceilings, rivals
from benchmarks.power.attacks import AttackRun
from benchmarks.power.rows import (
    Measurement,
    comparison,
    kept_scores,
    made,
    read_rows,
    row,
    save_rows,
    save_scores,
)
from benchmarks.power.summary import AttackKey, Row, key_of
from benchmarks.power.worlds import OpenWorld, open_world
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Scores
from labelleaks.errors import NeedsError
from labelleaks.models import reference_models
from labelleaks.targets import wrap

__all__ = ["labels_of", "measure", "pairs", "prepare", "run", "run_name"]

SayLine = Callable[[str], None]


def run_name(world: str, plan: AttackRun) -> str:
    return f"{world.replace('/', '-')}_{plan.key}"


def missing(world: str, plans: Sequence[AttackRun], *, again: bool = False) -> list[AttackRun]:
    """Return the plans whose rows are not there yet, or are of another revision of an attack; those that can be run."""
    there = {(row["run"], row["revision"]) for row in read_rows()}
    return [p for p in plans if p.ready() and (again or (run_name(world, p), p.revision) not in there)]


def prepare(world_name: str, *, say: SayLine = print) -> None:
    """Train a world's target and its references, or find them in the cache."""
    began = time.monotonic()
    world = open_world(world_name, say=say)
    with _target(world) as target:
        gate = Gate(target, batch_rows=target.batch_rows)
        knowledge = world.knowledge(gate.setup_oracle("prepare"))
        found = reference_models.references(knowledge, world.classes, seed=world.seed)
    accuracies = f"accuracy {world.train_accuracy:.3f} / {world.test_accuracy:.3f}"
    say(f"{world_name}: {accuracies}, {len(found.models)} references, {time.monotonic() - began:.0f} s")


def run(world_name: str, plans: Sequence[AttackRun], *, say: SayLine = print) -> None:
    """Run the plans in this world and write their rows; then compare everything that is kept."""
    if not plans:
        return
    world = open_world(world_name, say=say)
    for plan in plans:
        began = time.monotonic()
        try:
            readings, costs = measure(world, plan)
        except NeedsError as error:  # a budget too small for this attack in this world: no row
            say(f"{world_name} {plan.key}: {error}")
            continue
        name = run_name(world_name, plan)
        place = {"dataset": world.dataset, "seed": world.seed, "target": world.variant}
        rows = [row(place, reading, costs | world_costs(world, plan)) for reading in readings]
        save_scores(name, readings)
        save_rows(name, rows)
        told = "  ".join(f"{r['labels']}: {r['auc']['value']:.3f} {_rates(r)}" for r in rows)
        say(f"{world_name} {plan.key}: {told}  ({time.monotonic() - began:.0f} s)")
    pairs(world_name)


def world_costs(world: OpenWorld, plan: AttackRun) -> dict[str, Any]:
    """Return what a row says of its world."""
    return {
        "references": plan.references,
        "train_accuracy": round(world.train_accuracy, 4),
        "test_accuracy": round(world.test_accuracy, 4),
    }


def measure(world: OpenWorld, plan: AttackRun) -> tuple[list[Measurement], dict[str, Any]]:
    """Run one plan; return its scores at each budget, and set-up labels and seconds (without training)."""
    candidates, member = world.candidates(plan.most)
    by = made(plan.revision)
    with _target(world) as target:
        gate = Gate(target, batch_rows=target.batch_rows)
        knowledge = world.knowledge(gate.setup_oracle(plan.attack), plan.adversary)
        before = 0
        if plan.references:  # trained before the clock starts: what it costs is measured elsewhere
            reference_models.references(
                knowledge, world.classes, seed=world.seed, count=plan.references, recipe=plan.recipe
            )
            before = gate.ledger.setup_rows
            knowledge = world.knowledge(gate.setup_oracle(plan.attack), plan.adversary)
        began = time.process_time()  # the processor's: other processes share the machine

        def reading(scores: torch.Tensor, labels: int, mean: float, variant: str = "") -> Measurement:
            words = ", ".join(word for word in (variant, plan.variant, world.variant) if word)
            value = scores.numpy().astype(np.float64)
            return Measurement(plan.attack, words, plan.implementation, labels, mean, value, member, by)

        if plan.sees == "posteriors":
            found = ceilings.ceiling(plan.attack, world, candidates, knowledge, plan.recipe)
            readings = [reading(value, 1, 1.0, variant) for variant, value in found.items()]
        elif plan.implementation != "labelleaks":
            best = rivals.measure(plan.implementation, world, candidates, plan.read)
            readings = [reading(one, budget, float(budget)) for one, budget in zip(best, plan.read, strict=True)]
        else:
            attack = plan.make()
            cost = attack.cost(candidates, knowledge, plan.budget)
            if cost.least > plan.budget:
                raise NeedsError(f"needs at least {cost.least} labels")
            oracle = gate.oracle(plan.attack, len(candidates), plan.budget)
            scores = attack.score(oracle, candidates, knowledge, seed=world.seed)
            spent = scores.queries.to(torch.float64)
            readings = [
                reading(value, labels_of(plan, budget, cost.most), float(spent.clamp(max=budget).mean()))
                for budget, value in _by_budget(scores, plan, cost.least)
            ]
        seconds = round(time.process_time() - began, 1)
        return readings, {"setup_labels": gate.ledger.setup_rows - before, "seconds": seconds}


def _target(world: OpenWorld) -> Any:
    width = world.split.members.x[0].numel()
    return wrap(world.module, numpy=False, classes=world.classes, width=width)


def _by_budget(scores: Scores, plan: AttackRun, least: int) -> list[tuple[int, torch.Tensor]]:
    """The scores as they stood at each budget that is read; not where they were too few to start."""
    path = scores.trajectory
    if not plan.read or path is None:
        return [(plan.budget, scores.value)]
    found = []
    for budget in plan.read:
        reached = [i for i, checkpoint in enumerate(path.checkpoints) if checkpoint <= budget]
        if budget >= least and reached:
            found.append((budget, path.value[reached[-1]]))
    return found


def labels_of(plan: AttackRun, budget: int, most: int) -> int:
    """The budget that a row states: the one that is read, also where the attack ends by itself before it; an attack
    that is read at its end states what it can spend."""
    return budget if plan.read else min(budget, most)


def pairs(world: str) -> None:
    """Compare every attack of the main table with the ceiling, and with guided at no more labels than its own.

    What was compared before stands where a score behind it is not kept here.
    """
    if len(world.split("/")) != 2:
        return
    dataset, seed = world.split("/")
    found = [comparison(a, b) for a, b in _worth_comparing(list(kept_scores(world)))]
    now = [{"dataset": dataset, "seed": int(seed), **one} for one in found]
    named = {_names(one) for one in now}
    if now:
        save_rows(world.replace("/", "-"), now, stays=lambda one: _names(one) not in named)


def _names(pair: Row) -> tuple[AttackKey, AttackKey]:
    return key_of(pair, "a_"), key_of(pair, "b_")


def _worth_comparing(kept: Sequence[Measurement]) -> list[tuple[Measurement, Measurement]]:
    of_most: dict[tuple[Any, ...], Measurement] = {}
    for r in sorted(kept, key=lambda r: len(r.member)):  # one that was run on more candidates stands for all of it
        if not _of_robustness(r):
            of_most[r.attack, r.variant, r.implementation, r.labels] = r
    plain = list(of_most.values())
    ceiling = [r for r in plain if r.attack == "lira_offline"]
    ours = sorted((r for r in plain if r.attack == "guided" and not r.variant), key=lambda r: r.labels)
    found = [(r, c) for r in plain for c in ceiling if r.implementation != "posteriors"]
    for other in (r for r in plain if r.implementation != "posteriors" and r.attack != "guided"):
        affordable = [g for g in ours if g.labels <= other.labels]
        wanted = {5, 20, *(g.labels for g in affordable[-1:])}
        found += [(g, other) for g in ours if g.labels in wanted]
    return found


def _of_robustness(reading: Measurement) -> bool:
    words = attacks.ROBUST_AGAINST + attacks.ROBUST_TARGETS
    return reading.attack != "transfer" and any(word in words for word in reading.variant.split(", "))


def _rates(found: dict[str, Any]) -> str:
    return " / ".join("-" if rate is None else f"{rate['value']:.3f}" for rate in found["tpr_at_fpr"].values())
