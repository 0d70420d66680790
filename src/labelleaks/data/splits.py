"""Splits into members, non-members and the adversary's rows: the paper's, and a clean one beside it.

``authors`` deals the rows out as the published code does, faults included, so that numbers can be compared: official
training part only; one permutation; the target's training sets are its beginning (each holds the smaller ones), the
non-members its end, the shadow rows what lies between the largest training set and them. Frames of one physical sign,
or two equal rows, may lie on both sides; the checkpoint is the one with the best accuracy on the non-members; searches
that fail are dropped. Source: ``main.py`` and ``utils.py`` of the authors' published code (arXiv 2007.15528v1).

``clean`` mends that: rows that belong together stay on one side, of equal rows one is kept, the last checkpoint is
used, failed searches are kept, and non-members are as many as the data allow up to 10,000, so that low false-positive
rates can be measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from labelleaks.core import rng
from labelleaks.data.cards import Labels, card
from labelleaks.data.dataset import Dataset
from labelleaks.errors import InputError

__all__ = ["PROTOCOLS", "LabelLeaksSplit", "SplitProtocol", "label_leaks_split"]

_NONMEMBERS = 10_000
"""non-members at most under ``clean``: enough for a TPR at 0.1 % FPR (LiRA, section on metrics)"""
_SHARE = 4
"""under ``clean``, of the groups of a class one in so many goes to the target's side, as many to the non-members'"""


@dataclass(frozen=True)
class SplitProtocol:
    """Rules of a split for the whole experiment."""

    name: str
    parts: str
    together: str
    nonmembers: str
    checkpoint: Literal["best on the non-members", "last"]
    failed_searches: Literal["dropped", "kept"]


PROTOCOLS = {
    "authors": SplitProtocol(
        name="authors",
        parts="official training part",
        together="related and equal rows may lie on both sides",
        nonmembers="as published",
        checkpoint="best on the non-members",
        failed_searches="dropped",
    ),
    "clean": SplitProtocol(
        name="clean",
        parts="both parts; where rows are related, those whose relations are known",
        together="related rows on one side, equal rows once",
        nonmembers=f"up to {_NONMEMBERS:,}, at most a third of what the target leaves",
        checkpoint="last",
        failed_searches="kept",
    ),
}


@dataclass(frozen=True, eq=False)
class LabelLeaksSplit:
    """Rows of a data set by what they are for. The three parts are disjoint; order is part of the split."""

    dataset: str
    protocol: SplitProtocol
    seed: int
    sizes: tuple[int, ...]
    """Sizes of the target's training sets, largest first: M-0, M-1, …"""
    target: Labels
    """int64 (sizes[0],): the largest training set. The one of size n is its first n rows."""
    test: Labels
    """int64 (t,): non-members, trained on by nobody."""
    shadow: Labels
    """int64 (s,): what the adversary has."""
    unused: int
    """Rows that are in no part: the other official part, equal rows, rows related to another side."""

    def members(self, size: int, most: int | None = None) -> Labels:
        """Return the training set of ``size`` rows, or the first ``most`` of it: those that are scored.

        Raises:
            InputError: ``size`` is none of ``sizes``.
        """
        if size not in self.sizes:
            raise InputError(f"{self.dataset}: no training set of {size} rows in this split, only of {self.sizes}")
        return self.target[: size if most is None else min(size, most)]

    def nonmembers(self, most: int | None = None) -> Labels:
        """Return all non-members, or the last ``most`` of them: those that are scored."""
        return self.test if most is None else self.test[max(0, len(self.test) - most) :]

    def candidates(self, size: int, most: int | None = None) -> tuple[Labels, Labels]:
        """Return the members and the non-members that are scored, at most ``most`` of each; as many of both under
        ``authors`` (min(size, most) each, as published)."""
        members, others = self.members(size, most), self.nonmembers(most)
        if self.protocol.name == "authors":
            fewer = min(len(members), len(others))
            return members[:fewer], others[len(others) - fewer :]
        return members, others

    @property
    def smallest_fpr(self) -> float:
        """The lowest false-positive rate that can be told from 0 with all non-members."""
        return 1 / len(self.test)

    def describe(self) -> dict[str, Any]:
        """Sizes and rules, as JSON types."""
        return {
            "dataset": self.dataset,
            "protocol": vars(self.protocol),
            "seed": self.seed,
            "sizes": list(self.sizes),
            "test": len(self.test),
            "shadow": len(self.shadow),
            "unused": self.unused,
            "smallest_fpr": self.smallest_fpr,
        }


def label_leaks_split(
    dataset: Dataset,
    sizes: Sequence[int] | None = None,
    test: int | None = None,
    seed: int = 1,
    *,
    protocol: Literal["authors", "clean"] = "authors",
) -> LabelLeaksSplit:
    """Deal the rows of ``dataset`` out.

    Args:
        sizes: of the target's training sets; None: the paper's, or ours where it has none (``Card.sizes``).
        test: number of non-members; None: the paper's, under ``clean`` as many as the data allow up to 10,000.
        seed: 1 is the authors'. Another seed deals other rows.

    Raises:
        InputError: an unknown protocol, sizes that are no positive whole numbers, or more rows asked for than there
            are.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    wanted = tuple(sorted(card(dataset.name).sizes.targets if sizes is None else sizes, reverse=True))
    if not wanted or wanted[-1] < 1 or len(set(wanted)) < len(wanted):
        raise InputError(f"sizes: different whole numbers of at least 1 are needed, got {sizes}")
    if test is not None and test < 1:
        raise InputError(f"test: at least one non-member is needed, got {test}")
    if protocol == "authors":
        test = card(dataset.name).sizes.test if test is None else test
        target, others, shadow = _authors(dataset, wanted[0], test, seed)
    else:
        target, others, shadow = _clean(dataset, wanted[0], test, seed)
    return LabelLeaksSplit(
        dataset=dataset.name,
        protocol=PROTOCOLS[protocol],
        seed=seed,
        sizes=wanted,
        target=_frozen(target),
        test=_frozen(others),
        shadow=_frozen(shadow),
        unused=len(dataset) - len(target) - len(others) - len(shadow),
    )


def _authors(dataset: Dataset, largest: int, test: int, seed: int) -> tuple[Labels, Labels, Labels]:
    rows = np.flatnonzero(dataset.split == 0)
    _check_enough(dataset, len(rows), largest, test)
    np.random.RandomState(seed).shuffle(rows)  # what the authors call, with their seed: the same permutation
    return rows[:largest], rows[len(rows) - test :], rows[largest : len(rows) - test]


def _clean(dataset: Dataset, largest: int, test: int | None, seed: int) -> tuple[Labels, Labels, Labels]:
    draw = np.random.default_rng(rng.seed_from(seed, f"clean split of {dataset.name}"))
    rows = _first_of_equals(dataset)
    if dataset.groups is None:
        order = draw.permutation(rows)
        count = min(_NONMEMBERS, max(1, (len(rows) - largest) // 3)) if test is None else test
        _check_enough(dataset, len(rows), largest, count)
        return order[:largest], order[largest : largest + count], order[largest + count :]
    rows = rows[dataset.groups[rows] >= 0]
    side = _sides(dataset, rows, draw)
    mine, others, shadow = (draw.permutation(rows[side == part]) for part in range(3))
    count = min(_NONMEMBERS, len(others)) if test is None else test
    for what, have, need in (("members", len(mine), largest), ("non-members", len(others), count)):
        if have < need:
            raise InputError(
                f"{dataset.name}: {need} {what} asked for, but a quarter of its groups has {have} rows: ask for fewer"
            )
    return mine[:largest], others[:count], shadow


def _sides(dataset: Dataset, rows: Labels, draw: np.random.Generator) -> Labels:
    """For each row 0 (target), 1 (non-members) or 2 (shadow): whole groups, dealt out class by class.

    Dealing by class keeps the classes equally frequent among members and non-members; a class of fewer than four groups
    has too few to be on both sides and goes to the shadow rows.
    """
    assert dataset.groups is not None
    groups, first = np.unique(dataset.groups[rows], return_index=True)
    label = dataset.y[rows][first]
    side_of = np.full(len(groups), 2, dtype=np.int64)
    for y in np.unique(label):
        dealt = draw.permutation(np.flatnonzero(label == y))
        share = len(dealt) // _SHARE
        side_of[dealt[:share]] = 0
        side_of[dealt[share : 2 * share]] = 1
    return side_of[np.searchsorted(groups, dataset.groups[rows])]


def _first_of_equals(dataset: Dataset) -> Labels:
    """Rows without those that equal an earlier one, value by value."""
    seen: set[bytes] = set()
    kept = []
    for row in range(len(dataset)):
        key = hashlib.blake2b(np.ascontiguousarray(dataset.x[row]).data, digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _check_enough(dataset: Dataset, have: int, largest: int, test: int) -> None:
    if have <= largest + test:
        raise InputError(
            f"{dataset.name}: {largest} members and {test} non-members leave nothing of {have} rows for the shadow "
            "model: ask for fewer"
        )


def _frozen(rows: Labels) -> Labels:
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    rows.setflags(write=False)
    return rows
