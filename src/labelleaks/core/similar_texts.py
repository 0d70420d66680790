"""Near-duplicates among texts: the same message in other letters, with other numbers, or with a word more or less."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["ALIKE", "LENGTH", "nearest_alike", "normalised"]

ALIKE = 0.6
"""Jaccard similarity of two texts' shingles from which on they are nearly equal. Texts that share a topic come to some
0.1, one of twenty words with a word changed to some 0.7; docs/text.md."""
LENGTH = 5
"""Characters of a shingle."""
_DIGITS, _SPACE = re.compile(r"\d+"), re.compile(r"\W+")
_PAIRS = 1 << 22  # pairs compared at a time


def normalised(text: str) -> str:
    """Return a text in small letters, each number as 0, words apart by one space: what a template's copies share."""
    return f" {_SPACE.sub(' ', _DIGITS.sub('0', text.casefold())).strip()} "


def nearest_alike(texts: Sequence[str], others: Sequence[str]) -> NDArray[np.int64]:
    """Return for each text the place of a most similar one among ``others``: int64 (n,); -1 where none is alike.

    Exact: two sets whose Jaccard similarity is at least :data:`ALIKE` share one of their rarest members, so only pairs
    that do are compared (prefix filtering: Chaudhuri, Ganti, Kaushik, ICDE 2006). A text of no letters is like none.
    """
    found = np.full(len(texts), -1, np.int64)
    if not len(texts) or not len(others):
        return found
    ranks = _ranks([*texts, *others])
    mine, theirs = ranks[: len(texts)], ranks[len(texts) :]
    width = 1 + max((int(row[-1]) for row in ranks if len(row)), default=0)
    whole = _matrix(theirs, width)
    rare = _matrix([_rarest(row) for row in theirs], width).T.tocsr()
    sizes = np.array([len(row) for row in theirs])
    at_once = max(1, _PAIRS // max(1, len(others)))
    for start in range(0, len(mine), at_once):
        part = mine[start : start + at_once]
        pairs = (_matrix([_rarest(row) for row in part], width) @ rare).tocoo()
        own, other = np.array([len(row) for row in part])[pairs.row], sizes[pairs.col]
        near = np.minimum(own, other) >= ALIKE * np.maximum(own, other)  # no others can be alike
        row, col = pairs.row[near], pairs.col[near]
        if not len(row):
            continue
        shared = np.asarray(_matrix(part, width)[row].multiply(whole[col]).sum(axis=1)).reshape(-1)
        alike = shared / np.maximum(own[near] + other[near] - shared, 1)
        order = np.lexsort((col, -alike, row))
        rows, first = np.unique(row[order], return_index=True)
        best = order[first]
        enough = alike[best] >= ALIKE
        found[start + rows[enough]] = col[best[enough]]
    return found


def _ranks(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Shingles of each text as ranks, the rarest first (of equally rare ones in the order of their letters)."""
    sets = [_shingles(text) for text in texts]
    times: dict[str, int] = {}
    for shingles in sets:
        for shingle in shingles:
            times[shingle] = times.get(shingle, 0) + 1
    rank = {shingle: i for i, shingle in enumerate(sorted(times, key=lambda shingle: (times[shingle], shingle)))}
    return [np.sort(np.array([rank[shingle] for shingle in shingles], np.int64)) for shingles in sets]


def _shingles(text: str) -> set[str]:
    plain = normalised(text)
    if not plain.strip():
        return set()
    return {plain[i : i + LENGTH] for i in range(max(1, len(plain) - LENGTH + 1))}


def _rarest(row: NDArray[np.int64]) -> NDArray[np.int64]:
    return row[: len(row) - int(np.ceil(ALIKE * len(row))) + 1]


def _matrix(rows: Sequence[NDArray[np.int64]], width: int) -> csr_array[Any, Any]:
    from scipy.sparse import csr_array  # slow to import

    starts = np.cumsum([0, *(len(row) for row in rows)])
    places = np.concatenate([*rows, np.zeros(0, np.int64)])
    return csr_array((np.ones(len(places), np.float64), places, starts), shape=(len(rows), width))
