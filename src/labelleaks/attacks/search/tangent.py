"""The Tangent Attack in L2: step to the point where a ray from the candidate touches a ball behind the boundary.

Source: Ma, Guo, Chen, Yong, Wang, "Finding Optimal Tangent Points for Reducing Distortions of Hard-label Attacks",
NeurIPS 2021 (arXiv 2111.07492): HopSkipJump's votes for the normal u at the boundary point b, then a ball of radius R
that touches the boundary at b from behind, centred at b + R u; of all rays from the candidate x that meet the ball in
the plane of x, b and u, the one that touches it meets a flat boundary nearest. R is halved until the point has another
label, and the boundary is bisected along the ray. What differs here:

* votes, probe lengths and projections are those of :mod:`labelleaks.attacks.search.hopskipjump`;
* R is not |b - x| / sqrt(t), but |b - x| sin(a), with a the angle that the votes are expected to have found: the ray
  of this ball meets a flat boundary exactly at the nearest point, where a larger ball's ray would pass it;
* the ray is asked at distance |b - x|, not at the tangent point, which is farther away than b: so one label shows
  that the ray is better;
* how much nearer the boundary is along the ray tells the plane's true angle, which the next step expects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track
from labelleaks.attacks.search.hopskipjump import TUNING as SHARED
from labelleaks.attacks.search.hopskipjump import HopSkipJump, HopState, HopStep, combine
from labelleaks.core.batch_invariant import distances

__all__ = ["TANGENT", "ray"]


@dataclass(frozen=True)
class Tuning:
    """Constants of the Tangent Attack.

    Weighed while the search was built; no table of it was kept (design/0002-boundary-search.md).
    """

    halvings: int = 4
    """Labels for the radius at most."""
    shortfall: float = 0.9
    """Of the predicted gain: where the bisection asks first."""


TUNING = Tuning()


def _take(search: HopSkipJump, track: Track, state: HopState, who: Tensor, t: int) -> None:
    """Find the ray in the voted plane that touches a ball behind the boundary; bisect along it."""
    x = track.x[who]
    D, e, p, _ = search.plane(track, state, who, t)
    cosine = (1.0 / (1.0 + state.tangent[who].square())).sqrt()
    expected = cosine, state.tangent[who] * cosine
    found, c, s = _touching_ray(track, who, x, D, e, p, expected)
    offset = combine(None, D * c, e, D * s, p)
    # A flat boundary with its normal at the expected angle cuts the ray at D cos(expected) / cos(expected - ray).
    guess = (TUNING.shortfall * (1.0 - expected[0] / (expected[0] * c + expected[1] * s))).clamp(1e-6, 0.9)
    rows = (found & (track.left[who] > 0)).nonzero().reshape(-1)
    search.project(
        track,
        state,
        who[rows],
        offset=offset[rows],
        guess=guess[rows],
        precision=search.precision(state, who[rows]),
        steps=SHARED.projection,
    )
    shorter = D / distances(state.b[who], x, "l2").clamp_min(1e-30)
    tangent = ((shorter - c) / s.clamp_min(1e-6)).clamp(0.0, 8.0)
    tangent = torch.where(found, tangent, state.tangent[who] * 0.25)
    state.last[who] = combine(None, -s, e, c, p)
    search.learn(state, who, tangent, t)


def _touching_ray(
    track: Track, who: Tensor, x: Tensor, D: Tensor, e: Tensor, p: Tensor, expected: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the ball until its ray has another label at distance D. Returns whether one had, bool (k,), and the
    cosine and sine of the angle between the last ray and e, float64 (k,)."""
    found = torch.zeros(len(who), dtype=torch.bool, device=who.device)
    c, s = expected[0].clone(), expected[1].clone()
    tries = torch.arange(len(who), device=who.device)
    for halving in range(TUNING.halvings):
        tries = tries[track.left[who[tries]] > 0]
        if len(tries) == 0:
            break
        radius = expected[1][tries] * 0.5**halving
        c[tries], s[tries] = ray(radius, expected[0][tries], expected[1][tries])
        points = combine(x[tries], (D * c)[tries], e[tries], (D * s)[tries], p[tries])
        wrong = track.ask(points, who[tries], "ray")[1]
        found[tries[wrong]] = True
        tries = tries[~wrong]
    return found, c, s


TANGENT = HopStep(TUNING.halvings + SHARED.projection, _take)
"""Continuous domains in L2."""


def ray(radius: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """The ray from 0 that touches the ball of ``radius`` around e + radius u, where u = cosine e + sine p; of the two
    such rays the one on the side of p. Returns cosine and sine of its angle from e, float64 (k,); at radius = sine
    it is u."""
    along, across = 1.0 + radius * cosine, radius * sine
    square = along * along + across * across
    touch = (square - radius * radius).clamp_min(0.0).sqrt()
    return (along * touch - across * radius) / square, (across * touch + along * radius) / square
