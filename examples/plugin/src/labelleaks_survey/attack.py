"""Nudge: does the label hold when one answer changes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.core import About, Candidates, Cost, Domain, Knowledge, LabelOracle, Scores, Status, rng
from labelleaks.errors import InputError, NeedsError

__all__ = ["Nudge"]


@dataclass(frozen=True)
class Nudge:
    """Share of copies with one answer changed that keep the true label, less what that label has in the population.

    1. Ask for the candidate. Where the label is wrong: score -1, below all others.
    2. Ask for ``copies`` of it, each with one feature (or one one-hot group) given another, random value of the domain.
    3. Score (1 + copies kept) / (1 + copies asked) minus the share of shadow rows to which the target gives the label:
       a label that everybody gets says less. In (-1, 1].

    Args:
        copies: at least 1; a smaller budget asks for fewer.
        votes: odd; each copy is asked for (votes + 1) / 2 times, and ``votes`` times where the answers differ.

    Raises:
        InputError: settings out of their range.

    Source: this package, after the noise attack of Choquette-Choo et al., ICML 2021.
    """

    copies: int = 24
    votes: int = 1

    name: ClassVar[str] = "nudge"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Asks about copies with one answer changed; members keep their label more often.",
        "share of changed copies kept, beyond the label's share",
        relabels=True,
    )

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise InputError(f"Nudge: copies={self.copies}: a whole number of at least 1 is needed")
        if self.votes < 1 or self.votes % 2 == 0:
            raise InputError(f"Nudge: votes={self.votes}: an odd whole number of at least 1 is needed")

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """A label for the candidate and one copy at least; set-up: a label a shadow row, bought once a run."""
        shadow = knowledge.shadow
        if shadow is None or len(shadow) == 0:
            raise NeedsError("nudge needs shadow rows: give shadow=(x,)")
        least = 1 + self.votes
        most = max(least, min(budget, 1 + self.votes * self.copies))
        return Cost(least=least, most=most, setup=0 if shadow.labelled else len(shadow))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Buy the labels of the shadow rows; they stay with them."""
        if knowledge.shadow is not None:
            knowledge.shadow.labels(knowledge.setup)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        n, device, y = len(candidates), candidates.device, candidates.y
        everyone = torch.arange(n, device=device)
        labels = min([1 + self.votes * self.copies, *oracle.remaining().tolist()])
        asked = (labels - 1) // self.votes
        before = oracle.spent
        correct = oracle.query(candidates.x, everyone, phase="correct") == y
        rows = everyone[correct]
        owner = rows.repeat_interleave(asked)
        answers = oracle.query(self._copies(candidates, rows, asked, seed), owner, phase="copies", votes=self.votes)
        kept = (answers == y[owner]).reshape(len(rows), asked).sum(1)

        value = torch.full((n,), -1.0, dtype=torch.float64, device=device)
        value[rows] = (1 + kept.to(torch.float64)) / (1 + asked) - self._usual(knowledge, candidates).to(device)[
            y[rows]
        ]
        return Scores(
            value=value,
            status=torch.where(correct, int(Status.DONE), int(Status.MISCLASSIFIED)),
            queries=(oracle.spent - before).to(device),
        )

    def _usual(self, knowledge: Knowledge, candidates: Candidates) -> Tensor:
        """Share of the shadow rows to which the target gives each label: float64 (classes,)."""
        assert knowledge.shadow is not None  # it is in needs
        labels = knowledge.shadow.labels(knowledge.setup)
        count = torch.bincount(labels, minlength=candidates.classes)
        return count.to(torch.float64) / (len(labels) + 1)  # below 1: every right one scores above -1

    def _copies(self, candidates: Candidates, rows: Tensor, count: int, seed: int) -> Tensor:
        """float32 (len(rows) * count, *shape): a candidate's copies come from its own random stream."""
        x, shape = candidates.x[rows].repeat_interleave(count, 0), candidates.shape
        streams = candidates.streams(seed, "nudge")[rows]
        draws = rng.uniform(streams, count * (candidates.width + 1)).reshape(-1, candidates.width + 1)
        fresh = candidates.domain.from_uniform(draws[:, 1:].reshape(-1, *shape))
        units = _units(candidates.domain, shape).to(x.device)
        moved = units[(draws[:, 0] * len(units)).to(torch.int64)].reshape(-1, *shape)
        return candidates.domain.project(torch.where(moved, fresh, x))


def _units(domain: Domain, shape: tuple[int, ...]) -> Tensor:
    """What changes as one, bool (units, features): each feature, but the columns of a one-hot group together."""
    columns_of: list[list[int]] = []
    for group in domain.groups(shape):
        columns = range(group.columns.start, group.columns.stop)
        columns_of += [list(columns)] if group.kind == "one_hot" else [[column] for column in columns]
    units = torch.zeros(len(columns_of), torch.Size(shape).numel(), dtype=torch.bool)
    for unit, together in enumerate(columns_of):
        units[unit, together] = True
    return units
