"""CHAMELEON's neighbourhood test, without the poisoning: labels of the copies that mean the same to models outside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.attacks.noise import NoisyCopies, magnitudes_in
from labelleaks.attacks.surrogate_gradients import softmax
from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.domains import SIDES, Layout
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory, checkpoints_up_to
from labelleaks.core.validation import number, optional, whole
from labelleaks.errors import InputError
from labelleaks.models import reference_models
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["Chameleon"]

_GROUP = 1 << 22
"""Numbers in the copies that are held at a time (16 MB)."""


@dataclass(frozen=True)
class Tuning:
    """Constants of the authors' code."""

    least_posterior: float = 1e-7
    """In the logit of a posterior: what keeps it finite."""
    least_sd: float = 1e-5
    """Added to a standard deviation."""
    shift: float = 1 / 8
    """Largest shift of a picture, of its side: 4 pixels of 32."""


TUNING = Tuning()


Copies = Callable[[Tensor], Tensor]
"""rows (k,) -> float32 (k, N, *shape), in the domain"""


@dataclass(frozen=True)
class Chameleon:
    """Share of a candidate's neighbours that the target labels y: copies that mean to outside models what it means.

    1. N random copies of x. Images in a Box: mirrored at even odds and shifted by up to an eighth of the side, edges
       repeated. Other rows: the copies of the noise attack.
    2. Each reference model, none of which saw x, gives y a posterior p; φ = log p - log (1 - p). A normal distribution
       is fitted to the references' φ, for x and for each copy. Neighbours are the copies with KL(x ‖ copy) <= ``kl``.
    3. Ask for the candidate itself, then for its neighbours, the nearest first, as far as the budget goes. Score: share
       of the labels asked for that are y, in [0, 1]. Status MISCLASSIFIED is noted where x itself gets another label;
       such a candidate is asked on and scored by its share like all others.

    **What differs from the published attack**: it first poisons the target's training data with k wrongly labelled
    copies of x, until models without x doubt y, and that is where most of its power comes from; who meets a finished
    model cannot. It also asks for closeness under models that were trained with x; here under the references alone.
    And the candidate itself counts as one of its neighbours, so that there is always one.

    Without the poisoning it is weak. Copies are chosen by what outside models make of x, so the share follows them: on
    100 + 100 CIFAR-10 images (CNN, train 1.00, test 0.60, 32 copies) its AUC was 0.60, the gap attack's 0.67.

    Args:
        copies: N, at least 1.
        kl: largest divergence of a neighbour, above 0.
        recipe: how torch references are trained; None: the shared default.

    ``details``: ``neighbours``, int64 (n,): how many there were, the candidate not counted.

    Raises:
        InputError: numbers out of their range.

    The authors' code has 128 copies, kl 0.75, 8 models; its copies are those of AutoAugment (GTSRB: mirror, blur,
    shift).

    Source: Chaudhari, Severi, Oprea, Ullman, "Chameleon: Increasing Label-Only Membership Leakage with Adaptive
    Poisoning" (ICLR 2024), the test, and the authors' code.
    """

    name: ClassVar[str] = "chameleon"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Asks about copies that models which never saw the record take for it; members keep their label more often.",
        "share of copies kept",
        relabels=True,
    )

    copies: int = 128
    kl: float = 0.75
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        whole(self, "copies", 1)
        number(self, "kl", "(0, inf)")
        optional(self, "recipe", Recipe)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """One label, and one for each neighbour. Set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows. InputError: fewer than two references.
        """
        if knowledge.references is not None and knowledge.references < 2:
            raise InputError(
                f"chameleon fits a distribution to its reference models and needs two at least: references="
                f"{knowledge.references}"
            )
        return Cost(least=1, most=max(1, min(budget, 1 + self.copies)), setup=reference_models.setup_cost(knowledge))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel the shadow rows and train the reference models, unless that was done."""
        self.cost(candidates, knowledge, 1)
        reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Choose each candidate's neighbours by the references, then ask for them."""
        models = reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe).models
        n, device = len(candidates), candidates.device
        labels = min([1 + self.copies, *oracle.remaining().tolist()])
        copies = _copies(candidates, self.copies, seed)
        right = torch.zeros(n, labels, dtype=torch.bool, device=device)
        found = torch.zeros(n, dtype=torch.int64, device=device)
        everyone = torch.arange(n, device=device)
        for rows in everyone.split(max(1, _GROUP // ((1 + self.copies) * max(1, candidates.width)))):
            points = torch.cat([candidates.x[rows, None], copies(rows)], 1)  # (k, 1 + N, *shape)
            apart = _divergence(models, points, candidates.y[rows])
            apart[:, 0] = -1.0  # the candidate is asked for first
            found[rows] = (apart <= self.kl).sum(1) - 1
            order = apart.sort(dim=1, stable=True).indices[:, :labels]
            asked = torch.arange(labels, device=device)[None, :] <= found[rows, None]
            owner, place = asked.nonzero(as_tuple=True)
            answers = oracle.query(points[owner, order[owner, place]], rows[owner], phase="neighbours")
            right[rows[owner], place] = answers == candidates.y[rows[owner]]
        return _scores(right, found)


def _scores(right: Tensor, neighbours: Tensor) -> Scores:
    """From the answers (n, labels), the candidate's own first, and the number of neighbours."""
    labels = right.shape[1]
    asked = (neighbours + 1).clamp(max=labels)
    kept = right.to(torch.float64).cumsum(1)
    checkpoints = checkpoints_up_to(labels)
    path = torch.stack(
        [kept.gather(1, asked.clamp(max=c)[:, None] - 1)[:, 0] / asked.clamp(max=c) for c in checkpoints]
    )
    ended = torch.where(neighbours + 1 > labels, int(Status.BUDGET), int(Status.DONE))
    return Scores(
        value=path[-1],
        status=torch.where(right[:, 0], ended, int(Status.MISCLASSIFIED)),
        queries=asked,
        trajectory=Trajectory(checkpoints, path),
        details={"neighbours": neighbours},
    )


def _divergence(models: Sequence[ShadowModel], points: Tensor, y: Tensor) -> Tensor:
    """KL divergence of the fit at points[:, 0] from the fit at each point: float64 (k, m) of points (k, m, *shape)."""
    k, m = points.shape[:2]
    phi = []
    for logits in reference_models.all_logits(models, points.flatten(0, 1)):
        posteriors = softmax(logits.to(torch.float32))
        p = posteriors.gather(1, y.repeat_interleave(m)[:, None])[:, 0]
        phi.append((p + TUNING.least_posterior).log() - (1 - p + TUNING.least_posterior).log())
    mean = sum(phi[1:], phi[0]) / len(phi)
    squares = [(one - mean).square() for one in phi]
    sd = (sum(squares[1:], squares[0]) / (len(phi) - 1)).sqrt() + TUNING.least_sd
    mean, sd = mean.reshape(k, m), sd.reshape(k, m)
    ratio = sd / sd[:, :1]
    return ratio.log() + (1 / ratio.square() + ((mean[:, :1] - mean) / sd).square()) / 2 - 0.5


def _copies(candidates: Candidates, count: int, seed: int) -> Copies:
    """Return how to make the copies of candidates; each from its own stream."""
    domain, shape = candidates.domain, candidates.shape
    layout = candidates.layout if domain.continuous else None
    if layout is not None:
        return _Moved(candidates, layout, count, seed)
    noisy = NoisyCopies(magnitudes_in(domain, shape), candidates, seed)
    return lambda rows: noisy.copies(rows, range(count)).reshape(len(rows), count, *shape)


class _Moved:
    """Pictures mirrored at even odds and shifted by whole pixels; what is uncovered is filled with the nearest edge."""

    def __init__(self, candidates: Candidates, layout: Layout, count: int, seed: int) -> None:
        self._axes = (SIDES[layout][0] + 1, SIDES[layout][1] + 1)  # of height and width, behind that of the rows
        self._x = candidates.x
        self._streams = candidates.streams(seed, "chameleon: copies")
        self._count = count

    def __call__(self, rows: Tensor) -> Tensor:
        draws = rng.uniform(self._streams[rows], 3 * self._count).reshape(len(rows), self._count, 3)
        mirrored = draws[:, :, 0] < 0.5
        pictures = self._x[rows].movedim(self._axes, (1, 2))  # (k, H, W, …)
        down = _moved_index(pictures.shape[1], draws[:, :, 1])
        right = _moved_index(pictures.shape[2], draws[:, :, 2])
        right = torch.where(mirrored[:, :, None], pictures.shape[2] - 1 - right, right)
        each = torch.arange(len(rows), device=rows.device)[:, None, None, None]
        moved = pictures[each, down[:, :, :, None], right[:, :, None, :]]  # (k, N, H, W, …)
        return moved.movedim((2, 3), (self._axes[0] + 1, self._axes[1] + 1)).contiguous()


def _moved_index(side: int, draw: Tensor) -> Tensor:
    """Return the source of each pixel of a side after a shift that draw (k, N) decides: int64 (k, N, side)."""
    reach = max(1, math.floor(side * TUNING.shift))
    shift = (draw * (2 * reach + 1)).to(torch.int64) - reach
    return (torch.arange(side, device=draw.device) - shift[:, :, None]).clamp(0, side - 1)
