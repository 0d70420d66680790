"""Orthogonal ±1 vectors: the rows of a Hadamard matrix, made when they are needed.

Votes on m random Gaussian directions find a normal in d dimensions up to cos² = a / (a + d), a = 2 m / π. Votes on m
*orthogonal* directions find cos² = a / d: at m = d that is 0.64 instead of 0.39, for the same labels. Since the entries
are ±1, sums of vectors are exact in any order (:mod:`labelleaks.core.batch_invariant`), and all candidates share one
matrix: a candidate has signs of its own for the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from labelleaks.core import rng

__all__ = ["Signs", "hadamard"]


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
