"""Ascent directions of a reference-model ensemble, parameterised by the held-out models' drop in log-odds.

A *way* starts at a candidate and goes where half of the reference models (the *directing* ones) lose confidence in the
candidate's label: along their gradient, or one feature after the other. A point on it is named by its *log-odds drop*:
log-odds of the label at the candidate minus log-odds at the point, in nats, averaged over the other half (the
*measuring* ones, held out of the direction). A drop means the same on every way and in every domain, so a label that
the target gives at a drop tells whether its own log-odds at the candidate are larger. Nothing here asks the target, and
all of it is row by row, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks._guided.word_paths import leave_one_out, without_words
from labelleaks.attacks.single_changes import SingleChanges, mean_objective
from labelleaks.attacks.surrogate_gradients import smoothed
from labelleaks.attacks.words import Words
from labelleaks.core.batch_invariant import mean_of, row_max, row_sums
from labelleaks.core.domains import Domain, image_layout, token_columns
from labelleaks.models import reference_models
from labelleaks.models.networks import moments
from labelleaks.models.shadow_model import ShadowModel

__all__ = ["Split", "StartPoints", "ensemble_log_odds", "feature_scale", "log_odds", "perturb_to", "splits"]


@dataclass(frozen=True)
class Split:
    """A split of the ensemble: which models direct a way and which measure it, as places in the list of models."""

    directing: tuple[int, ...]
    measuring: tuple[int, ...]


def splits(count: int) -> tuple[Split, ...]:
    """Return all splits of ``count`` models into two parts of about one half, each part directing once.

    Models are told apart by the bits of their numbers: those with a bit set, and those without. So any two splits of
    2, 4, 8, … models share half of their directing models, or none. There are 2 log2 R of them, 6 for 8 models. One
    model alone both directs and measures.
    """
    if count == 1:
        return (Split((0,), (0,)),)
    halves = []
    for bit in range((count - 1).bit_length()):
        ones = tuple(j for j in range(count) if j >> bit & 1)
        zeros = tuple(j for j in range(count) if not j >> bit & 1)
        halves += [Split(zeros, ones), Split(ones, zeros)]
    return tuple(halves)


def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    """Return log p(y) - log(1 - p(y)) of each row of ``logits`` (m, K): (m,), bits independent of m.

    LiRA's logit-scaled confidence (Carlini et al., 2112.03570, section IV).
    """
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -math.inf)
    top = row_max(others)
    rest = row_sums((others - top[:, None]).exp()).contiguous()  # a strided log is another function in the last bit
    return own - top - rest.log()


def ensemble_log_odds(models: Sequence[ShadowModel], x: Tensor, y: Tensor) -> Tensor:
    """Return each model's log-odds of y at x: float64 (R, n)."""
    return torch.stack([log_odds(logits.to(torch.float64), y) for logits in reference_models.all_logits(models, x)])


def feature_scale(rows: Tensor, domain: Domain) -> Tensor:
    """Return the standard deviation of each feature over ``rows`` (n, *shape): float32 (*shape).

    Steps are measured in it. What models say of far values of a feature that hardly varies in their data is an
    accident of theirs, which tells nothing of the target. The pixels of a picture are of one kind and share the
    domain's span.
    """
    shape = tuple(rows.shape[1:])
    if domain.continuous and image_layout(shape, domain.layout) is not None:
        return domain.span(shape).to(rows.device)
    _, deviation, _, _ = moments(rows)
    words = token_columns(domain, shape).reshape(shape).to(rows.device)  # codes are names
    return torch.where(words, 1.0, deviation[0].to(rows.dtype))


@dataclass(frozen=True, eq=False)
class StartPoints:
    """Start points of ways: n candidates, with the log-odds and gradients of R reference models there."""

    models: tuple[ShadowModel, ...]
    x: Tensor
    """float32 (n, *shape), in the domain"""
    y: Tensor
    """int64 (n,)"""
    domain: Domain
    log_odds: Tensor
    """float64 (R, n): of y at x"""
    scale: Tensor
    """float32 (*shape): see :func:`feature_scale`"""
    curvature: Tensor = field(init=False)
    """float64 (n,): how many times farther than the gradient at x predicts a drop lies; updated by each straight way"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "curvature", torch.ones(len(self.x), dtype=torch.float64, device=self.x.device))

    @cached_property
    def changes(self) -> SingleChanges:
        """Changes of single features."""
        return SingleChanges.of(self.domain, self.scale)

    @cached_property
    def gradients(self) -> Tensor:
        """Each model's gradient of the log-odds at x: float32 (R, n, *shape)."""
        return torch.stack([reference_models.gradient((model,), self.x, self.y, log_odds) for model in self.models])

    @cached_property
    def words(self) -> Words | None:
        """Positions of words, where rows are texts and nothing else."""
        groups = self.domain.groups(self.x.shape[1:])
        return Words(groups) if all(group.kind == "token" for group in groups) else None

    @cached_property
    def falls(self) -> Tensor:
        """By how much each model's log-odds fall without a word: float64 (R, n, d)."""
        assert self.words is not None
        return leave_one_out(self, self.words)

    def ask(self, rows: Tensor, y: Tensor) -> Tensor:
        """Return each model's log-odds of y at flat rows: float64 (R, k)."""
        return ensemble_log_odds(self.models, rows.reshape(-1, *self.x.shape[1:]), y)

    @property
    def straight(self) -> bool:
        """Whether ways are straight: features can move a little, and models have gradients to follow."""
        return self.domain.continuous and all(model.differentiable for model in self.models)

    def drop(self, split: Split, rows: Tensor, points: Tensor, sign: int) -> Tensor:
        """Return the measuring models' mean log-odds drop from these rows to ``points``, nats: float64 (k,).

        Where ``sign`` is +1 it is their gain instead.
        """
        measuring = list(split.measuring)
        sent = self.domain.project(points)
        there = mean_of(ensemble_log_odds([self.models[j] for j in measuring], sent, self.y[rows]))
        return sign * (there - mean_of(self.log_odds[measuring][:, rows]))


def perturb_to(
    start: StartPoints,
    split: Split,
    rows: Tensor,
    drop: Tensor,
    *,
    sign: int,
    smoothing: float = 0.0,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Perturb candidates away from their labels (``sign`` -1), or towards them (+1), until the wanted log-odds drop.

    In a continuous domain a way is straight, along the directing models' mean gradient at the candidate. In others, and
    where models have no gradients, features change one after the other, those first whose change raises the directing
    models' loss most: as a gradient predicts it, or as the models say of the changed row itself where one has none.
    Of texts words are left out (:mod:`labelleaks.attacks._guided.word_paths`).

    Args:
        rows: int64 (k,), places in ``start``.
        drop: float64 (k,), nats, above 0; the gain, where ``sign`` is +1.
        smoothing: three standard deviations of a Gaussian over a picture's gradient, in sides; 0: none. Fine structure
            of a gradient is the model's own; the coarse structure is shared by all models of the data.
        allowed: bool (k, *shape): the features that may change, where the way is not straight; ways over different
            features differ. None: all.

    Returns:
        The points, float32 (k, *shape), in the domain's bounds but not on its levels, and the drops reached, float64
        (k,): near the wanted ones on a straight way; elsewhere those of the first point that has them, or the way's
        largest.
    """
    if start.straight:
        return _along_gradient(start, split, rows, drop, sign, smoothing)
    if start.words is not None and allowed is not None:
        return without_words(start, start.words, split, rows, drop, sign=sign, allowed=allowed.flatten(1))
    return _feature_by_feature(start, split, rows, drop, sign, allowed)


def _along_gradient(
    start: StartPoints, split: Split, rows: Tensor, drop: Tensor, sign: int, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Secant search on a straight way for the point with the wanted drop."""
    x, domain = start.x[rows], start.domain
    gradient = mean_of([start.gradients[j, rows] for j in split.directing])
    per_nat = _step_per_nat(domain, x, sign * smoothed(gradient, domain, smoothing), start.scale)
    length = drop * start.curvature[rows]
    best_length = length.clone()
    points, reached = x, torch.zeros_like(drop)
    active = torch.arange(len(rows), device=rows.device)
    for _ in range(TUNING.evaluations):
        step = length[active].to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) * per_nat[active]
        tried = _clipped(domain, x[active] + step)
        here = start.drop(split, rows[active], tried, sign)
        nearer = (here - drop[active]).abs() <= (reached[active] - drop[active]).abs()
        points = points.index_copy(0, active[nearer], tried[nearer])
        reached = reached.index_copy(0, active[nearer], here[nearer])
        best_length = best_length.index_copy(0, active[nearer], length[active[nearer]])
        factor = (drop[active] / here.clamp_min(1e-12)).clamp(1 / TUNING.largest_correction, TUNING.largest_correction)
        length = length.index_copy(0, active, length[active] * factor)
        active = active[(here - drop[active]).abs() > TUNING.tolerance * drop[active]]
        if len(active) == 0:
            break
    largest = TUNING.largest_curvature
    start.curvature[rows] = (best_length / reached.clamp_min(1e-12)).clamp(1 / largest, largest)
    return points, reached


def _step_per_nat(domain: Domain, x: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
    """Return the step along the gradient that changes a linear model's log-odds by a nat; 0 where none can be taken."""
    low, high = _bounds(domain, x)
    stuck = ((gradient > 0) & (x >= high)) | ((gradient < 0) & (x <= low))
    scaled = torch.where(stuck, 0.0, gradient * scale)
    steepness = row_sums(scaled.to(torch.float64).square().flatten(1))
    share = torch.where(steepness > 0, 1.0 / steepness.clamp_min(1e-300), 0.0).clamp_max(1e30)
    return share.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) * scaled * scale


def _feature_by_feature(
    start: StartPoints, split: Split, rows: Tensor, drop: Tensor, sign: int, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Greedy search: change the features that gain most for the directing models until the wanted drop is reached."""
    x, y = start.x[rows], start.y[rows]
    varies = (start.scale > 0).expand_as(x)
    free = varies if allowed is None else allowed & varies
    points, reached, here = x, torch.zeros_like(drop), x
    for _ in range(TUNING.most_changes // TUNING.changes_per_gradient):
        left = free & (here == x)
        active = ((reached < drop) & left.flatten(1).any(1)).nonzero().reshape(-1)
        if len(active) == 0:
            break
        for changed in _changed(start, split, here[active], y[active], sign, left[active]):
            here = here.index_copy(0, active, changed)
            at = start.drop(split, rows[active], changed, sign)
            higher = (at > reached[active]) & (reached[active] < drop[active])
            points = points.index_copy(0, active[higher], changed[higher])
            reached = reached.index_copy(0, active[higher], at[higher])
    return points, reached


def _bounds(domain: Domain, z: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (end.to(z.device) for end in domain.bounds(z.shape[1:]))
    return low, high


def _clipped(domain: Domain, z: Tensor) -> Tensor:
    """Clip to the domain's bounds, not to its levels: small steps add up."""
    low, high = _bounds(domain, z)
    return torch.minimum(torch.maximum(z, low), high)


def _changed(start: StartPoints, split: Split, x: Tensor, y: Tensor, sign: int, free: Tensor) -> list[Tensor]:
    """Change the features of largest gain, one after the other; return the rows after each change."""
    changes, z, free = start.changes, x.flatten(1), free.flatten(1)
    directing = [start.models[j] for j in split.directing]
    if all(model.differentiable for model in directing):
        gradient = sign * reference_models.gradient(directing, x, y, log_odds)
        gains = changes.first_order(z, gradient.flatten(1))
    else:
        gains = changes.measured(z, free, mean_objective(directing, x, y, log_odds, sign=sign))
    value, gain = changes.best(z, gains)
    after = []
    for _ in range(TUNING.changes_per_gradient):
        left = torch.where(free, gain, -math.inf)
        best = left.argmax(1)
        each = best[:, None]
        changed = changes.made(z, best, value.gather(1, each)[:, 0])
        z = torch.where(left.gather(1, each) > -math.inf, changed, z)
        free = changes.without(free, best)
        after.append(z.reshape(x.shape))
    return after
