"""Sign-OPT in L2: descent on the direction in which the boundary is nearest, by comparisons that cost one label.

Source: Cheng et al., "Sign-OPT: A Query-Efficient Hard-label Adversarial Attack", ICLR 2020 (arXiv 1909.10773). With
g(e) the distance from the candidate x to the boundary along e, one label at x + g(e) e' tells whether g(e') < g(e).
What differs here:

* the sign of g's derivative is voted by the orthogonal probes of :mod:`labelleaks.attacks.search.normal_estimate`
  instead of 200 random ones, and their length follows the angle that is left;
* the line search does not measure g at each step size. In the plane of e and the descent direction the points at
  distance g(e) that have another label form an arc from e to e'', found by comparisons alone, and g is least in
  its middle: for a flat boundary exactly, and an error of the arc counts in second order only;
* g is bisected once a step, along the direction that was chosen, from the value that the arc predicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track, widest
from labelleaks.attacks.search.hopskipjump import TUNING as SHARED
from labelleaks.attacks.search.hopskipjump import HopSkipJump, HopState, HopStep, combine

__all__ = ["SIGN_OPT"]


@dataclass(frozen=True)
class Tuning:
    """Constants of Sign-OPT.

    Weighed while the search was built; no table of it was kept (design/0002-boundary-search.md).
    """

    arc: int = 5
    """Labels for the arc's end at most."""
    width: float = 1.5
    """Ratio of the brackets of tan(half the arc) that is narrow enough."""
    shortfall: float = 0.9
    """Of the predicted gain: where the bisection asks first."""


TUNING = Tuning()


def _take(search: HopSkipJump, track: Track, state: HopState, who: Tensor, t: int) -> None:
    """Find the direction in the voted plane in which the boundary is nearest, by comparisons; bisect along it."""
    x = track.x[who]
    D, e, p, _ = search.plane(track, state, who, t)

    # The direction at angle 2a from e, a the angle in whose middle the boundary is nearest if the arc ends there.
    def nearer(tangent: Tensor, i: Tensor) -> Tensor:
        square = tangent * tangent
        cosine, sine = (1.0 - square) / (1.0 + square), 2.0 * tangent / (1.0 + square)
        return track.ask(combine(x[i], D[i] * cosine, e[i], D[i] * sine, p[i]), who[i], "arc")[1]

    def open_(low: Tensor, high: Tensor) -> Tensor:
        return (high > TUNING.width * low) & (track.left[who] > 0)

    low, high = widest(nearer, open_, most=8.0, guess=state.tangent[who], steps=TUNING.arc)
    tangent = torch.where(low > 0, (low + torch.minimum(high, 2.0 * low)) * 0.5, high * 0.25)
    cosine = (1.0 / (1.0 + tangent * tangent)).sqrt()
    offset = combine(None, D * cosine, e, D * tangent * cosine, p)
    guess = (TUNING.shortfall * (1.0 - cosine)).clamp(1e-6, 0.9)
    search.project(
        track,
        state,
        who,
        offset=offset,
        guess=guess,
        precision=search.precision(state, who),
        steps=SHARED.projection,
    )
    state.last[who] = combine(None, -tangent * cosine, e, cosine, p)
    search.learn(state, who, tangent, t)


SIGN_OPT = HopStep(TUNING.arc + SHARED.projection, _take)
"""Continuous domains in L2."""
