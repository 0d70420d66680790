"""One attack on parts of one planted case, run again and again: what the rows of conformance look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labelleaks.core.attack import Attack, Cost, Knowledge, ShadowRows, prepared
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Candidates, Scores
from labelleaks.errors import BudgetExceeded, LabelLeaksError
from labelleaks.models import architectures, text_models
from labelleaks.testing.planted import Counted, PlantedCase

__all__ = ["NotConformant", "Outcome", "Runner", "expect"]

_BUDGET = 60


class NotConformant(LabelLeaksError, AssertionError):
    """An attack broke a rule that all attacks keep."""


@dataclass(eq=False)
class Outcome:
    """One run: its scores, and what it did to get them."""

    scores: Scores
    ledger: Ledger
    target: Counted
    cost: Cost
    candidates: Candidates
    knowledge: Knowledge


class Runner:
    """Runs one attack on parts of one case, each time against a fresh target, gate and set of shadow rows."""

    def __init__(
        self, attack: Attack, planted: PlantedCase, give: frozenset[str], lowest: bool, asks_candidate: bool
    ) -> None:
        self.attack = attack
        self.case = planted
        self.give = give | attack.needs
        self.misclassified_lowest = lowest
        self.asks_candidate = asks_candidate
        self.trained: dict[str, Any] = {}  # what came out of the knowledge alone serves all runs
        self._first: Outcome | None = None

    @property
    def first(self) -> Outcome:
        """The run of all candidates (copies of them) at the standard budget, made once."""
        if self._first is None:
            self._first = self.run(self.part(torch.arange(len(self.case.candidates))))
        return self._first

    def budget(self) -> int:
        """The standard budget, or more for an attack that needs more for one step."""
        candidates = self.case.candidates
        gate = Gate(self.case.target())
        return max(_BUDGET, self.attack.cost(candidates, self.knowledge(gate), _BUDGET).least)

    def knowledge(self, gate: Gate) -> Knowledge:
        x = self.case.shadow
        return Knowledge(
            setup=gate.setup_oracle("setup"),
            shadow=ShadowRows(x.clone(), self.case.decide(x)) if "shadow" in self.give else None,
            starts=x.clone() if "starts" in self.give else None,
            family=architectures.in_layout(
                text_models.for_texts(None, self.case.candidates.domain, self.case.candidates.shape),
                self.case.candidates.shape,
                self.case.candidates.domain.layout,
            ),
            store=self.trained,
        )

    def run(self, candidates: Candidates, budget: int | None = None) -> Outcome:
        budget = self.budget() if budget is None else budget
        target = self.case.target()
        gate = Gate(target, batch_rows=50)
        knowledge = self.knowledge(gate)
        cost = self.attack.cost(candidates, knowledge, budget)
        expect(target.rows == 0, f"cost() sends nothing; it sent {target.rows} rows")
        ready = prepared(self.attack, knowledge, candidates, seed=0)
        oracle = gate.oracle(self.attack.name, len(candidates), budget)
        try:
            scores = self.attack.score(oracle, candidates, ready, seed=0)
        except BudgetExceeded:
            raise
        except LabelLeaksError as error:
            raise NotConformant(str(error)) from error
        return Outcome(scores, gate.ledger, target, cost, candidates, knowledge)

    def part(self, rows: Tensor) -> Candidates:
        whole = self.case.candidates
        return Candidates(whole.x[rows].clone(), whole.y[rows].clone(), whole.domain, whole.classes)


def expect(holds: bool, otherwise: str) -> None:
    """Raise NotConformant with the text ``otherwise`` where something does not hold."""
    if not holds:
        raise NotConformant(otherwise)
