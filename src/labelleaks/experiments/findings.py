"""The paper's findings as checkable statements, and what the measured rows say about each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from pydantic import Field, model_validator

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.spec import AttackName, Strict, read_yaml
from labelleaks.experiments.studies.base import ContrastName, Study, contrasts

__all__ = [
    "HOLDS",
    "NOT",
    "OPEN",
    "Finding",
    "Findings",
    "Mean",
    "Verdict",
    "difference_of",
    "judge",
    "load_findings",
    "mean_of",
]

HOLDS = "holds"
NOT = "does not hold"
OPEN = "not decidable at this size"
_Z = 1.959964
Measured = tuple[Any, ...]
Pair = tuple[Measured, frozenset[tuple[str, int]]]
"""One run of an attack, and two of its rows: (variant, labels) each."""


class Side(Strict):
    """Rows of the results, by attack, variant and labels."""

    attack: AttackName
    variants: tuple[str, ...] = ("",)
    """the first of them that a data set has"""
    size: Literal["each", "smallest", "largest"] = "each"
    labels: Literal["most", "least"] = "most"


class Finding(Strict):
    """``first`` compared with ``second`` (None: with an AUC of 0.5), target by target; or what a study found."""

    id: str
    statement: str
    source: str
    evidence: Literal["read", "computed", "recollected", "ours"]
    """read in an abstract or the authors' code; follows from it; a recollection, which has a direction and no figure; a
    statement of ours"""
    first: Side | None = None
    second: Side | None = None
    study: ContrastName | None = None
    """the difference that a study shows, in place of two AUCs: see :func:`studies.contrasts.contrasts`"""
    claim: Literal["more", "no more", "close"] = "more"
    margin: float = Field(default=0.0, ge=0)
    """AUC, or unit of the study, by which "no more" may be passed, "close" may differ, and "more" must be more"""

    @model_validator(mode="after")
    def _one_of_two(self) -> Finding:
        if (self.first is None) == (self.study is None) or (self.second is not None and self.first is None):
            raise ValueError("a finding compares rows (first, second) or names a study, not both")
        return self


class Findings(Strict):
    """Content of ``expected.yaml``."""

    findings: tuple[Finding, ...]
    unmeasured: tuple[str, ...] = ()
    """Findings that this grid has no rows for yet."""


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval and the number of seeds behind it."""

    value: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Verdict:
    """Verdict of one data set under one protocol on a finding."""

    dataset: str
    protocol: str
    verdict: str
    difference: Mean
    """AUC of first minus second, or what the study measures"""


def load_findings(path: Path) -> Findings:
    """Read ``expected.yaml``. Raises SpecError."""
    return read_yaml(Findings, path)


def judge(finding: Finding, rows: Sequence[Row], studies: Sequence[Study] = ()) -> list[Verdict]:
    """Return a verdict for each data set and protocol that has the rows; none: no verdicts.

    Where a study has compared the two rows candidate by candidate, its interval counts. Else both sides are taken as
    independent, though they share candidates: an interval is rather too wide than too narrow.
    """
    paired = _paired(studies)
    verdicts = []
    heads = [one.head for one in studies]
    for dataset, protocol in sorted({(row["dataset"], row["protocol"]) for row in (*rows, *heads)}):
        if finding.study is None:
            here = [row for row in rows if (row["dataset"], row["protocol"]) == (dataset, protocol)]
            pairs = list(_pairs(finding, here, paired))
        else:
            pairs = list(_studied(finding.study, [one for one in studies if one.world[:2] == (dataset, protocol)]))
        if pairs:
            difference = _mean(pairs)
            verdicts.append(Verdict(dataset, protocol, _verdict(finding, difference), difference))
    return verdicts


def overall(verdicts: Iterable[Verdict]) -> str:
    """A finding holds where it holds on some data and fails on none; one failure is a failure."""
    kinds = {one.verdict for one in verdicts}
    return NOT if NOT in kinds else HOLDS if HOLDS in kinds else OPEN


def mean_of(rows: Sequence[Row]) -> Mean:
    """Return the mean AUC of rows that differ in their seed; the interval ends at 0 and 1."""
    mean = _mean([(row["seed"], row["auc"]["value"], _error(row)) for row in rows if row["auc"]])
    return Mean(mean.value, max(0.0, mean.low), min(1.0, mean.high), mean.seeds)


def difference_of(first: Sequence[Row], second: Sequence[Row]) -> Mean:
    """Return the mean difference of AUCs over seeds, row by row, both sides as if they were independent.

    Args:
        first, second: one row a seed, the same seeds in the same order.
    """
    return _mean(
        [
            (one["seed"], one["auc"]["value"] - other["auc"]["value"], math.hypot(_error(one), _error(other)))
            for one, other in zip(first, second, strict=True)
        ]
    )


def _verdict(finding: Finding, d: Mean) -> str:
    margin = finding.margin
    if finding.claim == "close":
        return HOLDS if -margin <= d.low and d.high <= margin else NOT if d.low > margin or d.high < -margin else OPEN
    more = HOLDS if d.low > margin else NOT if d.high < margin else OPEN
    if finding.claim == "more":
        return more
    return HOLDS if d.high <= margin else NOT if d.low > margin else OPEN


def _studied(name: ContrastName, studies: Sequence[Study]) -> Iterator[tuple[int, float, float]]:
    """The same of studies; of an interval that is not symmetric the wider side counts on both."""
    for study, one in contrasts(name, studies):
        yield study.head["seed"], one["value"], _half(one)


def _pairs(finding: Finding, rows: Sequence[Row], paired: Mapping[Pair, float]) -> Iterator[tuple[int, float, float]]:
    """For each seed and size: seed, difference of AUCs, its standard error."""
    assert finding.first is not None
    first = _chosen(finding.first, rows)
    second = None if finding.second is None else _chosen(finding.second, rows)
    for (seed, size), row in first.items():
        if second is None:
            yield seed, row["auc"]["value"] - 0.5, _error(row)
            continue
        alone = finding.second is not None and "each" in (finding.first.size, finding.second.size)
        for (other_seed, other_size), other in second.items():
            if other_seed == seed and (other_size == size or not alone):
                apart = math.hypot(_error(row), _error(other))
                error = paired.get(
                    _pair(row, [(row["variant"], row["labels"]), (other["variant"], other["labels"])]), apart
                )
                error = error if _measured(row) == _measured(other) else apart
                if other is not row:
                    yield seed, row["auc"]["value"] - other["auc"]["value"], error


def _measured(row: Row) -> Measured:
    """Return what rows of one run of an attack have in common."""
    return (
        *(row[key] for key in ("dataset", "protocol", "target_size", "seed", "attack", "n_members", "n_nonmembers")),
    )


def _pair(row: Row, sides: Iterable[tuple[str, int]]) -> Pair:
    return _measured(row), frozenset(sides)


def _paired(studies: Sequence[Study]) -> dict[Pair, float]:
    """Standard errors of differences that were measured on the same candidates."""
    return {
        _pair(study.head, [(variant, labels) for variant, labels in (point["first"], point["second"])]): _half(
            point["difference"]
        )
        for study in studies
        if study.name == "paired"
        for point in study.points
    }


def _half(of: Mapping[str, float]) -> float:
    """Standard error from an interval; of one that is not symmetric the wider side counts."""
    return max(of["value"] - of["low"], of["high"] - of["value"]) / _Z


def _chosen(side: Side, rows: Sequence[Row]) -> dict[tuple[int, int], Row]:
    """Rows by seed and size."""
    mine = [row for row in rows if row["attack"] == side.attack and row["auc"] is not None]
    variant = next((v for v in side.variants if any(row["variant"] == v for row in mine)), None)
    mine = [row for row in mine if row["variant"] == variant]
    if mine and side.size != "each":
        end = (min if side.size == "smallest" else max)(row["target_size"] for row in mine)
        mine = [row for row in mine if row["target_size"] == end]
    mine = _at_shared_labels(mine)
    best: dict[tuple[int, int], Row] = {}
    turn = 1 if side.labels == "most" else -1
    for row in sorted(mine, key=lambda row: (turn * row["labels"], row["n_members"])):
        best[row["seed"], row["target_size"]] = row  # the last one stays
    return best


def _at_shared_labels(rows: Sequence[Row]) -> list[Row]:
    """Rows at label counts that every seed and size has: a target that was asked more often is compared like the
    others. All rows where there is no such count."""
    counts: dict[tuple[int, int], set[int]] = {}
    for row in rows:
        counts.setdefault((row["seed"], row["target_size"]), set()).add(row["labels"])
    shared = set.intersection(*counts.values()) if counts else set()
    return [row for row in rows if not shared or row["labels"] in shared]


def _error(row: Row) -> float:
    """Standard error of an AUC, from its interval."""
    return float(row["auc"]["high"] - row["auc"]["low"]) / (2 * _Z)


def _mean(samples: Sequence[tuple[int, float, float]]) -> Mean:
    """Mean over seeds of (seed, value, standard error).

    Targets of one seed share rows, so within a seed errors are averaged, not reduced. Between seeds the larger of two
    errors counts: that of the seeds' own intervals, and that of their spread.
    """
    seeds = sorted({seed for seed, _, _ in samples})
    values = [fmean(value for s, value, _ in samples if s == seed) for seed in seeds]
    errors = [fmean(error for s, _, error in samples if s == seed) for seed in seeds]
    error = math.sqrt(sum(e * e for e in errors)) / len(seeds)
    if len(seeds) > 1:
        error = max(error, stdev(values) / math.sqrt(len(seeds)))
    value = fmean(values)
    return Mean(value, value - _Z * error, value + _Z * error, len(seeds))
