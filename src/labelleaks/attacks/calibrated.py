"""The calibrated boundary attack: how far the boundary is, compared with where reference models have theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.attacks.boundary import Boundary, check_search
from labelleaks.attacks.search.registry import SearchName
from labelleaks.attacks.search.subspaces import Subspace
from labelleaks.attacks.words import refuse_texts
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import row_sums
from labelleaks.core.domains import Norm
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.core.validation import optional
from labelleaks.models.reference_models import margins, references, setup_cost
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.shadow_training import usable
from labelleaks.models.training import Recipe

__all__ = ["Calibrated"]


@dataclass(frozen=True)
class Tuning:
    """Resolution of distances on a ray; not tuned."""

    octaves: int = 10
    """The shortest distance on a ray that is told from 0: the diameter / 2^octaves."""
    coarse: int = 2
    """Points an octave at which a reference is asked where it changes its mind first."""
    bisect: int = 5
    """Halvings of the interval that is found: 64 steps an octave, 1 % each."""
    together: int = 5
    """Points of a ray in one go; changes the time alone."""


TUNING = Tuning()

_GROUP = 1 << 24  # numbers in one go (64 MB)


@dataclass(frozen=True)
class Calibrated:
    """Log ratio of the target's boundary distance to that of models that never saw the record, along the same ray.

    Some records are easy: any model has its boundary far from them. What memory adds is the difference:

        score = log d_target - mean over references of log d_reference.

    d_target is the boundary attack's distance, with all of its settings and its labels. d_reference is the distance
    from the candidate at which a reference model stops giving the true label, along the same ray, from the candidate
    through the point that was found, as far as the domain reaches. This costs the target nothing: references are the
    adversary's own. Distances on a ray are told apart from the domain's diameter down to a 1,024th of it, in steps of
    1 %; a reference that is wrong about the candidate itself has the shortest.

    Misclassified candidates take one label and score below all others. A candidate without a start (NO_START) has no
    ray: its score is that of the diameter beside the shortest reference distance, the largest there is.

    Args:
        norm, subspace, factor, max_iterations, search, votes: as for :class:`~labelleaks.attacks.boundary.Boundary`.
        recipe: how torch references are trained; None: ``shadows.SHADOW_RECIPE``.

    ``details``: those of the boundary attack, and ``reference_distance``, float64 (n, R), in the norm's units along
    the ray (0 where misclassified, the shortest where there was no start).

    Needs shadow rows; their labels are bought once, as set-up. There is no trajectory: the ray is known at the end.

    To compare a record with itself under models that never saw it is the idea of calibration by difficulty and of
    DHAttack, which does so along a direction fixed beforehand.

    Source: ours; after Watson et al. (ICLR 2022, arXiv 2111.08440) and DHAttack (Li et al., USENIX Security 2025).
    """

    norm: Norm = "l2"
    subspace: Subspace | None = None
    factor: int = 2
    max_iterations: int = 50
    search: SearchName = "hopskipjump"
    votes: int = 1
    recipe: Recipe | None = None

    name: ClassVar[str] = "calibrated"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Compares the smallest change that flips the label with what flips models that never saw the record.",
        "log of the distance, beside that of reference models",
        relabels=True,
    )

    def __post_init__(self) -> None:
        check_search(self)
        optional(self, "recipe", Recipe)

    @property
    def boundary(self) -> Boundary:
        """The attack that finds the distance and the ray."""
        return Boundary(self.norm, self.subspace, self.factor, self.max_iterations, self.search, self.votes)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """The boundary attack's, and a label for each shadow row unless they were bought before.

        Raises:
            NeedsError: there are no shadow rows.
        """
        refuse_texts(self.name, candidates, "it follows straight rays, and there are no points between two texts")
        relabelled = replace(knowledge, shadow=usable(knowledge).as_labelled())
        found = self.boundary.cost(candidates, relabelled, budget)
        return replace(found, setup=found.setup + setup_cost(knowledge))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel the shadow rows, train the reference models, then set up as the boundary attack does."""
        references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        return self.boundary.prepare(knowledge, candidates, seed=seed)

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Search as the boundary attack does, then follow each ray in every reference."""
        models = references(knowledge, candidates.classes, seed=seed, recipe=self.recipe).models
        found = self.boundary.score(oracle, candidates, knowledge, seed=seed)
        lengths = _lengths(candidates, self.norm)
        rows = ((found.status == int(Status.DONE)) | (found.status == int(Status.BUDGET))).nonzero().reshape(-1)
        index = torch.zeros(len(candidates), len(models), dtype=torch.int64, device=candidates.device)
        index[rows] = _changes(models, candidates, found, rows, lengths)
        reference = lengths.to(index.device)[index]
        wrong = found.status == int(Status.MISCLASSIFIED)
        reference[wrong] = 0.0
        return Scores(
            value=_score(found.value, found.status, index, lengths),
            status=found.status,
            queries=found.queries,
            details={**found.details, "reference_distance": reference},
        )


def _lengths(candidates: Candidates, norm: Norm) -> Tensor:
    """The distances that are told apart, shortest first: float64 (octaves * steps + 1,), up to the diameter."""
    diameter = candidates.domain.diameter(candidates.shape, norm)
    steps = TUNING.coarse << TUNING.bisect
    lengths = [diameter * 2.0 ** (k / steps - TUNING.octaves) for k in range(TUNING.octaves * steps + 1)]
    return torch.tensor(lengths, dtype=torch.float64)


def _changes(
    models: Sequence[ShadowModel], candidates: Candidates, scores: Scores, rows: Tensor, lengths: Tensor
) -> Tensor:
    """Index of the least of the lengths at which each model is wrong: int64 (k, R); the last where it never is."""
    lengths = lengths.to(rows.device)
    bounded = candidates.domain.continuous  # else points between two inputs: models take them, a target would not

    def wrong(index: Tensor, i: Tensor, *, model: ShadowModel, part: Tensor) -> Tensor:
        who = part[i]
        x = candidates.x[who]
        share = (lengths[index] / scores.value[who]).to(torch.float32)
        step = share.reshape(-1, *[1] * len(candidates.shape)) * (scores.details["adversarial"][who] - x)
        points = candidates.domain.project(x + step) if bounded else x + step
        return margins([model], points, candidates.y[who])[0] <= 0

    at_once = max(1, _GROUP // max(1, TUNING.together * candidates.width))
    changes = [torch.empty(0, len(models), dtype=torch.int64, device=rows.device)]
    for part in rows.split(at_once):
        each = [_first(partial(wrong, model=model, part=part), len(part), lengths) for model in models]
        changes.append(torch.stack(each, 1))
    return torch.cat(changes)


def _first(wrong: Callable[[Tensor, Tensor], Tensor], k: int, lengths: Tensor) -> Tensor:
    """Find for each of ``k`` rays the first length at which ``wrong`` (index of the length, which ray) holds: coarse
    steps from the shortest on, some at a time, then bisection. int64 (k,), the last where it holds nowhere."""
    last = len(lengths) - 1
    low = torch.zeros(k, dtype=torch.int64, device=lengths.device)
    high = torch.full_like(low, last)
    open_ = torch.arange(k, device=lengths.device)
    step = 1 << TUNING.bisect
    for first in range(0, last, TUNING.together * step):
        points = torch.arange(first, min(last, first + TUNING.together * step), step, device=lengths.device)
        hit = wrong(points.repeat(len(open_)), open_.repeat_interleave(len(points))).reshape(-1, len(points))
        before = (hit.cumsum(1) == 0).sum(1)  # points of each ray before the first that is wrong
        some = before < len(points)
        high[open_[some]] = points[before[some]]
        low[open_] = torch.where(before > 0, points[(before - 1).clamp_min(0)], low[open_])
        open_ = open_[~some]
    for _ in range(TUNING.bisect):
        between = ((high - low > 1) & (high < last)).nonzero().reshape(-1)
        middle = (low[between] + high[between]) // 2
        hit = wrong(middle, between)
        high[between[hit]] = middle[hit]
        low[between[~hit]] = middle[~hit]
    return high


def _score(distance: Tensor, status: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
    """log d_target - mean log d_reference: float64 (n,). Logarithms one by one, and whole numbers summed, so that the
    bits of a row do not depend on the rows beside it."""
    steps = TUNING.coarse << TUNING.bisect
    shortest = float(lengths[0])
    logs = [math.log(max(d, shortest) / shortest) for d in distance.tolist()]
    calibration = row_sums(index.to(torch.float64)) / index.shape[1] * (math.log(2.0) / steps)
    value = torch.tensor(logs, dtype=torch.float64, device=index.device) - calibration
    least = -2.0 * TUNING.octaves * math.log(2.0)
    return torch.where(status == int(Status.MISCLASSIFIED), least, value)
