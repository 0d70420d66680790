"""What was promised of guided, each as a statement that the results decide: holds, does not hold, or not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.power.summary import Row, Summary, difference, mean_of

__all__ = ["Bar", "bars"]

GUIDED = ("guided", "", "labelleaks")
LABELS = 20
"""The budget of the main claim."""
BOUNDARY = ("boundary", "", "labelleaks", 2500)
NAMED = ("dhattack", "oslo", "yoqo")


@dataclass(frozen=True)
class Bar:
    """One statement."""

    statement: str
    holds: bool | None
    """None: not measured."""
    figures: str

    @property
    def verdict(self) -> str:
        return "not measured" if self.holds is None else "holds" if self.holds else "does not hold"


def bars(rows: Sequence[Row], pairs: Sequence[Row], found: Sequence[Summary], apart: Sequence[Row] = ()) -> list[Bar]:
    """Decide every statement from the rows of the main table, the pairs, the means over seeds and the rows of other
    adversaries."""
    ours = [row for row in rows if _is(row, *GUIDED, LABELS)]
    return [
        _above_lira(ours, rows),
        *(_rate_above_lira(ours, rows, rate) for rate in ("0.01", "0.001")),
        _nowhere_below(ours, rows, pairs),
        _against_best_lira(ours, rows, apart),
        _above_boundary(pairs),
        _few_labels(found),
        *(_beaten(name, pairs) for name in NAMED),
    ]


def _is(row: Row, attack: str, variant: str, implementation: str, labels: int) -> bool:
    return (row["attack"], row["variant"], row["implementation"], row["labels"]) == (
        attack, variant, implementation, labels,
    )  # fmt: skip


def _lira(rows: Sequence[Row], world: Row) -> list[Row]:
    """Both variants of LiRA in the world of a row."""
    return [
        row
        for row in rows
        if row["attack"] == "lira_offline"
        and row["variant"] in ("fixed", "per_candidate")
        and (row["dataset"], row["seed"]) == (world["dataset"], world["seed"])
    ]


def _best(rows: Sequence[Row], pick: Any) -> float | None:
    found = [pick(row) for row in rows]
    values = [one["value"] for one in found if one]
    return max(values, default=None)


def _above_lira(ours: Sequence[Row], rows: Sequence[Row]) -> Bar:
    statement = (
        f"guided, {LABELS} labels: AUC at least 0.05 above posterior LiRA-offline, or 1 - AUC 15 % smaller where that "
        "is above 0.9; mean over data sets and seeds"
    )
    gains: dict[str, list[float]] = {}
    shrinks: dict[str, list[float]] = {}
    for row in ours:
        best = _best(_lira(rows, row), lambda r: r["auc"])
        if best is None:
            continue
        if best > 0.9:
            shrinks.setdefault(row["dataset"], []).append((1 - row["auc"]["value"]) / (1 - best))
        else:
            gains.setdefault(row["dataset"], []).append(row["auc"]["value"] - best)
    if not gains and not shrinks:
        return Bar(statement, None, "")
    figures, holds = [], True
    if gains:
        mean = _balanced(gains)
        figures.append(f"mean gain {mean:+.3f}: {_each(gains, '+.3f')}")
        holds &= mean >= 0.05
    if shrinks:
        mean = _balanced(shrinks)
        figures.append(f"where LiRA is above 0.9, 1 - AUC times {mean:.2f}: {_each(shrinks, '.2f')}")
        holds &= mean <= 0.85
    return Bar(statement, holds, "; ".join(figures))


def _rate_above_lira(ours: Sequence[Row], rows: Sequence[Row], rate: str) -> Bar:
    statement = f"guided, {LABELS} labels: TPR at {100 * float(rate):g} % FPR at least 1.25 times LiRA-offline's, means"
    guided: dict[str, list[float]] = {}
    lira: dict[str, list[float]] = {}
    for row in ours:
        best = _best(_lira(rows, row), lambda r: r["tpr_at_fpr"][rate])
        if best is not None and row["tpr_at_fpr"][rate] is not None:
            guided.setdefault(row["dataset"], []).append(row["tpr_at_fpr"][rate]["value"])
            lira.setdefault(row["dataset"], []).append(best)
    if not guided:
        return Bar(statement, None, "")
    figures = f"{_balanced(guided):.3f} ({_each(guided, '.3f')}) against {_balanced(lira):.3f} ({_each(lira, '.3f')})"
    return Bar(statement, _balanced(guided) >= 1.25 * _balanced(lira), figures)


def _balanced(found: Mapping[str, Sequence[float]]) -> float:
    """The mean over data sets of the means over seeds."""
    return sum(sum(values) / len(values) for values in found.values()) / len(found)


def _each(found: Mapping[str, Sequence[float]], form: str) -> str:
    return ", ".join(f"{name} {sum(values) / len(values):{form}}" for name, values in found.items())


def _nowhere_below(ours: Sequence[Row], rows: Sequence[Row], pairs: Sequence[Row]) -> Bar:
    statement = (
        f"guided, {LABELS} labels: on no data set below LiRA-offline beyond the interval (AUC, TPR at 1 and 0.1 %)"
    )
    below, judged = [], 0
    for dataset in dict.fromkeys(row["dataset"] for row in ours):
        here = [row for row in ours if row["dataset"] == dataset]
        for variant in ("fixed", "per_candidate"):
            gap = difference(pairs, (*GUIDED, LABELS), ("lira_offline", variant, "posteriors", 1),
                             lambda pair, d=dataset: pair["dataset"] == d)  # fmt: skip
            judged += gap is not None
            if gap is not None and gap.high < 0:
                below.append(f"{dataset} AUC {gap.value:+.3f} ({variant})")
        for rate in ("0.01", "0.001"):
            for variant in ("fixed", "per_candidate"):
                lira = [r for row in here for r in _lira(rows, row) if r["variant"] == variant]
                guided, other = (mean_of(r["tpr_at_fpr"][rate] for r in side) for side in (here, lira))
                if guided and other and guided.high < other.low:
                    below.append(f"{dataset} TPR at {rate}: {guided.value:.3f} against {other.value:.3f} ({variant})")
    return Bar(statement, (not below) if judged else None, "; ".join(below))


def _against_best_lira(ours: Sequence[Row], rows: Sequence[Row], apart: Sequence[Row]) -> Bar:
    statement = (
        f"guided, {LABELS} labels, with the references of every table here: AUC and TPR at 1 % FPR not below those of "
        "LiRA-offline with the references of the second table that suit LiRA best"
    )
    figures, holds = [], True
    for row in ours:
        world = (row["dataset"], row["seed"])
        others = [r for r in apart if r["attack"] == "lira_offline" and (r["dataset"], r["seed"]) == world]
        lira = [r for r in others if not r["target"]]  # the same target, other references
        if not lira:
            continue
        for name, pick in (("AUC", lambda r: r["auc"]), ("TPR", lambda r: r["tpr_at_fpr"]["0.01"])):
            best = max((*lira, *_lira(rows, row)), key=lambda r, p=pick: p(r)["value"])
            mine, theirs = pick(row)["value"], pick(best)["value"]
            figures.append(f"{world[0]} {name} {mine:.3f} against {theirs:.3f} ({best['variant']})")
            holds &= mine >= theirs
    return Bar(statement, holds if figures else None, "; ".join(figures))


def _above_boundary(pairs: Sequence[Row]) -> Bar:
    statement = (
        f"guided, {LABELS} labels: AUC at least 0.08 above our own boundary search at 2,500 labels (HopSkipJump; in "
        "tables pointwise), on every data set"
    )
    gaps = {
        name: difference(pairs, (*GUIDED, LABELS), BOUNDARY, lambda pair, name=name: pair["dataset"] == name)
        for name in dict.fromkeys(pair["dataset"] for pair in pairs)
    }
    found = {name: gap for name, gap in gaps.items() if gap is not None}
    if not found:
        return Bar(statement, None, "")
    figures = ", ".join(f"{name} {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})" for name, gap in found.items())
    return Bar(statement, all(gap.value >= 0.08 for gap in found.values()), figures)


def _few_labels(found: Sequence[Summary]) -> Bar:
    statement = "guided, 5 labels: AUC above every other attack at 50 labels or fewer, on every data set"
    losses, compared = [], 0
    for ours in (s for s in found if s.key == (*GUIDED, 5)):
        for other in found:
            if other.dataset == ours.dataset and other.sees == "labels" and other.labels <= 50:
                if other.key[0] in ("guided", "ladder"):
                    continue
                compared += 1
                if other.auc.value >= ours.auc.value:
                    losses.append(f"{other.dataset}: {other.name}, {other.labels} labels, {other.auc.value:.3f} "
                                  f"against {ours.auc.value:.3f}")  # fmt: skip
    return Bar(statement, None if not compared else not losses, "; ".join(losses) or f"{compared} comparisons")


def _beaten(name: str, pairs: Sequence[Row]) -> Bar:
    statement = f"{name} beaten by guided at its own budget (paired, beyond the interval), on every data set and budget"
    lost, worlds = [], 0
    groups = {
        (pair["dataset"], pair["a_labels"], pair["b_variant"], pair["b_labels"])
        for pair in pairs
        if pair["b_attack"] == name and pair["a_attack"] == "guided" and pair["a_labels"] <= pair["b_labels"]
    }
    for dataset, ours, variant, labels in sorted(groups):
        best = max(a for d, a, v, b in groups if (d, v, b) == (dataset, variant, labels))
        gap = difference(pairs, (*GUIDED, ours), (name, variant, "labelleaks", labels),
                         lambda pair, d=dataset: pair["dataset"] == d)  # fmt: skip
        if gap is None or ours != best:
            continue
        worlds += 1
        if gap.low <= 0:
            lost.append(f"{dataset}, {labels} labels: {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})")
    return Bar(statement, (not lost) if worlds else None, "; ".join(lost) or f"{worlds} comparisons")
