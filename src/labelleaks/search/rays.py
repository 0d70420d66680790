"""RayS in L∞: search the corners of a cube around the candidate, flipping blocks of signs.

Source: Chen & Gu, "RayS: A Ray Searching Method for Hard-label Adversarial Attack", KDD 2020 (arXiv 2006.12792): a sign
vector s, and r(s) the least distance at which x + r s has another label. Blocks of s, halves, quarters, eighths, ...,
are flipped one after another; one label at the present r tells whether r(s') < r, and where it is, r is bisected. No
start is needed: at the largest r the points are corners of the domain. What differs here:

* a flip has to gain: it is asked a little below r, so that a block without influence is not taken for progress, and
  the bisection begins at that gain instead of at r / 2;
* blocks of an image are squares (runs along a Z-order curve), not stripes of rows;
* given a start, the first ray is the one towards its corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.search.bisect import widest
from labelleaks.search.drive import Track
from labelleaks.search.exact import row_max
from labelleaks.search.start import TRIES

__all__ = ["Rays", "RaysState", "blocks"]

FLIPS = 64  # labels for flips in a step
LENGTHEN = 3  # labels for a first ray that is too short
FIRST = 10  # labels for the length of the first ray
REFINE = 3  # labels for the length of a ray after a flip
FINISH = 6  # labels kept for the last projection
GAIN = 0.25  # of what a flip of a block this large gains on average: asked for


@dataclass(eq=False)
class RaysState:
    """What the search knows; rows for all candidates of the track."""

    sign: Tensor
    """float32 (n, d), s: ±1"""
    r: Tensor
    """float64 (n,): a length at which x + r s has another label"""


class Rays:
    """The search for Box domains in L∞.

    Args:
        shape: of a row; (H, W) and (C, H, W) are images.
        iterations: steps of FLIPS flips at most.
    """

    def __init__(self, shape: tuple[int, ...], *, iterations: int) -> None:
        self.iterations = iterations
        self._order, self._levels = blocks(shape)

    @property
    def most(self) -> int:
        """Labels after the start that a candidate can spend at most."""
        return LENGTHEN + FIRST + self.iterations * FLIPS * (1 + REFINE) + FINISH

    def cost(self, iteration: int) -> int:
        return 1 + FINISH

    def start(self, track: Track, who: Tensor) -> None:
        """Ask corners of the domain until one has another label: TRIES labels for each of ``who`` at most."""
        span = row_max(track.domain.span(track.shape).reshape(1, -1)).to(track.x.device)
        sign = torch.ones_like(track.x[:1])
        for number in range(TRIES):
            who = who[~track.found[who] & (track.left[who] > 0)]
            if len(who) == 0:
                return
            pattern = sign if number == 0 else sign * self._flip(number - 1).to(sign.device)
            track.ask(track.x[who] + span * pattern, who, "start")

    def init(self, track: Track, who: Tensor) -> RaysState:
        offset = track.point - track.x
        sign = torch.where(offset < 0, -1.0, 1.0)
        r = row_max(offset.abs()).to(torch.float64)
        state = RaysState(sign, r)
        self._lengthen(track, state, who)
        rows = who[(track.left[who] > FINISH) & (state.r[who] > 0)]
        guess = torch.full((len(rows),), 0.5, dtype=torch.float64, device=rows.device)
        self._shorten(track, state, rows, guess=guess, precision=1e-3, steps=FIRST)
        return state

    def step(self, track: Track, state: RaysState, who: Tensor, iteration: int) -> Tensor:
        first = (iteration - 1) * FLIPS
        for number in range(first, first + FLIPS):
            rows = who[(track.left[who] > FINISH) & (state.r[who] > 0)]
            if len(rows) == 0:
                break
            self._try(track, state, rows, number)
        return state.r[who] == 0

    def finish(self, track: Track, state: RaysState, who: Tensor) -> None:
        rows = who[state.r[who] > 0]
        guess = torch.full((len(rows),), 1e-2, dtype=torch.float64, device=rows.device)
        self._shorten(track, state, rows, guess=guess, precision=1e-6, steps=FINISH)

    def _flip(self, number: int) -> Tensor:
        """Flip ``number`` of the endless list of blocks, halves first: ±1, float32 (1, d)."""
        level, block = self._block(number)
        sizes = self._levels[level]
        start = sum(sizes[:block])
        made = torch.ones(1, len(self._order))
        made[0, self._order[start : start + sizes[block]]] = -1.0
        return made

    def _block(self, number: int) -> tuple[int, int]:
        number %= sum(len(sizes) for sizes in self._levels)
        for level, sizes in enumerate(self._levels):
            if number < len(sizes):
                return level, number
            number -= len(sizes)
        raise AssertionError

    def _gain(self, number: int) -> float:
        level, _ = self._block(number)
        return GAIN / len(self._levels[level])

    def _try(self, track: Track, state: RaysState, who: Tensor, number: int) -> None:
        """Flip a block where that brings the boundary nearer."""
        sign = state.sign[who] * self._flip(number).to(who.device)
        gain = self._gain(number)
        r = state.r[who] * (1.0 - gain)
        _, wrong = track.ask(_point(track, who, r, sign), who, "flip")
        hit = who[wrong]
        state.sign[hit] = sign[wrong]
        state.r[hit] = r[wrong]
        rows = hit[track.left[hit] > FINISH]
        guess = torch.full((len(rows),), gain, dtype=torch.float64, device=rows.device)
        self._shorten(track, state, rows, guess=guess, precision=gain / 4, steps=REFINE)

    def _shorten(
        self, track: Track, state: RaysState, who: Tensor, *, guess: Tensor, precision: float, steps: int
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
        """Double the rays until they have another label; r = 0 where they never have: those end at their start."""
        same = _point(track, who, state.r[who], state.sign[who]) == track.point[who]
        short = who[~same.all(1)]
        for _ in range(LENGTHEN):
            able = track.left[short] > FINISH
            state.r[short[~able]] = 0.0
            short = short[able]
            if len(short) == 0:
                return
            _, wrong = track.ask(_point(track, short, state.r[short], state.sign[short]), short, "ray")
            short = short[~wrong]
            state.r[short] *= 2.0
        state.r[short] = 0.0


def _point(track: Track, who: Tensor, r: Tensor, sign: Tensor) -> Tensor:
    return track.project(track.x[who] + r.to(torch.float32)[:, None] * sign)


def blocks(shape: tuple[int, ...]) -> tuple[Tensor, list[list[int]]]:
    """Lay the features of a row along a line, and cut it into halves, quarters, ..., single features.

    Returns:
        The features' places in the row in the order of the line, int64 (d,): along a Z-order curve through the pixels
        of an image, a pixel's channels together; and the sizes of each level's blocks.
    """
    index = torch.arange(torch.Size(shape).numel()).reshape(shape)
    if len(shape) in (2, 3):
        planes = index if len(shape) == 3 else index[None]
        rows, columns = torch.meshgrid(torch.arange(shape[-2]), torch.arange(shape[-1]), indexing="ij")
        code = torch.zeros_like(rows)
        for bit in range(max(shape[-2:]).bit_length()):
            code |= ((rows >> bit) & 1) << (2 * bit + 1) | ((columns >> bit) & 1) << (2 * bit)
        order = planes.flatten(1)[:, code.reshape(-1).argsort()].T.reshape(-1)
    else:
        order = index.reshape(-1)
    return order, list(_levels(len(order)))


def _levels(d: int) -> Iterator[list[int]]:
    """Sizes of 1, 2, 4, ... blocks of nearly equal size that make up ``d``, the last of size 1 each."""
    count = 1
    while True:
        count = min(2 * count, d)
        yield [d * (k + 1) // count - d * k // count for k in range(count)]
        if count == d:
            return
