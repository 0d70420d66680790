"""OSLO: one label at a transferable adversarial example of the smallest size that deceives validation models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import feature_scale
from labelleaks.attacks.single_changes import SingleChanges, need_directions, slopes
from labelleaks.attacks.surrogate_gradients import (
    Gradient,
    Moves,
    confidence,
    cross_entropy,
    ensemble_gradient,
    transferable,
)
from labelleaks.attacks.words import refuse_texts
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import row_sums
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory, checkpoints_up_to
from labelleaks.core.validation import flag, number, numbers, optional, whole
from labelleaks.errors import InputError
from labelleaks.models import reference_models
from labelleaks.models.reference_models import References
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["Oslo"]

_GROUP = 1 << 23
"""Numbers in the crafted inputs that are held at a time (32 MB)."""
TAUS = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
"""Thresholds by default: they span (0, 1), the small ones closer together; not tuned."""


@dataclass(frozen=True)
class Oslo:
    """One query at an adversarial example just large enough for models without the candidate; members resist it.

    1. The reference models are split: ``source`` models craft, validation models say when to stop.
    2. For k = 1 … ``budgets``: eps = k / budgets · ``eps``; ``steps`` steps of 1.25 eps / steps along the sign of the
       momentum of the gradient of the source models' cross-entropy (of their mean logits), clipped to eps (L∞) around
       x and to the domain. Stop as soon as the validation models' softmax (of their mean logits) on y is below tau.
    3. Ask the target for that one input. Still y: a member.

    One tau is one label and a hard decision: one point of the ROC curve. A curve takes several: ``taus`` are asked one
    after the other, the smallest move first, until the label flips. Score: how many of them it survived, 0 … len(taus);
    that is the published decision at the first tau with the number of the tau in place of yes and no. A budget below
    len(taus) takes that many, evenly spread over the tuple, so one label is one middle tau: other questions for each
    budget, so it is not anytime. ``trajectory`` is what this plan knew on its way.

    The candidate itself is asked for only where the validation models are unsure of it already (level 0), so
    misclassified candidates are not told apart: the status is UNASKED.

    Crafting takes the time: half a second a candidate for 8 small CNNs and 32x32 images, on one thread. On 100 + 100
    CIFAR-10 images (CNN, train 1.00, test 0.60) the ten taus gave an AUC of 0.89 at 6 labels; on 200 + 200 rows of
    Location-30 (MLP, train 1.00, test 0.59) 0.92 at 7. The gap attack's were 0.67 and 0.72.

    Args:
        taus: thresholds in (0, 1), each asked for with one label.
        source: share of the reference models that craft; at least one is left on each side.
        eps: largest move, L∞, as a part of each feature's span.
        budgets: levels K. steps: N steps within a level.
        momentum: decay of the accumulated gradient (MI-FGSM), 0 or more.
        diversity: probability of a diverse input (DI-FGSM). smooth: smoothed gradients (TI-FGSM). Images only.
        recipe: how torch references are trained; None: the shared default.

    Domains other than Box have no small moves: a step moves the one feature that the momentum pulls most, of those that
    can still go there, by 1 / ``steps`` of its span, so that a level flips about one; the projection is what is sent,
    and ``eps`` does not bind.

    ``details``: ``level``, int64 (n,): the level k whose input flipped the label (that of the last tau where none did).

    Raises:
        InputError: taus out of range, a share or a number out of its range; NeedsError: references without gradients,
            and more than 1,024 features.

    The paper leaves the attack that crafts open ("matters little"): TI, DI and momentum here. A level goes on where the
    one below it ended, the validation models are asked after each level, and at eps = 0 besides.

    Source: Peng et al., "OSLO: One-Shot Label-Only Membership Inference Attacks" (NeurIPS 2024, 2405.16978).
    """

    name: ClassVar[str] = "oslo"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Asks at inputs moved just far enough to deceive models that never saw the record; members survive more moves.",
        "moves survived",
        relabels=True,
    )

    taus: tuple[float, ...] = TAUS
    source: float = 0.75
    eps: float = 80 / 255
    budgets: int = 80
    steps: int = 5
    momentum: float = 1.0
    diversity: float = 0.5
    smooth: bool = True
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        numbers(self, "taus", "(0, 1)", fewest=1)
        object.__setattr__(self, "taus", tuple(sorted(set(self.taus), reverse=True)))
        number(self, "source", "(0, 1]")
        number(self, "eps", "(0, 1]")
        whole(self, "budgets", 1)
        whole(self, "steps", 1)
        number(self, "momentum", "[0, inf)")
        number(self, "diversity", "[0, 1]")
        flag(self, "smooth")
        optional(self, "recipe", Recipe)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """One label for each tau, until the label flips. Set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows, or rows too wide for a family of references without gradients.
            InputError: fewer than two references.
        """
        if knowledge.references is not None and knowledge.references < 2:
            raise InputError(
                f"oslo needs two reference models at least, one to craft and one to check: references="
                f"{knowledge.references}"
            )
        setup = reference_models.setup_cost(knowledge)
        refuse_texts(self.name, candidates, "it adds up steps of a feature, and a word is there or not")
        need_directions(self.name, candidates, knowledge)
        return Cost(least=1, most=max(1, min(budget, len(self.taus))), setup=setup)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel the shadow rows and train the reference models, unless that was done."""
        self.cost(candidates, knowledge, 1)
        reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Craft an input for each tau, ask from the smallest move to the largest until the label flips."""
        references = reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        taus = _spread(self.taus, min([len(self.taus), *oracle.remaining().tolist()]))
        craft = _Craft(self, candidates, references, seed)
        n, device = len(candidates), candidates.device
        survived = torch.zeros(n, dtype=torch.int64, device=device)
        level = torch.zeros(n, dtype=torch.int64, device=device)
        everyone = torch.arange(n, device=device)
        for rows in everyone.split(max(1, _GROUP // (len(taus) * max(1, candidates.width)))):
            points, levels = craft.points(rows, taus)
            holding = torch.arange(len(rows), device=device)
            for t in range(len(taus)):
                level[rows[holding]] = levels[t, holding]
                labels = oracle.query(points[t, holding], rows[holding], phase="moved")
                holding = holding[labels == candidates.y[rows[holding]]]
                survived[rows[holding]] += 1
        checkpoints = checkpoints_up_to(len(taus))
        path = torch.stack([survived.clamp(max=c) for c in checkpoints]).to(torch.float64)
        return Scores(
            value=survived.to(torch.float64),
            status=torch.full_like(survived, int(Status.UNASKED)),
            queries=(survived + 1).clamp(max=len(taus)),
            trajectory=Trajectory(checkpoints, path),
            details={"level": level},
        )


def _spread(taus: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Choose ``count`` of the taus, evenly spread: the middle of each of ``count`` equal parts of the tuple."""
    return tuple(taus[int((i + 0.5) * len(taus) / count)] for i in range(count))


class _Craft:
    """Moves candidates away from their labels with the source models, watched by the validation models."""

    def __init__(self, attack: Oslo, candidates: Candidates, references: References, seed: int) -> None:
        models = references.models
        crafting = min(max(1, round(attack.source * len(models))), len(models) - 1)
        source, self._validation = models[:crafting], models[crafting:]
        self._attack = attack
        self._candidates = candidates
        self._streams = candidates.streams(seed, "oslo: diverse inputs")
        self._moves = Moves.of(candidates)
        scale = feature_scale(references.rows.x, candidates.domain).to(candidates.device)
        self._gradient = transferable(
            _gradient_of(source, SingleChanges.of(candidates.domain, scale)),
            candidates.domain,
            candidates.shape,
            diversity=attack.diversity,
            smooth=attack.smooth,
        )

    def points(self, rows: Tensor, taus: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Return the inputs to send, float32 (T, k, *shape) in the domain, and the level of each, int64 (T, k)."""
        x, y = self._candidates.x[rows], self._candidates.y[rows]
        sent = x.repeat(len(taus), *[1] * x.dim())
        level = torch.zeros(len(taus), len(rows), dtype=torch.int64, device=x.device)
        reached = torch.zeros(len(taus), len(rows), dtype=torch.bool, device=x.device)
        z, push = x.clone(), torch.zeros_like(x)
        active = torch.arange(len(rows), device=x.device)
        for k in range(self._attack.budgets + 1):
            if k:
                z[active], push[active] = self._level(k, x[active], z[active], push[active], y[active], rows[active])
            points = self._candidates.domain.project(z[active])
            sure = confidence(self._validation, points, y[active])
            for t, tau in enumerate(taus):
                still = ~reached[t, active]
                sent[t, active[still]] = points[still]
                level[t, active[still]] = k
                reached[t, active] |= sure < tau
            active = active[~reached[-1, active]]
            if len(active) == 0:
                break
        return sent, level

    def _level(self, k: int, x: Tensor, z: Tensor, push: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Go on from z within the k-th budget; returns the new z and momentum."""
        attack = self._attack
        radius = attack.eps * k / attack.budgets
        step = 1.25 * radius / attack.steps if self._moves.gradual else 1.0 / attack.steps
        for i in range(attack.steps):
            number = (k - 1) * attack.steps + i
            points = self._candidates.domain.project(z)
            gradient = self._gradient(points, y, self._streams[rows], number)
            push = attack.momentum * push + gradient / _l1(gradient)
            z = self._moves.signed(x, z, push, step=step, radius=radius)
        return z, push


def _gradient_of(source: Sequence[ShadowModel], changes: SingleChanges) -> Gradient:
    """Return the gradient of the models' cross-entropy; differences of it where a model has none."""
    if all(model.differentiable for model in source):
        return lambda x, y: ensemble_gradient(source, x, y)
    return lambda x, y: slopes(source, x, y, cross_entropy, changes=changes)


def _l1(gradient: Tensor) -> Tensor:
    """L1 length of each row, above 0, to divide by: (k, 1, …)."""
    length = row_sums(gradient.abs().flatten(1)).clamp_min(1e-30)
    return length.reshape(-1, *[1] * (gradient.dim() - 1))
