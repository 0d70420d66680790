"""Checks of a data set on its rows, of a target of one's own, of a threshold rule on a planted case.

    from labelleaks.testing import check_target
    check_target(lambda: MyTarget("model.bin"), rows)

No test framework is needed. A target is asked some six times `len(rows)` rows.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelleaks.attacks.boundary import Boundary
from labelleaks.attacks.noise import Noise
from labelleaks.auditing import thresholds
from labelleaks.auditing.thresholds import Setting, Threshold, ThresholdRule
from labelleaks.core.attack import Attack, Knowledge, ShadowRows, prepared
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.data.cards import Card
from labelleaks.data.dataset import Dataset
from labelleaks.data.loading import load_card
from labelleaks.errors import LabelLeaksError
from labelleaks.targets import Target, is_target, lacking, opened
from labelleaks.testing.planted import PlantedCase, case
from labelleaks.testing.runner import NotConformant

__all__ = ["check_dataset", "check_target", "check_threshold"]


def check_dataset(card: Card, *, folder: str | Path | None = None) -> None:
    """Load a data set twice and check that its rows are what its card says.

    Args:
        card: of the data set. One with files downloads them, or needs ``folder``.
        folder: where its files are.

    Raises:
        NotConformant: with a line for each thing that does not hold.
    """
    try:
        one, other = (load_card(card, folder=folder, show_progress=False) for _ in range(2))
        faults = list(_dataset_faults(card, one, other))
    except LabelLeaksError as error:
        raise NotConformant(f"{card.name}: {error}") from error
    if faults:
        raise NotConformant("\n".join(f"{card.name}: {fault}" for fault in faults))


def _dataset_faults(card: Card, one: Dataset, other: Dataset) -> Iterator[str]:
    if one.whole and len(one) != sum(card.rows):
        yield f"{len(one)} rows, the card says {sum(card.rows)}"
    if one.classes != card.classes:
        yield f"{one.classes} classes, the card says {card.classes}"
    if card.side is None and one.shape != card.shape:
        yield f"rows of {one.shape}, the card says {card.shape}"
    if one.digest() != other.digest():
        yield "read a second time it has other rows"
    if one.x.flags.writeable:
        yield "its rows can be changed in place"
    x, y = one.rows(range(min(len(one), 1024)))
    if x.dtype != torch.float32 or y.dtype != torch.int64:
        yield f"rows are {x.dtype} and labels {y.dtype}: float32 and int64 are needed"
    one.domain.check(x, card.name)


def check_target(make: Callable[[], Any], rows: Tensor, *, steady: bool = True, portable: bool = True) -> None:
    """Check a target against :class:`labelleaks.targets.Target`.

    Args:
        make: builds the target; called twice, for equal ones.
        rows: float32 (m, *shape), m >= 2, inputs of its domain.
        steady: a row's label is always the same, whatever rows are beside it; False for one that randomises.
        portable: it can be pickled while it is open, as shards on a cluster need it.

    Raises:
        NotConformant: with a line for each thing that does not hold.
    """
    one, other = make(), make()
    if not is_target(one):
        raise NotConformant(f"{type(one).__name__} lacks {', '.join(lacking(one))} of labelleaks.targets.Target")
    try:
        faults = [*_identity(one, other), *_answers(one, rows, steady=steady)]
        if portable and not faults:
            faults += _copy(one, rows, steady=steady)
    except LabelLeaksError as error:
        raise NotConformant(f"{one.name}: {error}") from error
    if faults:
        raise NotConformant("\n".join(f"{one.name}: {fault}" for fault in faults))


def _identity(one: Target, other: Target) -> Iterator[str]:
    with opened(one, check=True):
        description = one.describe()
    with opened(other, check=True):
        if one.fingerprint != other.fingerprint:
            yield f"two that are made alike have two fingerprints, {one.fingerprint!r} and {other.fingerprint!r}"
        if json.dumps(description, sort_keys=True) != json.dumps(other.describe(), sort_keys=True):
            yield f"two that are made alike describe themselves as {description} and as {other.describe()}"
    for key in ("kind", "fingerprint"):
        if not isinstance(description.get(key), str):
            yield f"describe() has no {key!r}: {description}"
    if description.get("fingerprint", one.fingerprint) != one.fingerprint:
        yield f"describe() has the fingerprint {description['fingerprint']!r}, the target has {one.fingerprint!r}"


def _answers(target: Target, rows: Tensor, *, steady: bool) -> Iterator[str]:
    before = rows.clone()
    with opened(target):
        labels = target(rows)
        if labels.dtype != torch.int64 or labels.shape != (len(rows),):
            yield f"it answered {tuple(labels.shape)} {labels.dtype} to {len(rows)} rows: int64, one a row, is needed"
            return
        if not bool(((labels >= 0) & (labels < len(target.classes))).all()):
            yield f"it answered {labels.min()} … {labels.max()}: codes 0 … {len(target.classes) - 1} are needed"
        if not torch.equal(rows, before):
            yield "it changed the rows that it was asked"
        if steady:
            alone = torch.cat([target(rows[i : i + 1]) for i in range(len(rows))])
            if not torch.equal(alone, labels):
                yield f"{int((alone != labels).sum())} of {len(rows)} rows get another label alone than among others"
            if not torch.equal(target(rows.flip(0)).flip(0), labels):
                yield "rows get another label in another order"
    with opened(target):
        again = target(rows)
    if steady and not torch.equal(again, labels):
        yield "it answers otherwise when it is opened a second time"


def _copy(target: Target, rows: Tensor, *, steady: bool) -> Iterator[str]:
    with opened(target):
        labels = target(rows)
        try:
            copy: Target = pickle.loads(pickle.dumps(target))
        except Exception as error:  # whatever pickling somebody's object raises
            yield f"it cannot be pickled while it is open: {type(error).__name__}: {error}"
            return
    with opened(copy, check=True):
        if copy.fingerprint != target.fingerprint:
            yield f"a pickled copy has the fingerprint {copy.fingerprint!r}, not {target.fingerprint!r}"
        if steady and not torch.equal(copy(rows), labels):
            yield "a pickled copy answers otherwise"


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
        faults = list(_threshold_faults(rule, planted, chosen))
    except LabelLeaksError as error:
        raise NotConformant(f"{getattr(rule, 'name', rule)}: {error}") from error
    if faults:
        raise NotConformant("\n".join(f"{rule.name}: {fault}" for fault in faults))


def _threshold_faults(rule: ThresholdRule, planted: PlantedCase, attack: Attack) -> Iterator[str]:
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
    holdout = ShadowRows(x[::2], planted.decide(x[::2])) if "holdout" in rule.needs else None
    shadow = ShadowRows(x[1::2], planted.decide(x[1::2]))
    needed = "shadow" in rule.needs or "shadow" in attack.needs
    knowledge = Knowledge(setup=gate.setup_oracle(attack.name), shadow=shadow if needed else None)
    budget = max(60, attack.cost(candidates, knowledge, 60).least)
    ready = prepared(attack, knowledge, candidates, seed=0)
    planned = rule.cost(attack, candidates, ready, budget, holdout)
    before = gate.ledger.rows
    threshold = rule.fit(Setting(attack, attack.name, gate, candidates, knowledge, ready, holdout, budget, seed=0))
    if not isinstance(threshold, Threshold):
        raise NotConformant(f"fit() returned {type(threshold).__name__}: a labelleaks.Threshold is needed")
    if sum(int(count.sum()) for count in gate.ledger.candidates.values()):
        raise NotConformant(f"fit() billed rows to candidates: {sorted(gate.ledger.candidates)}; use own_oracle()")
    return threshold, gate.ledger.rows - before, planned
