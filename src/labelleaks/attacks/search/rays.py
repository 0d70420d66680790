"""RayS in L∞: search the corners of a cube around the candidate, flipping blocks of signs.

Source: Chen & Gu, "RayS: A Ray Searching Method for Hard-label Adversarial Attack", KDD 2020 (arXiv 2006.12792): a sign
vector s, and r(s) the least distance at which x + r s has another label. Blocks of s, halves, quarters, eighths, ...,
are flipped one after another; one label at the present r tells whether r(s') < r, and where it is, r is bisected. No
start is needed: at the largest r the points are corners of the domain. What differs here:

* a flip has to gain: it is asked a little below r, so that a block without influence is not taken for progress, and
  the bisection begins at that gain instead of at r / 2; how much is asked adapts to what succeeds;
* a ray is bisected for a few labels after a flip, and to the end only when the labels run out;
* given a start, the first ray is the one towards its corner; without one, corners of stripes are tried before noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track, widest
from labelleaks.attacks.search.start import from_trials
from labelleaks.core.batch_invariant import row_max

__all__ = ["Rays", "RaysState"]


@dataclass(frozen=True)
class Tuning:
    """Constants of RayS.

    ``gain``, ``up`` and ``down`` were chosen on 24 candidates of CIFAR-10 and a CNN, at 50 and 200 labels (gains of
    0.1, 0.25 and 0.5 were tried: design/0002-boundary-search.md); no table of the others was kept.
    """

    corners: int = 12
    """Labels for corners before other starts."""
    flips: int = 64
    """Labels for flips in a step."""
    lengthen: int = 3
    """Labels for a first ray that is too short."""
    first_ray: int = 10
    """Labels for the length of the first ray."""
    refine: int = 3
    """Labels for the length of a ray after a flip."""
    finish: int = 10
    """Labels kept for the last projection."""
    gain: float = 0.5
    """What is asked of a flip first, times the number of blocks."""
    up: float = 1.1
    """What is asked after a flip that gained, times what was asked."""
    down: float = 0.985
    """The same after a flip that did not gain."""
    least_gain: float = 0.01
    """What is asked of a flip at least."""
    most_gain: float = 0.7
    """What is asked of a flip at most."""


TUNING = Tuning()


@dataclass(eq=False)
class RaysState:
    """State of the search; rows for all candidates of the track."""

    sign: Tensor
    """float32 (n, d), s: ±1"""
    r: Tensor
    """float64 (n,): a length at which x + r s has another label"""
    gain: Tensor
    """float64 (n,): the share of r that a flip has to gain, times the number of blocks that are as large"""


class Rays:
    """The search for continuous domains, such as a Box, in L∞.

    Args:
        shape: of a row; blocks are stripes of the flat row, as in the original: squares of an image, all of a pixel's
            channels together, found less.
        iterations: steps of ``TUNING.flips`` flips at most.
    """

    def __init__(self, shape: tuple[int, ...], *, iterations: int) -> None:
        self.iterations = iterations
        self._levels = list(_levels(math.prod(shape)))

    @property
    def most(self) -> int:
        """Labels beyond those of other starts that a candidate can spend at most."""
        steps = self.iterations * TUNING.flips * (1 + TUNING.refine)
        return 2 * TUNING.corners + TUNING.lengthen + TUNING.first_ray + steps + TUNING.finish

    def cost(self, iteration: int) -> int:
        return 1 + TUNING.finish

    def start(self, track: Track, who: Tensor) -> None:
        """Ask corners of the domain, then what other searches start from, until something has another label."""
        span = row_max(track.domain.span(track.shape).reshape(1, -1)).to(track.x.device)
        for number in range(TUNING.corners):
            rows = who[~track.found[who] & (track.left[who] > 0)]
            if len(rows) == 0:
                return
            track.ask(track.x[rows] + span * self._corner(number).to(span.device), rows, "start")
        from_trials(track, who)

    def _corner(self, number: int) -> Tensor:
        """All high, all low, then a level's blocks by turns high and low, and the other way: ±1, float32 (1, d)."""
        level, turned = divmod(number, 2)
        edges = self._levels[min(level, len(self._levels)) - 1] if level else [0, self._levels[0][-1]]
        turns = 1.0 - 2.0 * (torch.arange(len(edges) - 1) % 2)
        made = turns.repeat_interleave(torch.tensor(edges).diff())[None]
        return -made if turned else made

    def init(self, track: Track, who: Tensor) -> RaysState:
        offset = track.point - track.x
        sign = torch.where(offset < 0, -1.0, 1.0)
        r = row_max(offset.abs()).to(torch.float64)
        state = RaysState(sign, r, torch.full_like(r, TUNING.gain))
        self._lengthen(track, state, who)
        rows = who[(track.left[who] > TUNING.finish) & (state.r[who] > 0)]
        guess = torch.full((len(rows),), 0.5, dtype=torch.float64, device=rows.device)
        self._shorten(track, state, rows, guess=guess, precision=1e-3, steps=TUNING.first_ray)
        return state

    def step(self, track: Track, state: RaysState, who: Tensor, iteration: int) -> Tensor:
        first = (iteration - 1) * TUNING.flips
        for number in range(first, first + TUNING.flips):
            rows = who[(track.left[who] > TUNING.finish) & (state.r[who] > 0)]
            if len(rows) == 0:
                break
            self._try(track, state, rows, number)
        return state.r[who] == 0

    def finish(self, track: Track, state: RaysState, who: Tensor) -> None:
        rows = who[state.r[who] > 0]
        guess = torch.full((len(rows),), 1e-2, dtype=torch.float64, device=rows.device)
        self._shorten(track, state, rows, guess=guess, precision=1e-6, steps=TUNING.finish)

    def _flip(self, number: int) -> Tensor:
        """Flip ``number`` of the endless list of blocks, halves first: ±1, float32 (1, d)."""
        level, block = self._block(number)
        edges = self._levels[level]
        made = torch.ones(1, edges[-1])
        made[0, edges[block] : edges[block + 1]] = -1.0
        return made

    def _block(self, number: int) -> tuple[int, int]:
        number %= sum(len(edges) - 1 for edges in self._levels)
        for level, edges in enumerate(self._levels):
            if number < len(edges) - 1:
                return level, number
            number -= len(edges) - 1
        raise AssertionError

    def _blocks(self, number: int) -> int:
        return len(self._levels[self._block(number)[0]]) - 1

    def _try(self, track: Track, state: RaysState, who: Tensor, number: int) -> None:
        """Flip a block where that brings the boundary nearer."""
        sign = state.sign[who] * self._flip(number).to(who.device)
        gain = state.gain[who] / self._blocks(number)
        r = state.r[who] * (1.0 - gain)
        _, wrong = track.ask(_point(track, who, r, sign), who, "flip")
        asked = state.gain[who] * torch.where(wrong, TUNING.up, TUNING.down)
        state.gain[who] = asked.clamp(TUNING.least_gain, TUNING.most_gain)
        hit = who[wrong]
        state.sign[hit] = sign[wrong]
        state.r[hit] = r[wrong]
        rows = hit[track.left[hit] > TUNING.finish]
        guess = gain[wrong][track.left[hit] > TUNING.finish]
        self._shorten(track, state, rows, guess=guess, precision=guess / 4, steps=TUNING.refine)

    def _shorten(
        self, track: Track, state: RaysState, who: Tensor, *, guess: Tensor, precision: float | Tensor, steps: int
    ) -> None:
        """Make the rays shorter as far as the label stays another one, up to a relative ``precision``."""
        if len(who) == 0:
            return
        r = state.r[who]

        def holds(share: Tensor, i: Tensor) -> Tensor:
            length = r[i] * (1.0 - share)
            _, wrong = track.ask(_point(track, who[i], length, state.sign[who[i]]), who[i], "ray")
            state.r[who[i[wrong]]] = length[wrong]
            return wrong

        def open_(low: Tensor, high: Tensor) -> Tensor:
            return (high - low > precision) & (track.left[who] > 0)

        widest(holds, open_, most=1.0, guess=guess, steps=steps)

    def _lengthen(self, track: Track, state: RaysState, who: Tensor) -> None:
        """Double the rays until they have another label; where they never have, begin at a corner instead, or end."""
        same = _point(track, who, state.r[who], state.sign[who]) == track.point[who]
        short = who[~same.all(1)]
        for _ in range(TUNING.lengthen):
            able = track.left[short] > TUNING.finish
            state.r[short[~able]] = 0.0
            short = short[able]
            if len(short) == 0:
                return
            _, wrong = track.ask(_point(track, short, state.r[short], state.sign[short]), short, "ray")
            short = short[~wrong]
            state.r[short] *= 2.0
        self._from_corners(track, state, short)

    def _from_corners(self, track: Track, state: RaysState, who: Tensor) -> None:
        """Take a corner of the domain with another label for a first ray; r = 0 where none is found."""
        state.r[who] = 0.0
        span = row_max(track.domain.span(track.shape).reshape(1, -1)).to(track.x.device)
        for number in range(TUNING.corners):
            who = who[(state.r[who] == 0) & (track.left[who] > TUNING.finish)]
            if len(who) == 0:
                return
            corner = self._corner(number).to(span.device)
            hit = who[track.ask(track.x[who] + span * corner, who, "ray")[1]]
            state.sign[hit] = corner
            state.r[hit] = span.to(torch.float64)


def _point(track: Track, who: Tensor, r: Tensor, sign: Tensor) -> Tensor:
    return track.project(track.x[who] + r.to(torch.float32)[:, None] * sign)


def _levels(d: int) -> Iterator[list[int]]:
    """Yield the first features of 2, 4, 8, ... nearly equal blocks, and the end; at last a block is a feature."""
    count = 1
    while True:
        count = min(2 * count, d)
        yield [d * k // count for k in range(count + 1)]
        if count == d:
            return
