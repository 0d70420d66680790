"""Counter of repeated queries: each one's turn, from 0, for any number of queries in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RepeatCounter"]

_Hashes = NDArray[np.uint64]
_NEWEST = 1 << 16
_RATIO = 8


class RepeatCounter:
    """Counts queries by eight bytes of their hash, so that the second answer to a query is told from its first.

    The newest are kept in a dictionary, the others in a few sorted runs: 8 bytes a query. Two queries that agree in
    these bytes (1 in 10⁵ runs of 10⁷ queries) count as one, in every equal run alike.
    """

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        self._runs: list[_Hashes] = []  # each at least _RATIO times as long as the next

    def take(self, hashes: _Hashes) -> NDArray[np.int64]:
        """Return how often each of m hashes came before, (m,), in this call or earlier ones; and count it."""
        turns = np.empty(len(hashes), dtype=np.int64)
        newest = self._newest
        for i, value in enumerate(hashes.tolist()):
            turns[i] = count = newest.get(value, 0)
            newest[value] = count + 1
        for run in self._runs:
            start = np.searchsorted(run, hashes)
            start[start == len(run)] = 0
            again = (run[start] == hashes).nonzero()[0]
            if len(again):  # as a rule nothing is
                turns[again] += np.searchsorted(run, hashes[again], side="right") - start[again]
        if len(newest) >= _NEWEST:
            self._settle()
        return turns

    def _settle(self) -> None:
        if not self._newest:
            return
        counts = np.fromiter(self._newest.values(), np.int64, len(self._newest))
        hashes = np.fromiter(self._newest, np.uint64, len(self._newest))
        self._runs.append(np.sort(np.repeat(hashes, counts)))
        self._newest = {}
        while len(self._runs) > 1 and len(self._runs[-2]) < _RATIO * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")  # of two runs: one pass
