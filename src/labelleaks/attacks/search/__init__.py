"""Searches for the nearest input with another label, and the one loop that drives them.

A search is one file with a class that has ``init``, ``cost``, ``step`` and ``finish`` (:class:`Search`). It asks for
labels through a :class:`Track`, which owns the budget, the best point so far, the trajectory and the status of every
candidate; :func:`run` does the rest.
"""

from labelleaks.attacks.search.driver import Search, Track, run

__all__ = ["Search", "Track", "run"]
