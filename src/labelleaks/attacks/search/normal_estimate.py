"""The boundary's normal from a few labels, by probes whose signs are rows of a Hadamard matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track
from labelleaks.attacks.search.subspaces import Space, Whole
from labelleaks.core import rng
from labelleaks.core.batch_invariant import to_grid

__all__ = ["Ballot", "Signs", "hadamard", "normal"]


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


def _characters(q: int) -> Tensor:
    """The quadratic characters of 0 … q - 1 modulo the prime q: 0, then 1 for squares and -1 for the others."""
    found = torch.full((q,), -1.0)
    found[torch.arange(1, q) ** 2 % q] = 1.0
    found[0] = 0.0
    return found


@lru_cache(maxsize=16)
def _block(order: int) -> Tensor:
    """A Hadamard matrix of order 1, 2, 12, 20 (Paley I) or 28 (Paley II)."""
    if order == 1:
        return torch.ones(1, 1)
    if order == 2:
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    q = 13 if order == 28 else order - 1
    index = torch.arange(q)
    core = _characters(q)[(index[None, :] - index[:, None]) % q]
    bordered = torch.ones(q + 1, q + 1)
    bordered[0, 0] = 0.0
    bordered[1:, 1:] = core
    identity = torch.eye(q + 1)
    if order == 28:
        return torch.kron(bordered, _block(2)) + torch.kron(identity, torch.tensor([[1.0, -1.0], [-1.0, -1.0]]))
    bordered[1:, 0] = -1.0
    return bordered + identity


def _factors(width: int) -> tuple[list[int], list[int]]:
    """Orders of blocks for two factors of similar size whose product is the least Hadamard order >= ``width``."""
    best: tuple[int, int, int, int] | None = None
    for a in (1, 12, 20, 28):
        for b in (1, 12, 20, 28):
            twos = 0
            while a * b << twos < width:
                twos += 1
            best = min(best, (a * b << twos, a, b, twos)) if best else (a * b << twos, a, b, twos)
    assert best is not None
    left, right = [best[1]], [best[2]]
    sizes = [best[1], best[2]]
    for _ in range(best[3]):
        shorter = 0 if sizes[0] <= sizes[1] else 1
        (left, right)[shorter].append(2)
        sizes[shorter] *= 2
    return left, right


def _kronecker(orders: list[int]) -> Tensor:
    made = torch.ones(1, 1)
    for order in orders:
        made = torch.kron(made, _block(order))
    return made


def hadamard(width: int) -> tuple[Tensor, Tensor]:
    """Return two matrices whose Kronecker product is a Hadamard matrix of the least order >= ``width`` made of
    2, 12, 20 and 28 (at most a few percent above ``width`` where that is large; exact for 784 and 3,072)."""
    left, right = _factors(width)
    return _kronecker(left), _kronecker(right)


class Signs:
    """±1 vectors of ``width`` entries, orthogonal to each other in runs of ``order`` >= width.

    Vector k of a candidate is row k modulo ``order`` times the candidate's column signs of pass k // ``order``.

    Args:
        streams: int64 (n,), the candidates' random streams.
        width: length of the vectors.
        seed: of the order of the rows, which all candidates share.
    """

    def __init__(self, streams: Tensor, width: int, seed: int) -> None:
        left, right = hadamard(width)
        self._left, self._right = left.to(streams.device), right.to(streams.device)
        self.width = width
        self.order = len(left) * len(right)
        generator = torch.Generator().manual_seed(rng.seed_from(seed, "order of sign vectors"))
        self._order = torch.randperm(self.order, generator=generator).to(streams.device)
        self._streams = streams

    def columns(self, who: Tensor, turn: int) -> Tensor:
        """Return the column signs of candidates ``who`` in pass ``turn``: ±1, float32 (k, width)."""
        return rng.signs(self._streams[who], self.width, first=turn * self.width)

    def rows(self, first: int, count: int) -> Tensor:
        """Return rows ``first`` … ``first + count - 1`` of the shared matrix: ±1, float32 (count, width)."""
        index = self._order[first : first + count]
        outer = self._left[index // len(self._right)][:, :, None] * self._right[index % len(self._right)][:, None, :]
        return outer.reshape(count, self.order)[:, : self.width].contiguous()

    def windows(self, first: int, count: int, most: int) -> Iterator[tuple[int, int, int]]:
        """Cut vectors ``first`` … into (pass, first row, number) with at most ``most`` rows each."""
        end = first + count
        while first < end:
            row = first % self.order
            size = min(end - first, self.order - row, most)
            yield first // self.order, row, size
            first += size
