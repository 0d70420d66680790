"""Means over seeds and data sets of result rows and of paired differences, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from labelleaks.experiments.jsonl import Row

__all__ = ["MeanOverSeeds", "Summary", "best_ceiling", "difference", "mean_of", "summaries"]

AttackKey = tuple[str, str, str, int]
"""(attack, variant, implementation, labels)"""
RATES = ("0.01", "0.001")


@dataclass(frozen=True)
class MeanOverSeeds:
    """A mean of independent measurements. Its interval: theirs, added in quadrature, each side by itself."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def signed(self) -> str:
        """As a difference: each number with its sign."""
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True)
class Summary:
    """One attack at one budget on one data set: the mean over seeds."""

    dataset: str
    key: AttackKey
    auc: MeanOverSeeds
    rates: dict[str, MeanOverSeeds | None]
    setup_labels: int
    references: int
    labels_mean: float
    n_members: int
    n_nonmembers: int
    seeds: tuple[int, ...]
    sees: str

    @property
    def name(self) -> str:
        attack, variant, implementation, _ = self.key
        words = f"{attack} ({variant})" if variant else attack
        return words if implementation in ("labelleaks", "posteriors") else f"{implementation}: {words}"

    @property
    def labels(self) -> int:
        return self.key[3]


def key_of(row: Row, side: str = "") -> AttackKey:
    """Return what tells attacks apart; ``side`` is ``"a_"`` or ``"b_"`` in a pair."""
    return (row[f"{side}attack"], row[f"{side}variant"], row[f"{side}implementation"], row[f"{side}labels"])


def mean_of(estimates: Iterable[dict[str, float] | None]) -> MeanOverSeeds | None:
    """Return the mean of these estimates, None where any of them is missing."""
    found = list(estimates)
    if not found or any(one is None for one in found):
        return None
    values = [one["value"] for one in found if one]
    low, high = (
        math.sqrt(sum((one[side] - one["value"]) ** 2 for one in found if one)) / len(found) for side in ("low", "high")
    )
    value = sum(values) / len(values)
    return MeanOverSeeds(value, value - low, value + high, len(values))


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Return the mean over seeds of every attack on every data set; of equal budgets the one on more candidates."""
    groups: dict[tuple[str, AttackKey, int, int], list[Row]] = {}
    for row in rows:
        size = (row["n_members"], round(row["n_nonmembers"], -2))  # parts that follow tracks differ by a few rows
        groups.setdefault((row["dataset"], key_of(row), *size), []).append(row)
    largest: dict[tuple[str, AttackKey], Summary] = {}
    for (dataset, key, *_), group in groups.items():
        found = _summary(dataset, key, group)
        known = largest.get((dataset, key))
        if known is None or known.n_members + known.n_nonmembers < found.n_members + found.n_nonmembers:
            largest[dataset, key] = found
    return list(largest.values())


def _summary(dataset: str, key: AttackKey, group: Sequence[Row]) -> Summary:
    auc = mean_of(row["auc"] for row in group)
    assert auc is not None
    return Summary(
        dataset=dataset,
        key=key,
        auc=auc,
        rates={rate: mean_of(row["tpr_at_fpr"][rate] for row in group) for rate in RATES},
        setup_labels=max(row["setup_labels"] for row in group),
        references=max(row["references"] for row in group),
        labels_mean=sum(row["labels_mean"] for row in group) / len(group),
        n_members=group[0]["n_members"],
        n_nonmembers=group[0]["n_nonmembers"],
        seeds=tuple(sorted(row["seed"] for row in group)),
        sees="posteriors" if key[2] == "posteriors" else "labels",
    )


def best_ceiling(found: Sequence[Summary], dataset: str) -> Summary | None:
    """Return LiRA-offline with the variance that gives it the higher AUC on this data set."""
    lira = [s for s in found if s.dataset == dataset and s.key[0] == "lira_offline"]
    return max(lira, key=lambda s: s.auc.value, default=None)


def difference(
    pairs: Sequence[Row], a: AttackKey, b: AttackKey, where: Callable[[Row], bool] = lambda _: True
) -> MeanOverSeeds | None:
    """Return the mean paired difference AUC(a) - AUC(b) over the worlds that have both."""
    of_both = [pair for pair in pairs if key_of(pair, "a_") == a and key_of(pair, "b_") == b and where(pair)]
    return mean_of(pair["difference"] for pair in of_both)
