"""How often each query was asked before: its turn, counted from 0, for any number of queries in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Turns"]

_Hashes = NDArray[np.uint64]


class Turns:
    """Counts queries by their key, so that the second answer to a query is told from its first.

    Eight bytes of each key are kept, in a few sorted runs that are merged as they grow: 8 bytes a query. Two keys that
    agree in these bytes (1 in 10⁵ runs of 10⁷ queries) count as one, in every equal run alike.
    """

    def __init__(self) -> None:
        self._runs: list[_Hashes] = []

    def take(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Return how often each key came before, (m,), in this call or earlier ones; and count it.

        Args:
            keys: m keys of 16 bytes.
        """
        hashes = np.frombuffer(b"".join(keys), dtype="<u8").reshape(len(keys), 2)[:, 0].astype(np.uint64)
        order = np.argsort(hashes, kind="stable")
        batch = hashes[order]
        turns = np.arange(len(batch)) - np.searchsorted(batch, batch, side="left")  # among the equal ones here
        for run in self._runs:
            turns += np.searchsorted(run, batch, side="right") - np.searchsorted(run, batch, side="left")
        self._keep(batch)
        found = np.empty(len(batch), dtype=np.int64)
        found[order] = turns
        return found

    def _keep(self, batch: _Hashes) -> None:
        self._runs.append(batch)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")
