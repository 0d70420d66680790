"""The direction of the boundary's normal, from the labels of probes around a point of the boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track
from labelleaks.attacks.search.hadamard import Signs
from labelleaks.attacks.search.subspaces import Space, Whole
from labelleaks.core.batch_invariant import to_grid

__all__ = ["Ballot", "normal"]


@dataclass(frozen=True, eq=False)
class Ballot:
    """Centres, radius and number of the probes of one step, for k candidates."""

    who: Tensor
    """int64 (k,)"""
    base: Tensor
    """float32 (k, d), points of the boundary"""
    axis: Tensor
    """float32 (k, d), unit vectors to which the probes are orthogonal"""
    radius: Tensor
    """float32 (k,), root mean square length of a probe, delta"""
    counts: Tensor
    """int64 (k,), probes for each, B_t"""
    first: int
    """which sign vector comes first"""


def normal(track: Track, signs: Signs, space: Space, ballot: Ballot, phase: str) -> Tensor:
    """Estimate the part of the normal that is orthogonal to the axis: float32 (k, d), of any length.

    Probe i is ``base + delta u_i``, u_i = (I - axis axisᵀ) A s_i with sign vectors s_i that are orthogonal to each
    other and A the map of the subspace. With phi_i = ±1 for another / the true label this returns, up to a factor,

        v = mean((phi - mean(phi)) A s)       (HopSkipJump, arXiv 1904.02144, equations 9 and 16)

    All votes equal: v = 0. The sums of votes are whole numbers, so the bits do not depend on the batch.
    """
    k = len(ballot.who)
    shape = (k, track.x.shape[1])
    turns: dict[int, tuple[Tensor, Tensor]] = {}  # pass -> (sum of phi_i s_i, sum of s_i), before the column signs
    total = torch.zeros(k, dtype=torch.float32, device=track.x.device)
    axis = space.lower(to_grid(ballot.axis, 1.0))
    most = int(ballot.counts.max())
    done = 0
    for turn, row, count in signs.windows(ballot.first, most, track.block_rows):
        columns = signs.columns(ballot.who, turn)
        rows = signs.rows(row, count)
        along = to_grid(axis * columns, space.norm) @ rows.T  # u_i · axis, exact
        cast = done + torch.arange(count, device=rows.device)[None, :] < ballot.counts[:, None]
        phi = _votes(track, space, ballot, columns, rows, along, cast, phase)
        voted, plain = turns.get(turn, (0.0, 0.0))
        turns[turn] = (voted + phi @ rows, plain + cast.to(torch.float32) @ rows)
        total += phi.sum(1)
        done += count
    mean = (total / ballot.counts.clamp_min(1))[:, None]
    v = torch.zeros(shape, device=track.x.device)
    for turn, (voted, plain) in turns.items():
        columns = signs.columns(ballot.who, turn)
        shared = mean * space.lift(plain * columns)
        v += space.lift(voted * columns) - shared
    return v


def _votes(
    track: Track, space: Space, ballot: Ballot, columns: Tensor, rows: Tensor, along: Tensor, cast: Tensor, phase: str
) -> Tensor:
    """Send the probes that are cast, some candidates at a time; phi: ±1, 0 where not cast, float32 (k, count)."""
    phi = torch.zeros_like(along)
    step = (ballot.radius / space.length)[:, None]
    build = _whole if isinstance(space, Whole) else _lifted(space)
    at_once = max(1, track.block_rows // len(rows))
    for first in range(0, len(ballot.who), at_once):
        part = slice(first, first + at_once)
        points = build(ballot.base[part], step[part], columns[part], rows)
        tilt = (step[part] * along[part])[:, :, None] * ballot.axis[part][:, None, :]
        points = points.sub_(tilt).reshape(-1, points.shape[-1])
        sent = cast[part]
        who = ballot.who[part].repeat_interleave(sent.sum(1))
        if len(who) < len(points):
            points = points[sent.reshape(-1)]
        if len(who):
            wrong = track.vote(points, who, phase)
            phi[part][sent] = torch.where(wrong, 1.0, -1.0)
    return phi


def _whole(base: Tensor, step: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """base + step (columns ∘ row): float32 (k, count, d). The product is ± step exactly, so there is one rounding."""
    return torch.addcmul(base[:, None, :], (step * columns)[:, None, :], rows[None, :, :])


def _lifted(space: Space) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    def build(base: Tensor, step: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        made = (columns[:, None, :] * rows[None, :, :]).reshape(-1, columns.shape[1])
        lifted = space.lift(made).reshape(len(base), len(rows), -1).mul_(step[:, None, :])
        return lifted.add_(base[:, None, :])

    return build
