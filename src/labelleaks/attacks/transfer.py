"""The transfer attack: train a shadow model on the target's labels and ask it how well it knows a candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.domains import why_no_layout
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory
from labelleaks.core.validation import choice, flag, optional
from labelleaks.errors import InputError
from labelleaks.models import reference_models, shadow_training
from labelleaks.models.randaugment import RandAugment
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["Transfer"]

Statistic = Literal["loss", "maximum", "entropy"]
_STATISTICS = ("loss", "maximum", "entropy")
_WRONG_LOSS = 100.0
_WRONG_ENTROPY = 100.0  # above the logarithm of any number of classes
_MODELS = "models"  # in Knowledge.prepared, where their labels were bought while they were trained


@dataclass(frozen=True)
class Transfer:
    """Label-only attack with one label per candidate: the shadow's confidence stands in for the target's.

    1. Relabel the shadow rows u by the target M: label(u) = M(u), the true labels are not used. Billed to set-up, once.
    2. Train the shadow model S on (u, label(u)), a tenth of them held out; ``knowledge.references`` models, if given.
    3. Ask M for the label of each candidate x. M(x) != y: ranked below every other candidate.
    4. Score the others by S(x). Higher = more likely a member:

       ========= ================================== ============================== =====================
       statistic value                              range                          where M(x) != y
       ========= ================================== ============================== =====================
       loss      minus cross-entropy of S(x) and y  [-99, 0]                       -100
       maximum   largest posterior of S(x)          [1 / K, 1]                     0
       entropy   minus entropy of S(x), in nats     [-log K, 0]                    -100
       ========= ================================== ============================== =====================

    With several reference models a statistic is its mean over them. ``details`` has all three, float64 (n,), as the
    paper writes them: ``shadow_loss`` (misclassified: 100), ``shadow_maximum`` (0), ``shadow_entropy`` (100).

    Args:
        statistic: which one is the score.
        recipe: how a torch shadow is trained; None: ``Recipe(stop_at_interpolation=True)``. scikit-learn families have
            their own settings.
        relabel_each_epoch: as in the authors' code: shadow images pass through random augmentation in every epoch and
            the target labels what came out. Costs len(shadow) x epochs x references set-up labels. Images only.

    Raises:
        InputError: an unknown statistic.

    The authors' code has a loss of 100 where M(x) != y. They apply that rule to the loss alone; here all three
    statistics have it. They keep the epoch that agrees most with M on its training rows; here it is the last one.

    Source: Li & Zhang, "Membership Leakage in Label-Only Exposures" (2007.15528; v1: "Label-Leaks", transfer-based
    attack), section on the transfer attack, and the authors' code.
    """

    name: ClassVar[str] = "transfer"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Trains a copy of the model on its labels, then reads members off the copy’s confidence.",
        "score on the attacker’s copy",
        relabels=True,
    )

    statistic: Statistic = "loss"
    recipe: Recipe | None = None
    relabel_each_epoch: bool = False

    def __post_init__(self) -> None:
        choice(self, "statistic", _STATISTICS)
        optional(self, "recipe", Recipe)
        flag(self, "relabel_each_epoch")

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """One label per candidate. Set-up: a label per shadow row, unless they were bought before.

        Raises:
            NeedsError: there are no shadow rows. InputError: relabelling each epoch, and rows that are not images.
        """
        shadow = shadow_training.usable(knowledge)
        if self.relabel_each_epoch:
            self._augment(candidates)
            epochs = (self.recipe or shadow_training.SHADOW_RECIPE).epochs
            return Cost(least=1, most=1, setup=len(shadow) * epochs * self._count(knowledge))
        return Cost(least=1, most=1, setup=reference_models.setup_cost(knowledge))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel and train, unless that was done."""
        if not self.relabel_each_epoch:
            self._references(knowledge, candidates, seed)
            return knowledge
        if _MODELS in knowledge.prepared:
            return knowledge
        models = reference_models.relabelled_models(
            knowledge,
            candidates.classes,
            self.recipe,
            count=self._count(knowledge),
            seed=seed,
            augment=self._augment(candidates),
            project=candidates.domain.project,
        )
        return replace(knowledge, prepared={_MODELS: models})

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Ask once for each candidate, and its shadow models about those that are classified correctly."""
        everyone = torch.arange(len(candidates), device=candidates.device)
        relabelled = self.relabel_each_epoch
        models = knowledge.prepared[_MODELS] if relabelled else self._references(knowledge, candidates, seed)
        correct = oracle.query(candidates.x, everyone, phase="correct") == candidates.y

        zero = torch.zeros(len(candidates), dtype=torch.float64, device=candidates.device)
        found = dict.fromkeys(_STATISTICS, zero)
        rows = correct.nonzero().reshape(-1)  # the others' posteriors do not matter
        for model in models:
            for statistic, value in _statistics(model, candidates, rows).items():
                found[statistic] = found[statistic] + value / len(models)
        wrong = {"loss": _WRONG_LOSS, "maximum": 0.0, "entropy": _WRONG_ENTROPY}
        details = {f"shadow_{s}": torch.where(correct, found[s], wrong[s]) for s in _STATISTICS}
        value = details[f"shadow_{self.statistic}"] * (1 if self.statistic == "maximum" else -1)
        return Scores(
            value=value,
            status=torch.where(correct, int(Status.DONE), int(Status.MISCLASSIFIED)),
            queries=torch.ones_like(everyone),
            trajectory=Trajectory((1,), value[None]),
            details=details,
        )

    def _references(self, knowledge: Knowledge, candidates: Candidates, seed: int) -> tuple[ShadowModel, ...]:
        count = self._count(knowledge)
        return reference_models.references(
            knowledge, candidates.classes, seed=seed, count=count, recipe=self.recipe
        ).models

    def _count(self, knowledge: Knowledge) -> int:
        return 1 if knowledge.references is None else knowledge.references

    def _augment(self, candidates: Candidates) -> RandAugment:
        if candidates.layout is None:
            why = why_no_layout(candidates.shape, candidates.domain.layout)
            raise InputError(f"Transfer: relabel_each_epoch augments images; {why}; or leave it False")
        return RandAugment.of(candidates.domain, candidates.shape)


def _statistics(model: ShadowModel, candidates: Candidates, rows: Tensor) -> dict[str, Tensor]:
    """The three statistics of the given candidates under one shadow model: float64 (n,), 0 for the others."""
    log_p = model.log_posteriors(candidates.x[rows])
    p = log_p.exp()
    of_rows = {
        "loss": -log_p.gather(1, candidates.y[rows, None])[:, 0],
        "maximum": p.amax(1),
        "entropy": -(p * log_p).sum(1),
    }
    zero = torch.zeros(len(candidates), dtype=torch.float64, device=candidates.device)
    return {name: zero.index_copy(0, rows, value) for name, value in of_rows.items()}
