"""Salt and pepper: more and more values go to an end of their range until the label changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import distances
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory, checkpoints_up_to
from labelleaks.errors import InputError

__all__ = ["SaltAndPepper"]

LEVELS = 100
REPETITIONS = 10
SLACK = 1.2
"""A further repetition gives up above this multiple of the best level so far."""


@dataclass(frozen=True)
class SaltAndPepper:
    """Distance (L2) to the nearest input with another label among salt-and-pepper copies of the candidate.

    In one repetition every value has a draw u of its own. At level p = 1/100 … 1, values with u < p / 2 go to the
    lowest of the domain, those with u > 1 - p / 2 to the highest, so a level changes all that the one below did. The
    first level with another label ends the repetition; a later one stops above 1.2 times the best level.

    Misclassified: one label, score 0. No level of any repetition works: NO_START, the domain's diameter. Up to 1,001
    labels. Images in a Box only.

    Source: Li & Zhang's code, ``SaltandPepperNoise`` of foolbox 2: 100 levels, 10 repetitions.
    """

    name: ClassVar[str] = "salt_and_pepper"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = True
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Sends more and more values to an end of their range until the label flips; members take more of them.",
        "distance to a salt-and-pepper copy with another label",
    )

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        if not candidates.domain.continuous:
            kind = type(candidates.domain).__name__
            raise InputError(f"salt_and_pepper needs a continuous domain, such as Box, not {kind}: use boundary")
        return Cost(least=2, most=max(2, min(budget, 1 + LEVELS * REPETITIONS)))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Nothing to set up."""
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        n = len(candidates)
        walk = _Walk(oracle, candidates, seed)
        for repetition in range(REPETITIONS):
            walk.repeat(repetition)
        none = walk.level > LEVELS
        status = torch.where(walk.broke, int(Status.BUDGET), torch.where(none, int(Status.NO_START), int(Status.DONE)))
        status = torch.where(walk.correct, status, int(Status.MISCLASSIFIED))
        return Scores(
            walk.best, status, walk.spent, Trajectory(walk.checkpoints, walk.path.reshape(len(walk.checkpoints), n))
        )


class _Walk:
    """All candidates in lockstep; what row i becomes depends on its own draws and answers."""

    def __init__(self, oracle: LabelOracle, candidates: Candidates, seed: int) -> None:
        self.oracle, self.candidates, self.seed = oracle, candidates, seed
        self.x = candidates.x.flatten(1)
        self.low, self.high = (
            end[None].to(candidates.device).flatten(1) for end in candidates.domain.bounds(candidates.shape)
        )
        n, device = len(candidates), candidates.device
        most = min(1 + LEVELS * REPETITIONS, int(oracle.remaining().max())) if n else 1
        self.checkpoints = checkpoints_up_to(most)
        diameter = candidates.domain.diameter(candidates.shape, "l2")
        self.best = torch.full((n,), diameter, dtype=torch.float64, device=device)
        self.path = self.best.expand(len(self.checkpoints), n).clone()
        self.level = torch.full((n,), LEVELS + 1, dtype=torch.int64, device=device)
        self.spent = torch.zeros(n, dtype=torch.int64, device=device)
        self.broke = torch.zeros(n, dtype=torch.bool, device=device)
        everyone = torch.arange(n, device=device)
        self.correct = torch.ones(n, dtype=torch.bool, device=device)
        self.correct = self._ask(candidates.x, everyone, "correct") == candidates.y
        self._note(everyone[~self.correct], torch.zeros(int((~self.correct).sum()), dtype=torch.float64, device=device))

    def repeat(self, repetition: int) -> None:
        draws = rng.uniform(self.candidates.streams(self.seed, f"salt {repetition}"), self.x.shape[1])
        most = (SLACK * self.level).floor().to(torch.int64).clamp_max(LEVELS)
        most[self.level > LEVELS] = LEVELS
        active = self.correct.clone()
        for level in range(1, LEVELS + 1):
            active &= level <= most
            poor = active & (self.oracle.remaining() < 1)
            self.broke |= poor
            active &= ~poor
            who = active.nonzero().reshape(-1)
            if len(who) == 0:
                return
            half = level / LEVELS / 2
            rows = torch.where(draws[who] < half, self.low, self.x[who])
            rows = torch.where(draws[who] > 1 - half, self.high, rows)
            labels = self._ask(rows.reshape(len(who), *self.candidates.shape), who, "salt")
            other = labels != self.candidates.y[who]
            found = who[other]
            self.level[found] = torch.minimum(self.level[found], torch.tensor(level, device=found.device))
            self._note(found, distances(rows[other], self.x[found], "l2"))
            active[found] = False

    def _ask(self, rows: Tensor, who: Tensor, phase: str) -> Tensor:
        labels = self.oracle.query(rows, who, phase=phase)
        self.spent[who] += 1
        return labels

    def _note(self, who: Tensor, distance: Tensor) -> None:
        """Keep the nearer point, from the label on that found it."""
        self.best[who] = torch.minimum(self.best[who], distance)
        later = torch.tensor(self.checkpoints, device=who.device)[:, None] >= self.spent[who]
        self.path[:, who] = torch.where(later, self.best[who], self.path[:, who])
