"""Ways away from a candidate that reference models point out, measured in what reference models lose on them.

A *way* starts at the candidate and goes where its guides (half of the reference models) lose confidence in its label.
Its *level* at a point is what its judges (the other half) have lost there, on average: log-odds of the label at the
candidate minus log-odds at the point, in nats. So a place on any way is measured in the units of a model's own
confidence, whatever the domain, and a label asked for there tells whether the target is more or less sure than that.
Nothing here asks the target, and all of it is row by row, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from labelleaks.attacks.surrogate_gradients import smoothed
from labelleaks.core.batch_invariant import mean_of, row_max, row_sums
from labelleaks.core.domains import Binary, Box, Domain, Integer, Mixed, OneHot
from labelleaks.models import reference_models
from labelleaks.models.architectures import image_layout, moments
from labelleaks.models.shadow_model import ShadowModel

__all__ = ["Council", "Ground", "all_log_odds", "councils", "lead", "log_odds", "spread_of"]

LOOKS, FARTHER, CLOSE = 2, 4.0, 0.3
"""In a Box: how often judges look for the point of a way that has the wanted level, how much farther or nearer the next
one may be, and how far off, as a part of the level, is good enough: an answer counts at the level that was reached."""
BENT = 16.0
"""How many times farther or nearer than its slope foresees a level may be taken to lie."""
FLIPS = 48
"""Features that a way changes where they cannot move a little, in steps of ``PER_STEP``."""
PER_STEP = 2
STRIDE = 2.0
"""Spreads that a number of a table goes at a time."""


@dataclass(frozen=True)
class Council:
    """Who points the way and who measures it: places in the list of models."""

    guides: tuple[int, ...]
    judges: tuple[int, ...]


def councils(count: int) -> tuple[Council, ...]:
    """Return all councils of ``count`` models: about half of them guide, the others judge.

    Models are told apart by the bits of their numbers: those with a bit guide where the others judge, and the other way
    round. So any two councils of 2, 4, 8, … models share half of their guides, or none. There are 2 log2 R, 6 for 8
    models. One model alone does both.
    """
    if count == 1:
        return (Council((0,), (0,)),)
    found = []
    for bit in range((count - 1).bit_length()):
        ones = tuple(j for j in range(count) if j >> bit & 1)
        zeros = tuple(j for j in range(count) if not j >> bit & 1)
        found += [Council(zeros, ones), Council(ones, zeros)]
    return tuple(found)


def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    """Return log p(y) - log(1 - p(y)) of each row of ``logits`` (m, K): (m,), bits independent of m.

    LiRA's logit-scaled confidence (Carlini et al., 2112.03570, section IV).
    """
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -math.inf)
    top = row_max(others)
    rest = row_sums((others - top[:, None]).exp()).contiguous()  # a strided log is another function in the last bit
    return own - top - rest.log()


def spread_of(rows: Tensor, domain: Domain) -> Tensor:
    """Return how far features vary in the data: standard deviations over ``rows`` (n, *shape), float32 (*shape).

    Ways are measured in it. A feature that hardly varies is one that models learned next to nothing about: what they
    say of far values there is an accident of theirs, which tells nothing of the target. The pixels of a picture in a
    Box are of one kind and share the domain's span.
    """
    shape = tuple(rows.shape[1:])
    if isinstance(domain, Box) and image_layout(shape) is not None:
        return domain.span(shape).to(rows.device)
    _, deviation, _, _ = moments(rows)
    return deviation[0].to(rows.dtype)


def all_log_odds(models: Sequence[ShadowModel], x: Tensor, y: Tensor) -> Tensor:
    """Return each model's log-odds of y at x: float64 (R, n)."""
    return torch.stack([log_odds(reference_models.logits(model, x).to(torch.float64), y) for model in models])


@dataclass(frozen=True, eq=False)
class Ground:
    """Where ways start: n candidates, and what each of R models says of them."""

    models: tuple[ShadowModel, ...]
    x: Tensor
    """float32 (n, *shape), in the domain"""
    y: Tensor
    """int64 (n,)"""
    domain: Domain
    said: Tensor
    """float64 (R, n): log-odds of y at x"""
    spread: Tensor
    """float32 (*shape): how far features vary in the data, see :func:`spread_of`"""
    bend: Tensor = field(init=False)
    """float64 (n,): how much farther than the slope at x foresees a level lies: in a Box, learnt from the last way"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bend", torch.ones(len(self.x), dtype=torch.float64, device=self.x.device))

    @cached_property
    def slopes(self) -> Tensor:
        """float32 (R, n, *shape): each model's gradient of the log-odds at x."""
        return torch.stack([reference_models.gradient((model,), self.x, self.y, log_odds) for model in self.models])

    def level(self, council: Council, rows: Tensor, points: Tensor, sign: int) -> Tensor:
        """Return what the judges have lost at these points of these rows' ways (won, where ``sign`` is +1), nats."""
        judges = list(council.judges)
        asked = self.domain.project(points)
        now = mean_of(all_log_odds([self.models[j] for j in judges], asked, self.y[rows]))
        return sign * (now - mean_of(self.said[judges][:, rows]))


def lead(
    ground: Ground,
    council: Council,
    rows: Tensor,
    level: Tensor,
    *,
    sign: int,
    grain: float = 0.0,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Lead candidates away from their labels (``sign`` -1), or towards them (+1), to a point of a wanted level.

    In a Box a way is straight, along the guides' mean gradient at the candidate. In Binary and Mixed domains features
    change one after the other, as the guides' gradient there promises most.

    Args:
        rows: int64 (k,), places in the ground.
        level: float64 (k,), nats, above 0.
        grain: pictures in a Box change smoothly: three standard deviations of a Gaussian over the gradient, in sides;
            0: as it is. What is fine in a gradient is the model's own; what is coarse, all models of the data share.
        allowed: bool (k, *shape): the features that may change, in Binary and Mixed domains; ways over different
            features differ. None: all.

    Returns:
        The points, float32 (k, *shape), in the domain's bounds but not on its levels, and their own levels, float64
        (k,): near the wanted ones in a Box; elsewhere those of the first point that has them, or the way's highest.

    Raises:
        NeedsError: a guide has no gradient.
    """
    if isinstance(ground.domain, Box):
        return _along(ground, council, rows, level, sign, grain)
    return _changing(ground, council, rows, level, sign, allowed)


def _along(
    ground: Ground, council: Council, rows: Tensor, level: Tensor, sign: int, grain: float
) -> tuple[Tensor, Tensor]:
    x, domain = ground.x[rows], ground.domain
    slope = mean_of([ground.slopes[j, rows] for j in council.guides])
    per_nat = _per_nat(domain, x, sign * smoothed(slope, domain, grain), ground.spread)
    far = level * ground.bend[rows]
    gone = far.clone()
    points, reached = x, torch.zeros_like(level)
    going = torch.arange(len(rows), device=rows.device)
    for _ in range(LOOKS):
        step = far[going].to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) * per_nat[going]
        seen = _within(domain, x[going] + step)
        here = ground.level(council, rows[going], seen, sign)
        nearer = (here - level[going]).abs() <= (reached[going] - level[going]).abs()
        points = points.index_copy(0, going[nearer], seen[nearer])
        reached = reached.index_copy(0, going[nearer], here[nearer])
        gone = gone.index_copy(0, going[nearer], far[going[nearer]])
        farther = (level[going] / here.clamp_min(1e-12)).clamp(1 / FARTHER, FARTHER)
        far = far.index_copy(0, going, far[going] * farther)
        going = going[(here - level[going]).abs() > CLOSE * level[going]]
        if len(going) == 0:
            break
    ground.bend[rows] = (gone / reached.clamp_min(1e-12)).clamp(1 / BENT, BENT)
    return points, reached


def _per_nat(domain: Domain, x: Tensor, slope: Tensor, spread: Tensor) -> Tensor:
    """The step along the slope that wins a nat if the slope does not bend; nothing where no feature can move."""
    low, high = _bounds(domain, x)
    stuck = ((slope > 0) & (x >= high)) | ((slope < 0) & (x <= low))
    rise = torch.where(stuck, 0.0, slope * spread)
    steepness = row_sums(rise.to(torch.float64).square().flatten(1))
    share = torch.where(steepness > 0, 1.0 / steepness.clamp_min(1e-300), 0.0).clamp_max(1e30)
    return share.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) * rise * spread


def _changing(
    ground: Ground, council: Council, rows: Tensor, level: Tensor, sign: int, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    x, y = ground.x[rows], ground.y[rows]
    guides = [ground.models[j] for j in council.guides]
    varies = (ground.spread > 0).expand_as(x)
    free = varies if allowed is None else allowed & varies
    points, reached, here = x, torch.zeros_like(level), x
    for _ in range(FLIPS // PER_STEP):
        going = (reached < level).nonzero().reshape(-1)
        if len(going) == 0:
            break
        z = here[going]
        slope = sign * reference_models.gradient(guides, z, y[going], log_odds)
        for moved in _changes(ground, z, slope, free[going] & (z == x[going])):
            here = here.index_copy(0, going, moved)
            at = ground.level(council, rows[going], moved, sign)
            higher = (at > reached[going]) & (reached[going] < level[going])
            points = points.index_copy(0, going[higher], moved[higher])
            reached = reached.index_copy(0, going[higher], at[higher])
    return points, reached


def _bounds(domain: Domain, z: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (domain.project(torch.full_like(z[:1], end)) for end in (-math.inf, math.inf))
    return low, high


def _within(domain: Domain, z: Tensor) -> Tensor:
    """Clip to the bounds of a Box, not to its levels: small steps add up."""
    low, high = _bounds(domain, z)
    return torch.minimum(torch.maximum(z, low), high)


def _changes(ground: Ground, z: Tensor, slope: Tensor, free: Tensor) -> list[Tensor]:
    """Change the ``PER_STEP`` features that promise most, one after the other; return the rows after each."""
    shape, domain = z.shape, ground.domain
    z, slope, free = z.flatten(1), slope.flatten(1), free.flatten(1).clone()
    value, gain = _best_values(domain, z, slope, ground.spread.flatten())
    groups = (
        [columns for part, columns in domain.groups() if isinstance(part, OneHot)] if isinstance(domain, Mixed) else []
    )
    rows = torch.arange(len(z), device=z.device)
    found = []
    for _ in range(PER_STEP):
        promise = torch.where(free, gain, -math.inf)
        best = promise.argmax(1)
        moves = promise[rows, best] > -math.inf
        z = z.clone()
        for columns in groups:
            mine = moves & (best >= columns.start) & (best < columns.stop)
            z[mine, columns] = 0.0
            free[mine, columns] = False
        z[rows[moves], best[moves]] = value[rows[moves], best[moves]]
        free[rows, best] = False
        found.append(z.reshape(shape))
    return found


def _best_values(domain: Domain, z: Tensor, slope: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return another value for each feature of z (m, d), and what the slope promises of it: (m, d) each.

    A bit flips, a category of a one-hot group is chosen, a number goes ``STRIDE`` spreads (d,) up or down.
    """
    if isinstance(domain, Binary):
        value = 1 - z
        return value, slope * (value - z)
    assert isinstance(domain, Mixed)
    value, gain = z.clone(), torch.full_like(z, -math.inf)
    for part, columns in domain.groups():
        block, rise = z[:, columns], slope[:, columns]
        if isinstance(part, OneHot):
            value[:, columns] = 1.0
            hot = block.argmax(1, keepdim=True)
            promise = rise - rise.gather(1, hot)
            gain[:, columns] = promise.scatter(1, hot, -math.inf)
            continue
        stride = STRIDE * spread[columns]
        if isinstance(part, Integer):
            stride = stride.round().clamp_min(1)
        value[:, columns] = (block + stride * rise.sign()).clamp(part.low, part.high)
        changed = value[:, columns] != block
        gain[:, columns] = torch.where(changed, rise * (value[:, columns] - block), -math.inf)
    return value, gain
