"""YOQO: one label at an adversarial example of OUT reference models that IN reference models still classify right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import feature_scale
from labelleaks.attacks.single_changes import SingleChanges, need_directions, slopes
from labelleaks.attacks.surrogate_gradients import Moves, cross_entropy, nats
from labelleaks.attacks.words import refuse_texts
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import mean_of, row_sums
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory
from labelleaks.core.validation import choice, number, optional, whole
from labelleaks.models import reference_models, shadow_training
from labelleaks.models.reference_models import References
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["Yoqo"]

_GROUP = 1 << 22
"""Numbers in the candidates that are moved together (16 MB)."""


@dataclass(frozen=True)
class Tuning:
    """Units of the authors' losses."""

    models: int = 16
    """Their losses are sums over so many models; ours are scaled to it."""
    unit: float = 0.25
    """Their inputs are standardised: a standard deviation is about a quarter of the range of a picture."""


TUNING = Tuning()

_MODES = ("offline", "online")


@dataclass(frozen=True)
class Yoqo:
    """One query at an input optimised until OUT models misclassify it and IN models do not; members keep their label.

    From x' = x, by plain gradient descent (step 0.01, at most 50 rounds, until the loss is below a threshold):

    ======= =============================================================================== ===== =========
    mode    loss, summed over 16 models                                                     alpha threshold
    ======= =============================================================================== ===== =========
    offline (alpha MSE(x', x) + CE(OUT_i(x'), t_i)) / (1 + alpha) · 6                       5     8
    online  (CE(IN_i(x'), y) + alpha CE(OUT_i(x'), t_i)) / (1 + alpha) · 3                  2     4
    ======= =============================================================================== ===== =========

    OUT are the reference models; t_i is the class other than y that OUT_i finds most likely at x. IN are trained like
    them, but on the candidate, with its true label, too. With another number of models the mean is scaled to 16. Then
    one label: score 1 where the target still says y, else 0. This is a hard decision, one point of the ROC curve. The
    candidate itself is not asked for, so misclassified candidates are not told apart: the status is UNASKED.

    **Online costs a training for each candidate and reference model**: n · references of them, none of which is kept.
    It is there for small n.

    Units: a feature is measured in quarters of its span. What is sent, and judged in every round, is the projection to
    the domain. Binary and Mixed domains have no small moves: there a step moves the one feature that the gradient pulls
    most, of those that can still go there, by 10 · ``step`` of its span, and it flips when it has come halfway; MSE
    makes a flip dear where there are few features. The input with the lowest loss of all rounds is sent (theirs: the
    last).

    Args:
        mode: ``"offline"`` or ``"online"``.
        alpha, threshold: None: as in the table.
        rounds: steps at most. step: their length.
        recipe: how torch models are trained; None: the shared default.

    ``details``: ``loss``, float64 (n,), at the input that was sent.

    Raises:
        InputError: an unknown mode, or numbers out of their range; NeedsError: models without gradients for wide rows.

    Source: Wu et al., "You Only Query Once: An Efficient Label-Only Membership Inference Attack" (ICLR 2024), and the
    authors' code.
    """

    name: ClassVar[str] = "yoqo"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Asks once, at an input changed until models that never saw the record give its label up; members may keep it.",
        "is the label kept there?",
        relabels=True,
    )

    mode: Literal["offline", "online"] = "offline"
    alpha: float | None = None
    threshold: float | None = None
    rounds: int = 50
    step: float = 0.01
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        choice(self, "mode", _MODES)
        whole(self, "rounds", 0)
        for name in ("alpha", "threshold", "step"):
            if name == "step" or getattr(self, name) is not None:
                number(self, name, "(0, inf)")
        optional(self, "recipe", Recipe)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """One label. Set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows, or rows too wide for a family of references without gradients.
        """
        setup = reference_models.setup_cost(knowledge)
        refuse_texts(self.name, candidates, "it adds up steps of a feature, and a word is there or not")
        need_directions(self.name, candidates, knowledge)
        return Cost(least=1, most=1, setup=setup)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel the shadow rows and train the reference models, unless that was done."""
        self.cost(candidates, knowledge, 1)
        reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Move every candidate, then ask for each once."""
        references = reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        everyone = torch.arange(len(candidates), device=candidates.device)
        most = 1 if self.mode == "online" else max(1, _GROUP // max(1, candidates.width))
        kept = torch.zeros(len(candidates), dtype=torch.float64, device=candidates.device)
        loss = torch.zeros_like(kept)
        for rows in everyone.split(most):
            inside = self._inside(candidates, rows, references, knowledge, seed) if self.mode == "online" else ()
            points, loss[rows] = self._moved(candidates, rows, references, inside)
            kept[rows] = (oracle.query(points, rows, phase="moved") == candidates.y[rows]).to(torch.float64)
        return Scores(
            value=kept,
            status=torch.full_like(everyone, int(Status.UNASKED)),
            queries=torch.ones_like(everyone),
            trajectory=Trajectory((1,), kept[None]),
            details={"loss": loss},
        )

    def _inside(
        self, candidates: Candidates, row: Tensor, references: References, knowledge: Knowledge, seed: int
    ) -> tuple[ShadowModel, ...]:
        """Train the IN models of one candidate: as the references, with the candidate and its true label besides."""
        rows = references.rows
        x = torch.cat([rows.x, candidates.x[row]])
        y = torch.cat([rows.labels(knowledge.setup), candidates.y[row]])
        return tuple(
            shadow_training.train_shadow(
                x, y, candidates.classes, knowledge.family, self.recipe, seed=shadow_training.reference_seed(seed, r)
            )
            for r in range(len(references.models))
        )

    def _moved(
        self, candidates: Candidates, rows: Tensor, references: References, inside: Sequence[ShadowModel]
    ) -> tuple[Tensor, Tensor]:
        """Return the inputs to send, float32 (k, *shape), and their losses, float64 (k,)."""
        online = bool(inside)
        alpha = self.alpha or (2.0 if online else 5.0)
        enough = self.threshold or (4.0 if online else 8.0)
        scale = feature_scale(references.rows.x, candidates.domain).to(candidates.device)
        moves, changes = Moves.of(candidates), SingleChanges.of(candidates.domain, scale)
        loss = _Loss(candidates.x[rows], candidates.y[rows], references.models, inside, alpha, moves, changes)
        z, best = loss.x.clone(), loss.x.clone()
        lowest = torch.full((len(rows),), math.inf, dtype=torch.float64, device=z.device)
        active = torch.arange(len(rows), device=z.device)
        for k in range(self.rounds + 1):
            points = candidates.domain.project(z[active])
            value = loss.value(points, active)
            better = value < lowest[active]
            best[active[better]], lowest[active[better]] = points[better], value[better]
            going = value >= enough
            active, points = active[going], points[going]
            if k == self.rounds or len(active) == 0:
                break
            z[active] = loss.step(points, z[active], active, self.step)
        return best, lowest


class _Loss:
    """The loss of the table, its gradient and a step down it; rows ``who`` are positions among the candidates."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        outside: Sequence[ShadowModel],
        inside: Sequence[ShadowModel],
        alpha: float,
        moves: Moves,
        changes: SingleChanges,
    ) -> None:
        self.x, self._y, self.moves, self._changes = x, y, moves, changes
        self._outside, self._inside, self._alpha = outside, inside, alpha
        self.unit = TUNING.unit * moves.span(x.device)
        """float32 (1, *shape): how much of each feature is one unit."""
        self._scale = TUNING.models * (3.0 if inside else 6.0) / (1.0 + alpha)
        self._targets = [_best_other(reference_models.logits(model, x), y) for model in outside]

    def value(self, points: Tensor, who: Tensor) -> Tensor:
        """Return the loss: float64 (k,)."""
        out = mean_of([nats(model, points, t[who]) for model, t in zip(self._outside, self._targets, strict=True)])
        if self._inside:
            inner = mean_of([nats(model, points, self._y[who]) for model in self._inside])
            return self._scale * (inner + self._alpha * out)
        away = ((points - self.x[who]) / self.unit).to(torch.float64).square().flatten(1)
        return self._scale * (self._alpha * (row_sums(away) / away.shape[1]) + out)

    def slope(self, points: Tensor, who: Tensor) -> Tensor:
        """Return the gradient by the features, in units: float32 (k, *shape)."""
        pairs = zip(self._outside, self._targets, strict=True)
        out = mean_of([self._slope([model], points, t[who]) for model, t in pairs])
        if self._inside:
            inner = self._slope(self._inside, points, self._y[who])
            return self._scale * self.unit * (inner + self._alpha * out)
        away = (points - self.x[who]) / self.unit
        pull = (2.0 * self._alpha / self.x[0].numel()) * away
        return self._scale * (pull + self.unit * out)

    def _slope(self, models: Sequence[ShadowModel], points: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the models' cross-entropy, (k, *shape), downhill where it is of differences."""
        return slopes(models, points, y, cross_entropy, changes=self._changes, falling=True)

    def step(self, points: Tensor, z: Tensor, who: Tensor, length: float) -> Tensor:
        """Return the next z, from the slope at its projection: float32 (k, *shape)."""
        slope = self.slope(points, who)
        if self.moves.gradual:
            return self.moves.within(self.x[who], z - length * self.unit * slope, 1.0)
        return self.moves.signed(self.x[who], z, -slope / self.unit, step=10 * length, radius=1.0)


def _best_other(logits: Tensor, y: Tensor) -> Tensor:
    """The most likely class other than y: int64 (k,)."""
    return logits.scatter(1, y[:, None], -math.inf).argmax(1)
