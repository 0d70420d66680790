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
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks import references
from labelleaks.crafting import smoothed
from labelleaks.domain import Binary, Box, Domain, Integer, Mixed, OneHot
from labelleaks.search.exact import mean_of, row_max, row_sums
from labelleaks.shadowmodel import ShadowModel

__all__ = ["Council", "Way", "all_log_odds", "councils", "follow", "log_odds"]

STEPS, FIRST_STEP, GROWTH = 4, 0.25, 2.0
"""Gradient steps of a way in a Box; what the first is meant to cost the guides, in scales, and how much more each next
one: the score saturates, so far levels may be coarse."""
STRAIGHT_ON = (1.5, 2.25, 3.5, 5.0)
"""Where the way goes on after that without asking for gradients: so many times what it has come."""
FLIPS = 48
"""Features that a way changes where they cannot move a little, in steps of ``PER_STEP``."""
PER_STEP = 2


@dataclass(frozen=True)
class Council:
    """Who points the way and who measures it."""

    guides: tuple[ShadowModel, ...]
    judges: tuple[ShadowModel, ...]


def councils(models: Sequence[ShadowModel]) -> tuple[Council, ...]:
    """Return all councils: about half of the models guide, the others judge.

    Models are told apart by the bits of their numbers: those with a bit guide where the others judge, and the other way
    round. So any two councils share half of their guides, or none, and R models make 2 log2 R of them, 6 for 8. One
    model alone does both.
    """
    if len(models) == 1:
        return (Council(tuple(models), tuple(models)),)
    found = []
    for bit in range((len(models) - 1).bit_length()):
        ones = tuple(model for j, model in enumerate(models) if j >> bit & 1)
        zeros = tuple(model for j, model in enumerate(models) if not j >> bit & 1)
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


def all_log_odds(models: Sequence[ShadowModel], x: Tensor, y: Tensor) -> Tensor:
    """Return each model's log-odds of y at x: float64 (R, n)."""
    return torch.stack([log_odds(references.logits(model, x).to(torch.float64), y) for model in models])


@dataclass(frozen=True, eq=False)
class Way:
    """One way for each of n candidates."""

    points: Tensor
    """float32 (stations, n, *shape), in the domain; the first station is the candidate."""
    level: Tensor
    """float64 (stations, n), nats; never falls along the way."""
    whole: bool
    """Whether only the stations are inputs, not what lies between them."""

    def end(self) -> Tensor:
        """Return the highest level of each way: float64 (n,)."""
        return self.level[-1]

    def of(self, rows: Tensor) -> Way:
        """Return the ways of these rows, int64 (k,)."""
        return Way(self.points[:, rows], self.level[:, rows], self.whole)

    def at(self, rows: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of these rows at these levels, or at the next station: (k, *shape) and float64 (k,).

        Args:
            rows: int64 (k,). level: float64 (k,), 0 … the ways' ends.
        """
        heights = self.level[:, rows]
        above = (heights < level).sum(0).clamp(1, len(heights) - 1)
        column = torch.arange(len(rows), device=rows.device)
        low, high = heights[above - 1, column], heights[above, column]
        if self.whole:
            return self.points[above, rows], high
        part = ((level - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        part = torch.where(high > low, part, 1.0)
        share = part.to(torch.float32).reshape(-1, *[1] * (self.points.dim() - 2))
        start = self.points[above - 1, rows]
        way = self.points[above, rows] - start
        return start + share * way, torch.where(high > low, level, high)


def follow(
    council: Council,
    x: Tensor,
    y: Tensor,
    domain: Domain,
    allowed: Tensor,
    *,
    sign: int,
    scale: float,
    end: Tensor,
    grain: float = 0.0,
) -> Way:
    """Lead each candidate away from its label (``sign`` -1), or towards it (+1): then levels count what is won.

    Args:
        council: guides, whose gradients are followed, and judges, whose confidence is the level.
        x: float32 (n, *shape), in the domain. y: int64 (n,).
        domain: every point of the way is in it.
        allowed: bool (n, *shape): the features that may change; ways over different features differ.
        sign: -1 or +1.
        scale: nats that count as much; the first step is to cost a fifth of it.
        end: float64 (n,), the levels after which nothing is asked: a way stops at its first station there.
        grain: pictures change smoothly: three standard deviations of a Gaussian over the gradient, in sides; 0: as it
            is. What is fine in a gradient is the model's own; what is coarse, all models of the data share.

    Raises:
        NeedsError: a guide has no gradient.
    """
    whole = not isinstance(domain, Box)
    start = mean_of(all_log_odds(council.judges, x, y))
    here, level = x.clone(), torch.zeros_like(start)
    points, levels = [x], [level]
    for step in range(FLIPS // PER_STEP if whole else STEPS + len(STRAIGHT_ON)):
        going = (level < end).nonzero().reshape(-1)
        if len(going) == 0:
            break
        z, origin = here[going], x[going]
        if whole:
            slope = sign * references.gradient(council.guides, z, y[going], log_odds)
            stations = _changes(domain, z, slope, allowed[going] & (z == origin))
        elif step < STEPS:
            slope = sign * smoothed(references.gradient(council.guides, z, y[going], log_odds), domain, grain)
            stations = [_slide(domain, z, slope * allowed[going], scale * FIRST_STEP * GROWTH**step)]
        else:
            last = STRAIGHT_ON[step - STEPS - 1] if step > STEPS else 1.0
            stations = [_within(domain, z + (STRAIGHT_ON[step - STEPS] - last) / last * (z - origin))]
        for moved in stations:
            here = here.index_copy(0, going, moved)
            asked = domain.project(moved)
            judged = mean_of(all_log_odds(council.judges, asked, y[going]))
            won = sign * (judged - start[going])
            level = level.index_copy(0, going, torch.maximum(won, level[going]))
            points.append(here)
            levels.append(level)
    return Way(torch.stack(points), torch.stack(levels), whole)


def _slide(domain: Domain, z: Tensor, slope: Tensor, step: float) -> Tensor:
    """Move in a Box along the slope as far as would win ``step`` nats if it did not bend, a third of a span at most."""
    shape = z.shape[1:]
    span = domain.span(shape)[None].to(z.device)
    low, high = _bounds(domain, z)
    stuck = ((slope > 0) & (z >= high)) | ((slope < 0) & (z <= low))
    rise = torch.where(stuck, 0.0, slope * span)
    steepness = row_sums(rise.to(torch.float64).square().flatten(1))
    share = torch.where(steepness > 0, step / steepness.clamp_min(1e-300), 0.0)
    most = row_max(rise.abs().flatten(1)).to(torch.float64) * share
    share = share * (1 / (3 * most.clamp_min(1 / 3)))
    move = share.to(z.dtype).reshape(-1, *[1] * len(shape)) * rise
    return _within(domain, z + move * span)


def _bounds(domain: Domain, z: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (domain.project(torch.full_like(z[:1], end)) for end in (-math.inf, math.inf))
    return low, high


def _within(domain: Domain, z: Tensor) -> Tensor:
    """Clip to the bounds of a Box, not to its levels: small steps add up."""
    low, high = _bounds(domain, z)
    return torch.minimum(torch.maximum(z, low), high)


def _changes(domain: Domain, z: Tensor, slope: Tensor, free: Tensor) -> list[Tensor]:
    """Change the ``PER_STEP`` features that promise most, one after the other; return the rows after each."""
    shape = z.shape
    z, slope, free = z.flatten(1), slope.flatten(1), free.flatten(1).clone()
    value, gain = _best_values(domain, z, slope)
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


def _best_values(domain: Domain, z: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return another value for each feature of z (m, d), and what the slope promises of it: (m, d) each.

    A bit flips, a category of a one-hot group is chosen, a number goes a quarter of its span up or down.
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
        quarter = (part.high - part.low) / 4
        if isinstance(part, Integer):
            quarter = max(1, round(quarter))
        value[:, columns] = (block + quarter * rise.sign()).clamp(part.low, part.high)
        changed = value[:, columns] != block
        gain[:, columns] = torch.where(changed, rise * (value[:, columns] - block), -math.inf)
    return value, gain
