"""A membership attack: copy this file, rename it, and change what it asks and how it scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from labelleaks.core import About, Candidates, Cost, Knowledge, LabelOracle, Scores, Status, rng


@dataclass(frozen=True)
class Yours:
    """Share of random neighbours that keep the true label.

    Args:
        copies: neighbours of each candidate.
        share: how far they are from it, as a part of the way to a random input of the domain.

    Source: where it comes from.
    """

    copies: int = 20
    share: float = 0.1

    name: ClassVar[str] = "yours"
    needs: ClassVar[frozenset[str]] = frozenset()  # "shadow", "starts": what it cannot do without
    is_distance: ClassVar[bool] = False  # whether the score is a distance to the decision boundary
    anytime: ClassVar[bool] = False  # whether a smaller budget only cuts the same questions short
    whole: ClassVar[bool] = False  # whether all candidates have to be scored by one call
    revision: ClassVar[int] = 1  # raised when a change of the code changes scores
    about: ClassVar[About] = About(
        "Asks about random neighbours; members keep their label.", "share of neighbours kept"
    )

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """What it will ask, before it asks; refuse here what it cannot do (NeedsError, InputError)."""
        return Cost(least=2, most=max(2, min(budget, 1 + self.copies)), setup=0)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Set-up, once a run: buy labels through ``knowledge.setup``, train models. Here there is none."""
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        everyone = torch.arange(len(candidates), device=candidates.device)
        copies = min([self.copies, *(oracle.remaining() - 1).tolist()])
        correct = oracle.query(candidates.x, everyone, phase="correct") == candidates.y

        rows = everyone[correct]  # a misclassified candidate takes one label and ranks last
        owner = rows.repeat_interleave(copies)
        draws = rng.uniform(candidates.streams(seed, "yours")[rows], copies * candidates.width)
        random = candidates.domain.from_uniform(draws.reshape(-1, *candidates.shape))
        moved = candidates.x[owner] + self.share * (random - candidates.x[owner])
        answers = oracle.query(candidates.domain.project(moved), owner, phase="copies")
        kept = (answers == candidates.y[owner]).reshape(len(rows), copies).sum(1)

        value = torch.zeros(len(candidates), dtype=torch.float64, device=candidates.device)
        value[rows] = (1 + kept.to(torch.float64)) / (1 + copies)
        return Scores(
            value=value,  # higher = more likely a member
            status=torch.where(correct, int(Status.DONE), int(Status.MISCLASSIFIED)),
            queries=torch.where(correct, 1 + copies, 1),
        )
