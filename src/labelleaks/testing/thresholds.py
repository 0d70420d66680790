"""Checks of a threshold rule on a planted case.

    from labelleaks.testing.thresholds import check_threshold
    check_threshold(MyRule())

No test framework is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch

from labelleaks.attacks.boundary import Boundary
from labelleaks.attacks.noise import Noise
from labelleaks.auditing import thresholds
from labelleaks.auditing.thresholds import Setting, Threshold, ThresholdRule
from labelleaks.core.attack import Attack, Knowledge, ShadowRows, prepared
from labelleaks.core.oracle.label_oracle import Gate
from labelleaks.core.types import Candidates
from labelleaks.errors import LabelLeaksError
from labelleaks.testing.conformance import NotConformant
from labelleaks.testing.planted import PlantedCase, case

__all__ = ["check_threshold"]


def check_threshold(rule: ThresholdRule, on: PlantedCase | None = None, *, attack: Attack | None = None) -> None:
    """Check a rule against :class:`labelleaks.auditing.thresholds.ThresholdRule`.

    Args:
        rule: a configured rule.
        on: the case that it is fitted on; None: ``case("vector")``, 32 candidates and 128 shadow rows.
        attack: whose scores it gets a threshold for; None: boundary where the rule needs a distance, else noise.

    Raises:
        NotConformant: with a line for each thing that does not hold.
    """
    planted = case("vector") if on is None else on
    try:
        thresholds.resolve(rule)
        chosen = attack or (Boundary() if "distance" in rule.needs else Noise(copies=10))
        faults = list(_faults(rule, planted, chosen))
    except LabelLeaksError as error:
        raise NotConformant(f"{getattr(rule, 'name', rule)}: {error}") from error
    if faults:
        raise NotConformant("\n".join(f"{rule.name}: {fault}" for fault in faults))


def _faults(rule: ThresholdRule, planted: PlantedCase, attack: Attack) -> Iterator[str]:
    description = rule.describe()
    if description.get("name") != rule.name or json.loads(json.dumps(description)) != description:
        yield f"describe() returns name and settings as JSON types, not {description}"
    if not set(rule.needs) <= {"shadow", "holdout", "distance"}:
        yield f"needs {sorted(rule.needs)}: shadow, holdout and distance are known"
    everyone = torch.arange(len(planted.candidates))
    first, sent, planned = _fitted(rule, planted, attack, everyone)
    if sent > planned:
        yield f"cost() said {planned} rows of set-up at most, fit() sent {sent}"
    if not (first.objective and first.source):
        yield "a threshold says what it was chosen for (objective) and on what it was fitted (source)"
    again, _, _ = _fitted(rule, planted, attack, everyone)
    if again != first:
        yield f"fitted a second time it is {again}, the first time it was {first}"
    half, _, _ = _fitted(rule, planted, attack, everyone[::2])
    if half.tau != first.tau and not first.upper_bound:
        yield f"with half of the candidates tau is {half.tau}, not {first.tau}: nothing may be fitted on them"


def _fitted(
    rule: ThresholdRule, planted: PlantedCase, attack: Attack, rows: torch.Tensor
) -> tuple[Threshold, int, int]:
    """The threshold, the rows of set-up that it took, and what ``cost`` said of them."""
    whole = planted.candidates
    candidates = Candidates(whole.x[rows].clone(), whole.y[rows].clone(), whole.domain, whole.classes)
    gate = Gate(planted.target(), batch_rows=50)
    x = planted.shadow.clone()
    held = ShadowRows(x[::2], planted.decide(x[::2])) if "holdout" in rule.needs else None
    shadow = ShadowRows(x[1::2], planted.decide(x[1::2]))
    needed = "shadow" in rule.needs or "shadow" in attack.needs
    knowledge = Knowledge(setup=gate.setup_oracle(attack.name), shadow=shadow if needed else None)
    budget = max(60, attack.cost(candidates, knowledge, 60).least)
    ready = prepared(attack, knowledge, candidates, seed=0)
    planned = rule.cost(attack, candidates, ready, budget, held)
    before = gate.ledger.rows
    found = rule.fit(Setting(attack, attack.name, gate, candidates, knowledge, ready, held, budget, seed=0))
    if not isinstance(found, Threshold):
        raise NotConformant(f"fit() returned {type(found).__name__}: a labelleaks.Threshold is needed")
    if sum(int(count.sum()) for count in gate.ledger.candidates.values()):
        raise NotConformant(f"fit() billed rows to candidates: {sorted(gate.ledger.candidates)}; use own_oracle()")
    return found, gate.ledger.rows - before, planned
