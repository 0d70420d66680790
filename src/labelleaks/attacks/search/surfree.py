"""SurFree in L2: try one direction after another on a circle through the candidate; no normal is ever estimated.

Source: Maho, Furon, Le Merrer, "SurFree: a fast surrogate-free black-box attack", CVPR 2021 (arXiv 2011.12807). With b
the nearest point found, e the direction from the candidate x to it and p a direction orthogonal to e, the points
x + |b - x| cos(a) (cos(a) e ± sin(a) p) are nearer than b, and on a flat boundary one sign of p and a range of a get
another label unless p lies in the boundary. What differs here:

* directions are rows of a Hadamard matrix, orthogonal to each other by construction: none is remembered, where the
  original keeps and re-orthogonalises a hundred;
* both signs are asked at one angle, which adapts to what succeeds, instead of at several angles;
* after a success the angle gallops on and is bisected for a label or so only: what is left between the point and the
  boundary is not lost, it makes the next direction's test easier, and is taken in when the point is projected.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track, widest
from labelleaks.attacks.search.hopskipjump import combine
from labelleaks.attacks.search.normal_estimate import Signs
from labelleaks.attacks.search.subspaces import Space
from labelleaks.core.batch_invariant import reject, unit

__all__ = ["SurFree", "SurFreeState"]


@dataclass(frozen=True)
class Tuning:
    """Constants of SurFree.

    ``refine`` of 0 to 3 were tried; the others were weighed while the search was built; no table of it was kept
    (design/0002-boundary-search.md).
    """

    directions: int = 16
    """In a step; then the point is projected."""
    refine: int = 1
    """Labels for the angle of a direction that succeeded."""
    projection: int = 6
    """Labels for a projection at most."""
    finish: int = 6
    """Labels kept for the last projection."""
    first_tangent: float = 0.5
    """Of the angle that is asked first."""
    up: float = 1.0
    """Of the angle found: where the next direction is asked."""
    down: float = 0.9
    """Of the angle that failed: where the next direction is asked."""
    least_tangent: float = 1e-3
    """Of an angle that is asked."""


TUNING = Tuning()


@dataclass(eq=False)
class SurFreeState:
    """State of the search; rows for all candidates of the track. The point itself is the track's."""

    tangent: Tensor
    """float64 (n,), of the angle at which the next direction is asked"""
    signs: Signs


class SurFree:
    """The search for continuous domains, such as a Box, in L2.

    Args:
        space: where the directions lie (:func:`labelleaks.attacks.search.subspaces.space`). The published attack draws
            them from the lower half of the DCT's frequencies: ``"dct"``, 2.
        iterations: steps of ``TUNING.directions`` directions at most.
    """

    def __init__(self, space: Space, *, iterations: int) -> None:
        self.iterations = iterations
        self.space = space

    @property
    def most(self) -> int:
        """Labels after the start that a candidate can spend at most."""
        step = TUNING.directions * (2 + TUNING.refine) + TUNING.projection
        return TUNING.projection + self.iterations * step + TUNING.finish

    def cost(self, iteration: int) -> int:
        return 2 + TUNING.finish

    def init(self, track: Track, who: Tensor) -> SurFreeState:
        n, device = len(track.x), track.x.device
        self._project(track, who, first=0.5, precision=1e-3, steps=2 * TUNING.projection)
        return SurFreeState(
            tangent=torch.full((n,), TUNING.first_tangent, dtype=torch.float64, device=device),
            signs=Signs(track.streams("directions"), self.space.width, track.seed),
        )

    def step(self, track: Track, state: SurFreeState, who: Tensor, iteration: int) -> Tensor:
        first = (iteration - 1) * TUNING.directions
        for number in range(first, first + TUNING.directions):
            rows = who[track.left[who] > TUNING.finish]
            if len(rows) == 0:
                break
            self._try(track, state, rows, number)
        rows = who[track.left[who] > TUNING.finish]
        self._project(track, rows, first=0.01, precision=1e-3, steps=TUNING.projection)
        return torch.zeros(len(who), dtype=torch.bool, device=who.device)

    def finish(self, track: Track, state: SurFreeState, who: Tensor) -> None:
        self._project(track, who, first=1e-2, precision=1e-6, steps=TUNING.finish)

    def _try(self, track: Track, state: SurFreeState, who: Tensor, number: int) -> None:
        """Ask both signs of direction ``number`` until one has another label, then widen its angle."""
        x, D = track.x[who], track.best[who]
        e = unit(track.point[who] - x)
        p = unit(reject(unit(self._direction(state, who, number)), e))

        def on_circle(tangent: Tensor, i: Tensor) -> Tensor:
            cosine2 = 1.0 / (1.0 + tangent * tangent)
            points = combine(x[i], D[i] * cosine2, e[i], D[i] * cosine2 * tangent, p[i])
            return track.ask(points, who[i], "direction")[1]

        asked = state.tangent[who]
        everyone = torch.arange(len(who), device=who.device)
        hit = on_circle(asked, everyone)
        again = everyone[~hit & (track.left[who] > TUNING.finish)]
        if len(again):
            p[again] = -p[again]
            hit[again] = on_circle(asked[again], again)

        def open_(low: Tensor, high: Tensor) -> Tensor:
            return hit & (track.left[who] > TUNING.finish)

        low = torch.where(hit, asked, 0.0)
        low, _ = widest(on_circle, open_, most=8.0, guess=2.0 * asked, steps=TUNING.refine, least=low)
        state.tangent[who] = torch.where(hit, TUNING.up * low, TUNING.down * asked).clamp(TUNING.least_tangent, 2.0)

    def _direction(self, state: SurFreeState, who: Tensor, number: int) -> Tensor:
        turn, row, _ = next(state.signs.windows(number, 1, 1))
        return self.space.lift(state.signs.columns(who, turn) * state.signs.rows(row, 1))

    def _project(self, track: Track, who: Tensor, *, first: float, precision: float, steps: int) -> None:
        """Ask for points on the way from the nearest point to the candidate."""
        if len(who) == 0:
            return
        x = track.x[who]
        offset = track.point[who] - x

        def nearer(share: Tensor, i: Tensor) -> Tensor:
            part = (1.0 - share).to(torch.float32)[:, None] * offset[i]
            return track.ask(x[i] + part, who[i], "project")[1]

        def open_(low: Tensor, high: Tensor) -> Tensor:
            return (high - low > precision) & (track.left[who] > 0)

        guess = torch.full((len(who),), first, dtype=torch.float64, device=who.device)
        widest(nearer, open_, most=1.0, guess=guess, steps=steps)
