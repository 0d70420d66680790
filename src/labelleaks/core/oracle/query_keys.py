"""Queries by what they hold: one array of keys for a batch, how often each was asked, and what was answered."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["KEY", "Answers", "Keys", "RepeatCounter", "digests", "keys_of"]


def digests(x: Tensor) -> list[bytes]:
    """Return a 16-byte BLAKE2b key of each row's exact float32 bytes and its shape.

    Args:
        x: (m, *shape), any device; converted to float32.

    Returns:
        m keys, equal for rows that are equal bit for bit.
    """
    if len(x) == 0:
        return []
    rows = x.detach().to("cpu", torch.float32).reshape(len(x), -1).contiguous().numpy()
    start = hashlib.blake2b(repr(tuple(x.shape[1:])).encode(), digest_size=16)
    keys = []
    for row in rows:
        digest = start.copy()
        digest.update(row.data)
        keys.append(digest.digest())
    return keys


KEY = np.dtype([("high", "<u8"), ("low", "<u8"), ("turn", "<u4")])
"""A query: both halves of the 16-byte hash of its float32 bytes and shape, and how often it was asked before."""

Keys = NDArray[np.void]
"""(m,) of :data:`KEY`, 20 bytes each."""

_ODD = np.uint64(0x9E3779B97F4A7C15)
_NEWEST = 1 << 16
_RATIO = 8


def keys_of(x: Tensor, counter: RepeatCounter | None = None) -> Keys:
    """Return the key of each row.

    Args:
        x: (m, *shape), any device.
        counter: how often each row was asked before; counted here. None: every row is asked for the first time.
    """
    keys = np.zeros(len(x), dtype=KEY)
    halves = np.frombuffer(b"".join(digests(x)), dtype="<u8").reshape(len(x), 2)
    keys["high"], keys["low"] = halves[:, 0], halves[:, 1]
    if counter is not None:
        keys["turn"] = counter.take(keys["high"])
    return keys


class Answers:
    """The label of each key, in memory: the newest in a dictionary, the others in sorted runs of 20 bytes a key."""

    def __init__(self) -> None:
        self._newest: dict[bytes, int] = {}
        self._runs: list[_SortedKeys] = []  # each at least _RATIO times as long as the next

    def __len__(self) -> int:
        self._settle()
        both = [np.stack([run.place, run.low], axis=1) for run in self._runs]
        return len(np.unique(np.concatenate(both), axis=0)) if both else 0

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the label of each key, (m,); -1 where there is none."""
        get = self._newest.get
        labels = np.array([get(name, -1) for name in _names(keys)], dtype=np.int64)
        if self._runs and len(keys):
            place, low = _spread(keys)
            for run in reversed(self._runs):  # what was recorded first is said last
                run.find_into(labels, place, low)
        return labels

    def add(self, keys: Keys, labels: NDArray[np.int32]) -> None:
        """Keep the labels (codes from 0) of these keys; the first label of a key stays."""
        keep = self._newest.setdefault
        for name, label in zip(_names(keys), labels.tolist(), strict=True):
            keep(name, label)
        if len(self._newest) >= _NEWEST:
            self._settle()

    def _settle(self) -> None:
        if not self._newest:
            return
        keys = np.frombuffer(b"".join(self._newest), dtype=KEY)
        self._runs.append(_SortedKeys(*_spread(keys), np.fromiter(self._newest.values(), np.int32, len(keys))))
        self._newest = {}
        while len(self._runs) > 1 and len(self._runs[-2]) < _RATIO * len(self._runs[-1]):
            self._join_last()

    def _join_last(self) -> None:
        newer = self._runs.pop()
        older = self._runs.pop()
        parts = ((getattr(older, name), getattr(newer, name)) for name in ("place", "low", "labels"))
        self._runs.append(_SortedKeys(*map(np.concatenate, parts)))


class _SortedKeys:
    """Keys in the order of their place; of equal ones the first."""

    def __init__(self, place: NDArray[np.uint64], low: NDArray[np.uint64], labels: NDArray[np.int32]) -> None:
        order = np.argsort(place, kind="stable")  # of two sorted runs: one pass
        place, low = place[order], low[order]
        again = np.zeros(len(place), dtype=np.bool_)
        again[1:] = (place[1:] == place[:-1]) & (low[1:] == low[:-1])
        if again.any():
            place, low, order = place[~again], low[~again], order[~again]
        self.place, self.low, self.labels = place, low, labels[order]

    def __len__(self) -> int:
        return len(self.place)

    def find_into(self, labels_out: NDArray[np.int64], place: NDArray[np.uint64], low: NDArray[np.uint64]) -> None:
        """Write the label of each key that is here."""
        at = np.searchsorted(self.place, place)
        at[at == len(self)] = 0
        hits = (self.place[at] == place).nonzero()[0]
        while len(hits):  # as a rule once; again where two keys agree in 8 bytes
            here = at[hits]
            same = (self.place[here] == place[hits]) & (self.low[here] == low[hits])
            labels_out[hits[same]] = self.labels[here[same]]
            at[hits] = np.minimum(here + 1, len(self) - 1)
            hits = hits[~same & (self.place[here] == place[hits]) & (here + 1 < len(self))]


def _names(keys: Keys) -> list[bytes]:
    names: list[bytes] = np.ascontiguousarray(keys).view(f"V{KEY.itemsize}").tolist()
    return names


def _spread(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two halves that tell keys apart; a further turn of a query has another place."""
    return keys["high"] ^ keys["turn"] * _ODD, keys["low"]


_Hashes = NDArray[np.uint64]


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
