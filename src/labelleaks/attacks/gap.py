"""The gap attack: a candidate that the target classifies correctly is called a member. One label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory

__all__ = ["Gap"]


@dataclass(frozen=True)
class Gap:
    """Member iff the target's label is the true label.

    The score is 1 for correct and 0 for misclassified candidates, so its ROC is one point and its accuracy on as many
    members as non-members is exactly 0.5 + (train accuracy - test accuracy) / 2.

    Source: Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning", CSF 2018, section 3.
    """

    name: ClassVar[str] = "gap"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "One label: a record that the model gets right is called a member.",
        "is the record classified right?",
    )

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        return Cost(least=1, most=1)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Nothing to set up."""
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        everyone = torch.arange(len(candidates), device=candidates.device)
        correct = oracle.query(candidates.x, everyone, phase="correct") == candidates.y
        value = correct.to(torch.float64)
        return Scores(
            value=value,
            status=torch.where(correct, int(Status.DONE), int(Status.MISCLASSIFIED)),
            queries=torch.ones_like(everyone),
            trajectory=Trajectory((1,), value[None]),
        )
