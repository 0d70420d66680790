"""Worker side of the Ray engine: runs one task, fetches shared data once a process, reports progress."""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch

from labelleaks.engine.task import Failure, Shared, perform
from labelleaks.errors import LabelLeaksError

__all__ = ["Board", "do"]

_KEPT = 2000
"""Shared contents that a worker keeps at hand: a thousand models, and what attacks need besides."""
_EVERY = 0.3
"""Seconds between two reports of progress."""

_known: OrderedDict[str, Shared] = OrderedDict()


class Board:
    """An actor where workers leave their progress until the driver takes it."""

    def __init__(self) -> None:
        self._lines: list[Any] = []

    def put(self, line: Any) -> None:
        """Add a line of progress."""
        self._lines.append(line)

    def take(self) -> list[Any]:
        """Return the lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


class _BoardWatch:
    """A watch that counts, and tells the board so far now and then."""

    def __init__(self, index: tuple[int, int], board: Any) -> None:
        self._index, self._board, self._last = index, board, 0.0
        self.counts: dict[str, int] = {}

    def note(self, what: str, count: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + count
        if self._board is not None and time.monotonic() - self._last > _EVERY:
            self._last = time.monotonic()
            self._board.put.remote((self._index, dict(self.counts)))

    def part(self, share: float) -> None:
        return None


def do(
    index: tuple[int, int],
    work: str,
    spec: Mapping[str, Any],
    threads: int,
    wanted: Mapping[str, tuple[str, Sequence[Any]]],
    paths: Sequence[str],
    board: Any,
) -> tuple[Any, ...]:
    """Do one task.

    Args:
        index: which run, and which of its tasks.
        wanted: what is shared: key and, in a list of one, the reference to its content; a reference in a list is
            fetched here, and only where this process has not got it yet.
        paths: where the driver finds modules.
        board: an actor :class:`Board`, or None.

    Returns:
        ("done", counts, JSON types, arrays) or ("failed", counts, failure as a tuple); plain data.
    """
    sys.path.extend(path for path in paths if path not in sys.path and os.path.exists(path))
    watch = _BoardWatch(index, board)
    try:
        shared = {name: _fetched(key, reference) for name, (key, (reference,)) in wanted.items()}
        result = perform(work, spec, shared, threads, watch)
    except LabelLeaksError as error:
        return "failed", watch.counts, astuple(Failure.of(error))
    arrays = {name: value.detach().cpu().numpy() for name, value in result.arrays.items()}
    return "done", watch.counts, result.value, arrays


def _fetched(key: str, reference: Any) -> Shared:
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    import ray
    from ray import cloudpickle

    arrays, pickled, name, kept = ray.get(reference)
    thing = None if pickled is None else cloudpickle.loads(pickled)
    # Ray's arrays are read-only views of shared memory; torch wants to be able to write.
    shared = Shared({label: torch.from_numpy(np.array(array)) for label, array in arrays.items()}, thing, name, kept)
    if kept:
        _known[key] = shared
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return shared
