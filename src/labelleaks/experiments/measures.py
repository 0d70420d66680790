"""The attacks of the grid, configured as in the paper, and what of their scores becomes rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from labelleaks.attacks import Augmentation, Boundary, Gap, Noise, Transfer
from labelleaks.attacks.search.subspaces import Subspace
from labelleaks.core.attack import About, Attack, Cost, Knowledge, run
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.experiments import baselines
from labelleaks.experiments.baselines import SaltAndPepper
from labelleaks.experiments.spec import MeasureSpec
from labelleaks.experiments.store import Reading
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["ONE_HOT", "Asked", "attack_of", "label_only", "lira_offline", "loss_threshold", "salem"]

ONE_HOT = "one_hot"
"""Variant of a score-based attack that is given the target's label instead of its posteriors."""
NORMS = ("l0", "l1", "linf")
"""Norms beside L2, the one that the searches make small."""


@dataclass(eq=False)
class Asked:
    """Candidates and what may be asked about them."""

    gate: Gate
    candidates: Candidates
    knowledge: Knowledge
    seed: int
    drop_failed: bool = False
    """Whether candidates whose search found nothing are left out, as the authors do."""

    def scores(self, attack: Attack, labels: int) -> Scores:
        """Run a label-only attack."""
        oracle = self.gate.oracle(attack.name, len(self.candidates), labels)
        return run(attack, oracle, self.candidates, self.knowledge, seed=self.seed)

    def labels(self) -> Tensor:
        """The target's labels of the candidates."""
        oracle = self.gate.oracle("labels", len(self.candidates), 1)
        return oracle.query(self.candidates.x, torch.arange(len(self.candidates)), phase="label")

    def reading(self, variant: str, value: Tensor) -> Reading:
        """Scores without a trajectory."""
        path = value.to(torch.float64).numpy()[None]
        return Reading(variant, (1,), path, np.ones(path.shape[1], dtype=np.bool_))


@dataclass(frozen=True)
class _Noting:
    """The boundary attack, its distances noted at further label counts."""

    boundary: Boundary
    at: tuple[int, ...]

    name: ClassVar[str] = Boundary.name
    needs: ClassVar[frozenset[str]] = Boundary.needs
    is_distance: ClassVar[bool] = Boundary.is_distance
    anytime: ClassVar[bool] = Boundary.anytime
    whole: ClassVar[bool] = Boundary.whole
    revision: ClassVar[int] = Boundary.revision
    about: ClassVar[About] = Boundary.about

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        return self.boundary.cost(candidates, knowledge, budget)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        return self.boundary.prepare(knowledge, candidates, seed=seed)

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        return self.boundary.distances(oracle, candidates, knowledge, seed=seed, noted=self.at)


def label_only(measure: MeasureSpec, ask: Asked, recipe: Recipe | None) -> tuple[Reading, ...]:
    """Run a label-only attack once; return every variant that this run shows."""
    if measure.attack == "transfer":
        recipe = recipe if measure.relabel is None else Recipe(epochs=measure.relabel)
        return _transfer(ask, Transfer(recipe=recipe, relabel_each_epoch=measure.relabel is not None))
    scores = ask.scores(attack_of(measure), measure.labels)
    kept = np.ones(len(ask.candidates), dtype=np.bool_)
    if ask.drop_failed:
        kept = (scores.status != int(Status.NO_START)).numpy()
    assert scores.trajectory is not None
    main = Reading(measure.variant, scores.trajectory.checkpoints, scores.trajectory.value.numpy(), kept)
    end = (main.checkpoints[-1],)
    others = [
        Reading(f"{measure.variant}, norm={norm}", end, scores.details[f"distance_{norm}"].numpy()[None], kept)
        for norm in NORMS
        if f"distance_{norm}" in scores.details
    ]
    return (main, *others)


def attack_of(measure: MeasureSpec) -> Attack:
    """Return the attack of a measure; label-only ones, transfer aside."""
    if measure.attack == "gap":
        return Gap()
    if measure.attack == "noise":
        return Noise(copies=max(1, measure.labels - 1))
    if measure.attack == "augmentation":
        return Augmentation()
    if measure.variant == "salt_and_pepper":
        return SaltAndPepper()
    subspace: Subspace | None = "resize" if measure.variant == "qeba" else None
    return _Noting(Boundary(subspace=subspace, max_iterations=measure.iterations or 50), measure.noted)


def _transfer(ask: Asked, attack: Transfer) -> tuple[Reading, ...]:
    """One shadow model, three statistics; higher = member."""
    details = ask.scores(attack, 1).details
    signed = (("loss", -1), ("maximum", 1), ("entropy", -1))
    return tuple(ask.reading(name, sign * details[f"shadow_{name}"]) for name, sign in signed)


def loss_threshold(log_p: Tensor, labels: Tensor, ask: Asked) -> tuple[Reading, ...]:
    """Score with the target's posteriors, and with its labels only."""
    y, only = ask.candidates.y, baselines.one_hot(labels, log_p.shape[1])
    return (
        ask.reading("", baselines.loss_threshold(log_p, y)),
        ask.reading(ONE_HOT, baselines.loss_threshold(only, y)),
    )


def lira_offline(
    log_p: Tensor, labels: Tensor, shadows: Sequence[ShadowModel], ask: Asked
) -> tuple[Reading, ...]:  # fmt: skip
    """The same, against shadow models whose posteriors the adversary has in both cases."""
    y, only = ask.candidates.y, baselines.one_hot(labels, log_p.shape[1])
    outside = [model.log_posteriors(ask.candidates.x) for model in shadows]
    return (
        ask.reading("", baselines.lira_offline(log_p, outside, y)),
        ask.reading(ONE_HOT, baselines.lira_offline(only, outside, y)),
    )


def salem(
    log_p: Tensor, labels: Tensor, shadow: ShadowModel, inside: Tensor, outside: Tensor, ask: Asked
) -> tuple[Reading, ...]:
    """The same, with an attack net that is trained on what it will see: posteriors, or labels only."""
    seen = [shadow.log_posteriors(rows) for rows in (inside, outside)]
    classes = log_p.shape[1]
    only = [baselines.one_hot(part.argmax(1), classes) for part in seen]
    return (
        ask.reading("", baselines.salem(log_p, *seen, seed=ask.seed)),
        ask.reading(ONE_HOT, baselines.salem(baselines.one_hot(labels, classes), *only, seed=ask.seed)),
    )
