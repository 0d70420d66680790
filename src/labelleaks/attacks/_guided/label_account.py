"""Labels that the guided attack spends on some candidates, and their scores after each label."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from labelleaks.core.domains import Domain
from labelleaks.core.oracle.label_oracle import LabelOracle

__all__ = ["LabelAccount"]


@dataclass(eq=False)
class LabelAccount:
    """Labels spent on some candidates of an oracle, and the score after each."""

    oracle: LabelOracle
    owner: Tensor
    """int64 (m,): which candidates"""
    y: Tensor
    """int64 (m,): their labels"""
    domain: Domain
    most: int
    """Labels per candidate at most."""
    votes: int
    """Answers to a question at most."""
    spent: Tensor = field(init=False)
    """int64 (m,): labels spent"""
    agreeing: Tensor = field(init=False)
    """int64 (m,): answers that were the majority's to their question"""
    history: Tensor = field(init=False)
    """float64 (most, m): the score after each label"""

    def __post_init__(self) -> None:
        m, device = len(self.owner), self.owner.device
        self.spent = torch.zeros(m, dtype=torch.int64, device=device)
        self.agreeing = torch.zeros(m, dtype=torch.int64, device=device)
        self.history = torch.zeros(self.most, m, dtype=torch.float64, device=device)

    @property
    def can_ask(self) -> Tensor:
        """Whether labels are left for one more question: bool (m,)."""
        return self.spent + self.votes <= self.most

    def ask(self, rows: Tensor, x: Tensor, phase: str) -> Tensor:
        """Return whether the target gives these rows' candidates' labels to these inputs, by majority: bool (k,)."""
        answers = self.oracle.agree(
            self.domain.project(x), self.owner[rows], self.y[rows], phase=phase, votes=self.votes
        )
        self.spent[rows] += answers.asked
        self.agreeing[rows] += answers.agreeing
        return answers.holds

    def record(self, rows: Tensor, scores: Tensor) -> None:
        """Enter the scores (m,) of these rows in ``history``, from their last label to the end."""
        after = torch.arange(1, self.most + 1, device=rows.device)[:, None] >= self.spent[rows]
        self.history[:, rows] = torch.where(after, scores[rows], self.history[:, rows])
