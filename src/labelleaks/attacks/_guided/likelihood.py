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
from labelleaks.attacks._guided.label_account import LabelAccount
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks.single_changes import SingleChanges
from labelleaks.core.batch_invariant import mean_of
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

    account: LabelAccount
    x: Tensor
    """float32 (m, *shape): these candidates"""
    log_odds: Tensor
    """float64 (m,): mean log-odds of the references at the candidates"""
    own: Tensor = field(init=False)
    """float64 (m,): the ratio of the candidate's own label, nats"""
    total: Tensor = field(init=False)
    """float64 (m,): the sum of those of its changed rows"""
    questions: Tensor = field(init=False)
    """int64 (m,): changed rows that were asked for"""
    right: Tensor = field(init=False)
    """bool (m,)"""

    def __post_init__(self) -> None:
        everyone = torch.arange(len(self.x), device=self.x.device)
        self.total = torch.zeros(len(self.x), dtype=torch.float64, device=self.x.device)
        self.questions = torch.zeros(len(self.x), dtype=torch.int64, device=self.x.device)
        self.right = self.account.ask(everyone, self.x, "correct")
        self.own = ratio(self.log_odds, self.right)
        self.account.record(everyone, self.value())

    def ask(self, questions: Questions, number: int) -> None:
        """Ask the change of this number of every candidate that has one, and labels left for it."""
        asked = self.account.can_ask & torch.isfinite(questions.log_odds[:, number])
        rows = asked.nonzero().reshape(-1)
        holds = self.account.ask(rows, questions.x[rows, number], "way")
        self.total[rows] += ratio(questions.log_odds[rows, number], holds)
        self.questions[rows] += 1
        self.account.record(rows, self.value())

    def value(self) -> Tensor:
        """Return the score, float64 (m,): the candidate's own ratio, and the mean of those of its changed rows."""
        return self.own + self.total / self.questions.clamp_min(1)

    def status(self) -> Tensor:
        """Return each candidate's :class:`Status`, int64 (m,)."""
        return torch.where(self.right, int(Status.DONE), int(Status.MISCLASSIFIED))


def ratio(log_odds: Tensor, holds: Tensor) -> Tensor:
    """Return what a label tells where models outside keep it with these log-odds, nats: float64 (k,)."""
    kept = torch.sigmoid(log_odds)
    least = TUNING.least_probability
    return torch.where(holds, -kept.clamp_min(least).log(), (1 - kept).clamp_min(least).log())
