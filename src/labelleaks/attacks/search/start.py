"""A first input with another label for every candidate: from a pool that was labelled once, else by asking.

A start never comes from another candidate, so a candidate's distance does not depend on who else is audited.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track
from labelleaks.attacks.words import Words
from labelleaks.core import rng
from labelleaks.core.domains import SIDES, Layout, image_layout

__all__ = ["TRIES", "from_pool", "from_trials"]

TRIES = 100
"""Labels that a candidate spends at most to find a start (ART's default, as in Li & Zhang's code)."""
_POOL_BLOCK = 1024


@dataclass(frozen=True)
class Tuning:
    """Shares of the words of a text that are left out to find a start, by turns; not tuned."""

    left_out: tuple[float, ...] = (0.5, 0.8, 0.65, 0.9)


TUNING = Tuning()


def from_pool(track: Track, who: Tensor, pool: Tensor, labels: Tensor) -> None:
    """Give each candidate of ``who`` the nearest pool row (L2) with another label. Costs the candidates nothing.

    Args:
        track: where the starts go.
        who: int64 (k,).
        pool: float32 (p, *shape) inside the domain.
        labels: int64 (p,), the target's labels of the pool.
    """
    if len(who) == 0:
        return
    x = track.x[who].to(torch.float64)
    nearest = torch.full((len(who),), torch.inf, dtype=torch.float64, device=x.device)
    row = torch.full((len(who),), -1, dtype=torch.int64, device=x.device)
    rows = pool.reshape(len(pool), -1)
    for first in range(0, len(rows), _POOL_BLOCK):
        part = rows[first : first + _POOL_BLOCK].to(torch.float64)
        squares = part.square().sum(1)[None, :] - 2.0 * (x @ part.T) + x.square().sum(1)[:, None]
        # The bits of a matrix product depend on its shape: rounded, equal distances stay equal, and the first wins.
        squares = squares.to(torch.float32).to(torch.float64)
        squares[track.y[who][:, None] == labels[first : first + _POOL_BLOCK][None, :]] = torch.inf
        least, at = squares.min(1)
        nearer = least < nearest
        nearest = torch.where(nearer, least, nearest)
        row = torch.where(nearer, at + first, row)
    some = row >= 0
    track.offer(rows[row[some]], who[some])


def from_trials(track: Track, who: Tensor) -> None:
    """Ask one input after another until its label is another one: at most TRIES labels for each of ``who``."""
    for trial in _trials(track):
        who = who[~track.found[who] & (track.left[who] > 0)]
        if len(who) == 0:
            return
        track.ask(trial(who), who, "start")


class _Uniform:
    """Uniformly random inputs, from streams of the candidates' own; moved towards low or high values by ``shift``."""

    def __init__(self, track: Track, streams: Tensor, number: int, shift: float = 0.0) -> None:
        self._track, self._streams, self._number, self._shift = track, streams, number, shift

    def __call__(self, who: Tensor) -> Tensor:
        d = self._track.x.shape[1]
        u = (self.draws(who) + self._shift).clamp(0.0, _TOP)
        made = self._track.domain.from_uniform(u.reshape(len(who), *self._track.shape))
        return made.reshape(len(who), d)

    def draws(self, who: Tensor) -> Tensor:
        """Uniform draws: float32 (k, d)."""
        d = self._track.x.shape[1]
        return rng.uniform(self._streams[who], d, first=self._number * d)


class _Thinned:
    """The candidate without a random share of its words; of a table's other features as many are drawn anew."""

    def __init__(self, track: Track, streams: Tensor, words: Words, number: int, share: float) -> None:
        self._track, self._words, self._share = track, words, share
        self._order, self._drawn = _Uniform(track, streams, 2 * number), _Uniform(track, streams, 2 * number + 1)

    def __call__(self, who: Tensor) -> Tensor:
        x = self._track.x[who]
        out = self._order.draws(who) < self._share
        rows = torch.where(out, self._drawn(who), x)
        return torch.where(self._track.counted, self._words.without(x, out), rows)  # type: ignore[arg-type]


class _Corner:
    """One constant input: a share of the way from the lowest to the highest value of every feature."""

    def __init__(self, track: Track, share: float) -> None:
        u = torch.full((1, *track.shape), share, device=track.x.device)
        self._row = track.domain.from_uniform(u).reshape(1, -1)

    def __call__(self, who: Tensor) -> Tensor:
        return self._row.expand(len(who), -1)


class _Inverted:
    """The candidate with every feature mirrored between its bounds."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._sum = _Corner(track, 0.0)._row + _Corner(track, _TOP)._row

    def __call__(self, who: Tensor) -> Tensor:
        return self._sum - self._track.x[who]


class _Blurred:
    """The candidate, an image, averaged over windows of a share of its height and width."""

    def __init__(self, track: Track, layout: Layout, share: float) -> None:
        self._track, self._layout, self._share = track, layout, share

    def __call__(self, who: Tensor) -> Tensor:
        shape = self._track.shape
        images = self._track.x[who].reshape(len(who), *shape)
        for axis in SIDES[self._layout]:
            images = _averaged(images, axis + 1, max(1, round(self._share * shape[axis])))
        return images.reshape(len(who), -1)


_TOP = 1.0 - 2.0**-24  # the largest uniform draw


def _averaged(images: Tensor, axis: int, radius: int) -> Tensor:
    """Mean over 2 ``radius`` + 1 neighbours along an axis, the edge repeated; term by term, so exact in any batch."""
    index = torch.arange(images.shape[axis], device=images.device)
    total = torch.zeros_like(images)
    for step in range(-radius, radius + 1):
        total += images.index_select(axis, (index + step).clamp(0, images.shape[axis] - 1))
    return total / (2 * radius + 1)


def _trials(track: Track) -> Iterator[_Uniform | _Corner | _Inverted | _Blurred | _Thinned]:
    """Yield inputs to try, likely ones first: a random input, blurred, inverted, constants, then more random ones.

    A text begins at itself, without some of its words: any other one is far away.
    """
    streams = track.streams("start")
    words = Words.of(track.domain, track.shape)
    if words is not None:
        for number in range(TRIES):
            yield _Thinned(track, streams, words, number, TUNING.left_out[number % len(TUNING.left_out)])
        return
    yield _Uniform(track, streams, 0)
    spent = 1
    layout = image_layout(track.shape, track.domain.layout) if track.domain.continuous else None
    if layout is not None:
        for share in (0.15, 0.4):
            yield _Blurred(track, layout, share)
            spent += 1
    yield _Inverted(track)
    for share in (0.0, _TOP, 0.5):
        yield _Corner(track, share)
    for number in range(1, TRIES - spent - 3):
        yield _Uniform(track, streams, number, (0.0, 0.3, -0.3)[number % 3])
