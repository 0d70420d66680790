"""Log-likelihood ratios of a target's labels of rows with one feature changed, for references without gradients.

Trees answer in steps: moved along many features a row is soon another row to them, whatever was remembered of it. One
changed feature leaves most of what a forest or boosted trees remember in place. So each question is the candidate with
one feature changed, those first at which half of the references (the *directing* ones) have the least confidence in its
label; the other half (the *measuring* ones) say with which probability p a model that never saw the candidate keeps the
label there. A label that holds adds -log p to the evidence, one that gives way adds log(1 - p).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import ensemble_log_odds, splits
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks.single_changes import SingleChanges
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Status
from labelleaks.models.shadow_model import ShadowModel

__all__ = ["LikelihoodRatios", "Questions", "single_changes_of"]


@dataclass(frozen=True, eq=False)
class Questions:
    """Each candidate's single changes, the most telling first."""

    x: Tensor
    """float32 (m, ways, *shape)"""
    log_odds: Tensor
    """float64 (m, ways): mean log-odds of the measuring models there; -inf where a candidate has no more changes"""


def single_changes_of(
    candidates: Candidates, rows: Tensor, models: tuple[ShadowModel, ...], changes: SingleChanges, ways: int
) -> Questions:
    """Choose for candidates ``rows`` (m,) the changes at which the directing half is least sure of the label."""
    x, y = candidates.x[rows].flatten(1), candidates.y[rows]
    split = splits(len(models))[0]
    directing, measuring = ([models[j] for j in part] for part in (split.directing, split.measuring))

    def mean_log_odds(half: list[ShadowModel], points: Tensor, labels: Tensor) -> Tensor:
        sent = candidates.domain.project(points.reshape(-1, *candidates.shape))
        return mean_of(ensemble_log_odds(half, sent, labels))

    others = changes.others(x)
    least = []
    for other in others:
        place, column = ((other != x) & (changes.scale > 0)).nonzero(as_tuple=True)
        there = torch.full_like(x, math.inf, dtype=torch.float64)
        for at, which in zip(place.split(TUNING.rows_at_a_time), column.split(TUNING.rows_at_a_time), strict=True):
            if len(at):
                there[at, which] = mean_log_odds(directing, changes.made(x[at], which, other[at, which]), y[at])
        least.append(there)
    chosen = torch.cat(least, 1).sort(dim=1, stable=True)
    ways = min(ways, chosen.values.shape[1])
    values = torch.cat(others, 1).gather(1, chosen.indices[:, :ways])
    columns = chosen.indices[:, :ways] % x.shape[1]
    points = changes.made(x.repeat_interleave(ways, 0), columns.flatten(), values.flatten())
    log_odds = mean_log_odds(measuring, points, y.repeat_interleave(ways)).reshape(len(x), ways)
    log_odds = torch.where(torch.isfinite(chosen.values[:, :ways]), log_odds, -math.inf)
    return Questions(points.reshape(len(x), ways, *candidates.shape), log_odds)


@dataclass(eq=False)
class LikelihoodRatios:
    """Log-likelihood ratio of being a member for some candidates, after each label."""

    oracle: LabelOracle
    owner: Tensor
    """int64 (m,): which candidates"""
    candidates: Candidates
    log_odds: Tensor
    """float64 (m,): mean log-odds of the references at the candidates"""
    most: int
    """labels per candidate at most"""
    votes: int
    own: Tensor = field(init=False)
    """float64 (m,): the ratio of the candidate's own label, nats"""
    total: Tensor = field(init=False)
    """float64 (m,): the sum of those of its changed rows"""
    questions: Tensor = field(init=False)
    """int64 (m,): changed rows that were asked for"""
    right: Tensor = field(init=False)
    """bool (m,)"""
    spent: Tensor = field(init=False)
    """int64 (m,): labels spent"""
    agreeing: Tensor = field(init=False)
    """int64 (m,): answers that were the majority's to their question"""
    history: Tensor = field(init=False)
    """float64 (most, m): the score after each label"""

    def __post_init__(self) -> None:
        m, device = len(self.owner), self.owner.device
        self.own, self.total = (torch.zeros(m, dtype=torch.float64, device=device) for _ in range(2))
        self.questions, self.spent, self.agreeing = (torch.zeros(m, dtype=torch.int64, device=device) for _ in range(3))
        self.history = torch.zeros(self.most, m, dtype=torch.float64, device=device)
        everyone = torch.arange(m, device=device)
        self.right = self._ask(everyone, self.candidates.x[self.owner], "correct")
        self.own = ratio(self.log_odds, self.right)
        self._record(everyone)

    def ask(self, questions: Questions, number: int) -> None:
        """Ask the change of this number of every candidate that has one, and labels left for it."""
        rows = (self.spent + self.votes <= self.most) & torch.isfinite(questions.log_odds[:, number])
        rows = rows.nonzero().reshape(-1)
        holds = self._ask(rows, questions.x[rows, number], "way")
        self.total[rows] += ratio(questions.log_odds[rows, number], holds)
        self.questions[rows] += 1
        self._record(rows)

    def value(self) -> Tensor:
        """Return the score, float64 (m,): the candidate's own ratio, and the mean of those of its changed rows."""
        return self.own + self.total / self.questions.clamp_min(1)

    def status(self) -> Tensor:
        """Return each candidate's :class:`Status`, int64 (m,)."""
        return torch.where(self.right, int(Status.DONE), int(Status.MISCLASSIFIED))

    def _ask(self, rows: Tensor, x: Tensor, phase: str) -> Tensor:
        x, y = self.candidates.domain.project(x), self.candidates.y[self.owner[rows]]
        answers = self.oracle.agree(x, self.owner[rows], y, phase=phase, votes=self.votes)
        self.spent[rows] += answers.asked
        self.agreeing[rows] += answers.agreeing
        return answers.holds

    def _record(self, rows: Tensor) -> None:
        after = torch.arange(1, self.most + 1, device=rows.device)[:, None] >= self.spent[rows]
        self.history[:, rows] = torch.where(after, self.value()[rows], self.history[:, rows])


def ratio(log_odds: Tensor, holds: Tensor) -> Tensor:
    """Return what a label tells where models outside keep it with these log-odds, nats: float64 (k,)."""
    kept = torch.sigmoid(log_odds)
    least = TUNING.least_probability
    return torch.where(holds, -kept.clamp_min(least).log(), (1 - kept).clamp_min(least).log())
