"""The page's section on the two protocols: what the authors' rules make of the same attack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labelleaks import data
from labelleaks.experiments.findings import Mean, difference_of, mean_of
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.tables import Key, at_most_sizes, cell, labels_seen, measured_at, name_of_attack

__all__ = ["protocols"]

_ABOUT = (
    "`authors` is the published way, faults included: the target's checkpoint is the one with the best accuracy on the "
    "non-members, candidates whose search failed are dropped, and related rows (frames of one physical sign in GTSRB) "
    "may be members and non-members at once. `clean` keeps the last epoch and every candidate, and related rows on one "
    "side. The two have other splits and other targets, so that a difference holds the rules and the luck of the draw; "
    "its interval takes both as independent. Only seeds that both have are in this table, each attack at its most "
    "labels."
)


@dataclass(frozen=True)
class _BothProtocols:
    """One attack on one data set and size, under both protocols, seed by seed."""

    theirs: list[Row]
    ours: list[Row]

    @property
    def difference(self) -> Mean:
        return difference_of(self.theirs, self.ours)

    @property
    def apart(self) -> bool:
        return self.difference.low > 0 or self.difference.high < 0


def protocols(rows: Sequence[Row]) -> str:
    """Return the section: both protocols side by side, with the difference and its interval; "" where one is missing.

    Args:
        rows: of all data sets and protocols.
    """
    lines, pairs = [], []
    for dataset in sorted({row["dataset"] for row in rows}):
        here = [row for row in rows if row["dataset"] == dataset]
        theirs, ours = ([row for row in here if row["protocol"] == name] for name in ("authors", "clean"))
        for size in sorted({row["target_size"] for row in theirs} & {row["target_size"] for row in ours}, reverse=True):
            title = f"{data.card(dataset).title} | {size:,}"
            lines.append(f"| {title} | *accuracy: train / test* | | {_both_accuracies(theirs, ours, size)} | |")
            for key, pair in _pairs(theirs, ours, size):
                lines.append(f"| {title} | {name_of_attack(*key[:2])} | {labels_seen(key)} | {_cells(pair)} |")
                pairs.append(pair)
    if not pairs:
        return ""
    apart = sum(pair.apart for pair in pairs)
    higher = sum(pair.apart and pair.difference.value > 0 for pair in pairs)
    summary = (
        f"In {apart} of {len(pairs)} rows the interval of the difference leaves out 0 (in bold): in {higher} of them "
        f"the attack looks stronger under `authors`, in {apart - higher} weaker."
    )
    head = "| data | members | attack | labels | authors | clean | authors − clean; seeds |\n"
    head += "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    return (
        f"## The authors' protocol beside the clean one\n\n{_ABOUT}\n\n{summary}\n\n{head}\n" + "\n".join(lines) + "\n"
    )


def _pairs(theirs: Sequence[Row], ours: Sequence[Row], size: int) -> Iterator[tuple[Key, _BothProtocols]]:
    here = [row for row in theirs if row["target_size"] == size]
    for (attack, variant), labels in at_most_sizes(here).items():
        key = (attack, variant, labels)
        sides = [{row["seed"]: row for row in measured_at(side, key, size) if row["auc"]} for side in (theirs, ours)]
        shared = sorted(sides[0].keys() & sides[1].keys())
        if shared and "=" not in variant:
            yield key, _BothProtocols(*([side[seed] for seed in shared] for side in sides))


def _cells(pair: _BothProtocols) -> str:
    d = pair.difference
    difference = f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
    difference = f"**{difference}**" if pair.apart else difference
    return f"{cell(mean_of(pair.theirs))} | {cell(mean_of(pair.ours))} | {difference}; {d.seeds}"


def _both_accuracies(theirs: Sequence[Row], ours: Sequence[Row], size: int) -> str:
    """Train and test accuracy of the targets that both protocols have a seed of."""
    by_seed = [{row["seed"]: row for row in side if row["target_size"] == size} for side in (theirs, ours)]
    shared = by_seed[0].keys() & by_seed[1].keys()
    if not shared:
        return " | "
    means = [
        [sum(side[seed][name] for seed in shared) / len(shared) for name in ("train_accuracy", "test_accuracy")]
        for side in by_seed
    ]
    return " | ".join(f"{train:.3f} / {test:.3f}" for train, test in means)
