"""Input and output of a study, and committed studies, read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.spec import MeasureSpec, StudySpec
from labelleaks.experiments.stages import Stage
from labelleaks.experiments.store import Results
from labelleaks.experiments.work import Bench
from labelleaks.metrics import Estimate

__all__ = [
    "ContrastName",
    "Interval",
    "Study",
    "StudyInput",
    "StudyResult",
    "contrasts",
    "difference_of_means",
    "mean",
    "plain",
    "read_studies",
]


StudyResult = tuple[Row, list[Row]]
"""What a study adds to its head, and its points."""
Interval = dict[str, float]
"""value, low, high: 95 %."""


@dataclass(frozen=True, eq=False)
class StudyInput:
    """One study on one world."""

    bench: Bench
    need: Stage
    """The scores that it reads, or the target."""
    study: StudySpec
    measure: MeasureSpec | None

    @property
    def attacked(self) -> MeasureSpec:
        """The measure whose scores it reads."""
        assert self.measure is not None
        return self.measure


def plain(value: float, low: float, high: float) -> Interval:
    """Five digits."""
    return {
        key: round(float(number), 5) + 0.0
        for key, number in zip(("value", "low", "high"), (value, low, high), strict=True)
    }


def estimate(metric: Estimate) -> Interval:
    """The same of a metric that has a value and an interval."""
    assert metric.value is not None and metric.low is not None and metric.high is not None
    return plain(metric.value, metric.low, metric.high)


def mean(values: NDArray[np.float64]) -> Interval:
    """Mean with Student's interval; at least 2 values."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return plain(values.mean(), values.mean() - half, values.mean() + half)


def difference_of_means(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """Mean of ``first`` minus mean of ``second``, with Welch's interval; at least 2 values each."""
    from scipy.stats import t

    parts = [values.var(ddof=1) / len(values) for values in (first, second)]
    value, both = float(first.mean() - second.mean()), float(sum(parts))
    if both == 0:
        return plain(value, value, value)
    freedom = both**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    half = float(t.ppf(0.975, freedom)) * both**0.5
    return plain(value, value - half, value + half)


@dataclass(frozen=True, eq=False)
class Study:
    """One study of one world: what came out, and the points of its figure."""

    head: Row
    points: Sequence[Row]

    @property
    def name(self) -> str:
        return str(self.head["study"])

    @property
    def world(self) -> tuple[str, str, int, int]:
        """Data set, protocol, size of the training set, seed."""
        return self.head["dataset"], self.head["protocol"], self.head["target_size"], self.head["seed"]


def read_studies(folder: Path, profile: str) -> list[Study]:
    """Return the studies of a profile, those of one data set and protocol together, larger targets first."""
    studies = [Study(row, row["points"]) for row in Results(folder, profile).rows()]
    return sorted(studies, key=lambda one: (*one.world[:2], -one.world[2], one.world[3], one.name, one.head["of"]))


ContrastName = Literal["radius", "percentile", "memguard-labels", "memguard-posteriors"]


def contrasts(name: ContrastName, studies: Sequence[Study]) -> Iterator[tuple[Study, Interval]]:
    """Yield the difference that each study of the right kind shows.

    radius: mean certified radius of members minus that of non-members.
    percentile: largest minus smallest F1 of the percentiles t = 1 … 99, for each kind of random inputs.
    memguard-labels: share of label-only scores that MemGuard changes; without an interval, it is counted.
    memguard-posteriors: AUC of an attack on posteriors behind MemGuard, minus that of the same attack given labels; of
    the same candidates, without an interval too.
    """
    for study in studies:
        for difference in _OF[name](study):
            yield study, difference


def _radius(study: Study) -> Iterator[Interval]:
    if study.name == "radius":
        yield study.head["difference"]


def _percentile(study: Study) -> Iterator[Interval]:
    if study.name == "percentile":
        yield from (about["spread"] for about in study.head["inputs"].values() if "spread" in about)


def _labels(study: Study) -> Iterator[Interval]:
    if study.name == "memguard" and not _by_variant(study, "one_hot"):
        scores, same = (sum(point[key] for point in study.points) for key in ("scores", "identical"))
        changed = 1 - same / scores
        yield {"value": changed, "low": changed, "high": changed}


def _posteriors(study: Study) -> Iterator[Interval]:
    if study.name == "memguard":
        for with_posteriors, with_labels in zip(_by_variant(study, ""), _by_variant(study, "one_hot"), strict=False):
            behind, labels = with_posteriors["behind"], with_labels["without"]
            value = behind["value"] - labels["value"]  # of the same candidates
            yield {"value": value, "low": value, "high": value}


def _by_variant(study: Study, variant: str) -> list[dict[str, Interval]]:
    return [dict(point) for point in study.points if point["variant"] == variant]


_OF: Mapping[ContrastName, Callable[[Study], Iterator[Interval]]] = {
    "radius": _radius,
    "percentile": _percentile,
    "memguard-labels": _labels,
    "memguard-posteriors": _posteriors,
}
