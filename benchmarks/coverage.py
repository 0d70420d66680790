"""How often the intervals of labelleaks.metrics hold the truth, by simulation.

    python -m benchmarks.coverage [--runs 2000] [--keep]

Every scenario is a pair of populations whose true AUC and true TPR at each FPR are known in closed form. Reported for
each: how often the nominal 95 % interval held it, and its average width. TPR at FPR is set beside two other ways: the
plain Clopper-Pearson interval at the estimated threshold, and the simple joint one (a fixed split of the error between
an order-statistic bound on the threshold and Clopper-Pearson).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import stats
from scipy.special import betaincinv

from benchmarks.tables import keep
from labelleaks import metrics
from labelleaks.metrics.estimates import Floats

Draw = Callable[[Generator, int], Floats]

ALPHA = 0.05
SIZES = ((1000, 1000), (500, 500), (200, 200), (100, 100), (100, 1000), (1000, 100), (1000, 10_000))
FPRS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Scenario:
    """Two populations."""

    members: Draw
    nonmembers: Draw
    tpr: Callable[[float], float]
    """Population TPR at the last population threshold with FPR <= the argument."""
    auc: float


def shifted(by: float) -> Scenario:
    """Normal scores, members ``by`` standard deviations higher."""
    normal = stats.norm
    return Scenario(
        lambda r, n: r.normal(by, 1, n),
        lambda r, n: r.normal(0, 1, n),
        lambda f: float(normal.sf(normal.isf(f) - by)),
        float(normal.cdf(by / math.sqrt(2))),
    )


def levels(members: list[float], nonmembers: list[float]) -> Scenario:
    """Discrete scores 0, 1, 2, ... with these weights, lowest first."""
    p, q = (np.array(weights, dtype=np.float64) / sum(weights) for weights in (members, nonmembers))

    def tpr(f: float) -> float:
        admitted = np.cumsum(q[::-1]) <= f + 1e-12
        return float(p[::-1][admitted].sum())

    ordered = sum(p[i] * (q[:i].sum() + q[i] / 2) for i in range(len(p)))
    return Scenario(
        lambda r, n: np.searchsorted(np.cumsum(p)[:-1], r.random(n), "right").astype(np.float64),
        lambda r, n: np.searchsorted(np.cumsum(q)[:-1], r.random(n), "right").astype(np.float64),
        tpr,
        float(ordered),
    )


def cliff(at: float, below: float, above: float) -> Scenario:
    """The worst case for a threshold: the population's TPR leaps from ``below`` to ``above`` just past FPR ``at``."""

    def draw(r: Generator, n: int) -> Floats:
        part = r.random(n)
        high, middle = r.uniform(1 - at / 2, 1, n), r.uniform(1 - at - 1e-6, 1 - at, n)
        return np.where(part < below, high, np.where(part < above, middle, r.uniform(0, 1 - at - 1e-6, n)))

    return Scenario(draw, lambda r, n: r.random(n), lambda f: below if f == at else math.nan, math.nan)


SCENARIOS: dict[str, Scenario] = {
    "no leak, normal": shifted(0),
    "normal + 0.5": shifted(0.5),
    "normal + 1": shifted(1),
    "normal + 3": shifted(3),
    "wider members": Scenario(
        lambda r, n: r.normal(0, 3, n),
        lambda r, n: r.normal(0, 1, n),
        lambda f: float(stats.norm.sf(stats.norm.isf(f) / 3)),
        0.5,
    ),
    "heavy tails": Scenario(
        lambda r, n: 2 + r.standard_cauchy(n),
        lambda r, n: r.standard_cauchy(n),
        lambda f: float(stats.cauchy.sf(stats.cauchy.isf(f) - 2)),
        float(stats.cauchy.cdf(1)),
    ),
    "skewed": Scenario(
        lambda r, n: 3 * r.exponential(1, n), lambda r, n: r.exponential(1, n), lambda f: f ** (1 / 3), 0.75
    ),
    "10 % exposed": Scenario(
        lambda r, n: np.where(r.random(n) < 0.1, 50 + r.random(n), r.normal(0, 1, n)),
        lambda r, n: r.normal(0, 1, n),
        lambda f: 0.1 + 0.9 * f,
        0.55,
    ),
    "gap (2 values)": levels([5, 95], [20, 80]),
    "7 values": levels([20, 20, 20, 15, 10, 10, 5], [40, 20, 20, 11, 5, 3.2, 0.8]),
    "7 values, exact FPRs": levels([20, 20, 20, 15, 10, 10, 5], [40, 20, 20, 10, 9, 0.9, 0.1]),
    "rounded normal": Scenario(
        lambda r, n: np.round(r.normal(1, 1, n), 1),
        lambda r, n: np.round(r.normal(0, 1, n), 1),
        lambda f: float(stats.norm.sf(_rounded_cut(f) - 1)),
        math.nan,
    ),
    "cliff at 10 %": cliff(0.1, 0.3, 0.9),
    "cliff at 1 %": cliff(0.01, 0.3, 0.9),
}


def _rounded_cut(f: float) -> float:
    """Lower edge of the lowest bin of width 0.1 above which at most ``f`` of a standard normal lies."""
    return math.ceil((stats.norm.isf(f) - 0.05) * 10 - 1e-9) / 10 + 0.05 if f < 0.5 else math.nan


def plain(members: Floats, nonmembers: Floats, fpr: float) -> tuple[float, float]:
    """Clopper-Pearson at the estimated threshold, as if it were known."""
    m, rank = len(members), math.floor(fpr * len(nonmembers) + 1e-9)
    k = int((members > np.sort(nonmembers)[::-1][rank]).sum())
    return _low(k, m, ALPHA / 2), _high(k, m, ALPHA / 2)


def simple(members: Floats, nonmembers: Floats, fpr: float) -> tuple[float, float]:
    """A quarter of the error for each side of the threshold and of Clopper-Pearson."""
    m, n, each = len(members), len(nonmembers), ALPHA / 4
    descending = np.sort(nonmembers)[::-1]
    most, least = int(stats.binom.ppf(1 - each, n, fpr)), int(stats.binom.ppf(each, n, fpr))
    above = m if most >= n else int((members > descending[most]).sum())
    inside = 0 if least == 0 else int((members > descending[least - 1]).sum())
    return _low(inside, m, each), _high(above, m, each)


def _low(k: int, n: int, error: float) -> float:
    return float(betaincinv(k, n - k + 1, error)) if k > 0 else 0.0


def _high(k: int, n: int, error: float) -> float:
    return float(betaincinv(k + 1, n - k, 1 - error)) if k < n else 1.0


def ours(members: Floats, nonmembers: Floats, fpr: float) -> tuple[float, float]:
    scores = np.concatenate([members, nonmembers])
    found = metrics.tpr_at_fpr(scores, np.arange(len(scores)) < len(members), fpr)
    assert found.low is not None and found.high is not None
    return found.low, found.high


def tpr_rows(runs: int) -> list[dict[str, Any]]:
    rows = []
    for m, n in SIZES:
        for fpr in FPRS:
            if n * fpr < 1:
                continue
            for name, scenario in SCENARIOS.items():
                truth = scenario.tpr(fpr)
                if math.isnan(truth):
                    continue
                rows.append(_tpr_row(name, scenario, m, n, fpr, truth, runs if n <= 1000 else runs // 4))
    return rows


def _tpr_row(name: str, scenario: Scenario, m: int, n: int, fpr: float, truth: float, runs: int) -> dict[str, Any]:
    generator = np.random.default_rng([m, n, int(fpr * 1e6), len(name)])
    ways = {"ours": ours, "simple": simple, "plain": plain}
    held, width = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    for _ in range(runs):
        members, nonmembers = scenario.members(generator, m), scenario.nonmembers(generator, n)
        for way, interval in ways.items():
            low, high = interval(members, nonmembers, fpr)
            held[way] += low <= truth <= high
            width[way] += high - low
    row: dict[str, Any] = {"scenario": name, "members": m, "nonmembers": n, "fpr": fpr, "truth": round(truth, 5)}
    for way in ways:
        row[way] = {"coverage": round(held[way] / runs, 4), "width": round(width[way] / runs, 5)}
    return row


def auc_rows(runs: int) -> list[dict[str, Any]]:
    rows = []
    cases = {**SCENARIOS, "normal + 4": shifted(4), "gap, rare": levels([1, 99], [10, 90])}
    for m, n in (*SIZES[:6], (50, 50), (20, 20)):
        member = np.arange(m + n) < m
        for name, scenario in cases.items():
            if math.isnan(scenario.auc):
                continue
            generator = np.random.default_rng([m, n, len(name)])
            held, width = 0, 0.0
            for _ in range(runs):
                scores = np.concatenate([scenario.members(generator, m), scenario.nonmembers(generator, n)])
                found = metrics.auc(scores, member)
                held += found.low <= scenario.auc <= found.high  # type: ignore[operator]
                width += found.high - found.low  # type: ignore[operator]
            size = {"scenario": name, "members": m, "nonmembers": n, "truth": round(scenario.auc, 5)}
            rows.append({**size, "coverage": round(held / runs, 4), "width": round(width / runs, 5)})
    return rows


def paired_rows(runs: int) -> list[dict[str, Any]]:
    """Two attacks that share a part of what they see; the second may differ from the first in few rows only."""
    rows = []
    for m, n in ((1000, 1000), (200, 200), (50, 50)):
        member = np.arange(m + n) < m
        for name, shift_a, shift_b, noise_b in (
            ("both weak, alike", 0.5, 0.5, 1.0),
            ("one better", 1.0, 1.0, 1.0),
            ("both strong", 3.0, 2.5, 0.5),
            ("5 % of members differ", 1.0, 1.0, -0.05),
        ):
            generator = np.random.default_rng([m, n, len(name)])
            if noise_b >= 0:
                truth = float(
                    stats.norm.cdf(shift_a / math.sqrt(2)) - stats.norm.cdf(shift_b / math.sqrt(2 * (1 + noise_b**2)))
                )
            else:
                truth = -noise_b * float(stats.norm.cdf(shift_a / math.sqrt(2)))
            held, wrong, width = 0, 0, 0.0
            for _ in range(runs):
                common = generator.normal(0, 1, m + n)
                a = common + shift_a * member
                if noise_b >= 0:
                    b = common + shift_b * member + noise_b * generator.normal(0, 1, m + n)
                else:
                    b = np.where(member & (generator.random(m + n) < -noise_b), -100.0, a)
                found = metrics.compare_auc(a, b, member)
                held += found.difference.low <= truth <= found.difference.high  # type: ignore[operator]
                wrong += found.p_value <= ALPHA
                width += found.difference.high - found.difference.low  # type: ignore[operator]
            rows.append(
                {
                    "scenario": name,
                    "members": m,
                    "nonmembers": n,
                    "truth": round(truth, 5),
                    "coverage": round(held / runs, 4),
                    "width": round(width / runs, 5),
                    "p <= 0.05": round(wrong / runs, 4),
                }
            )
    return rows


def advantage_rows() -> list[dict[str, Any]]:
    """Exact, no simulation: all outcomes weighted by their probability, over a grid of true TPR and FPR."""
    grid = np.concatenate([[0.001, 0.003, 0.01, 0.03], np.linspace(0.05, 0.95, 19), [0.97, 0.99, 0.997, 0.999]])
    rows = []
    for m, n in ((20, 20), (50, 50), (100, 100), (20, 200)):
        low, high = np.empty((m + 1, n + 1)), np.empty((m + 1, n + 1))
        member = np.arange(m + n) < m
        for tp in range(m + 1):
            for fp in range(n + 1):
                decided = np.where(member, np.arange(m + n) < tp, np.arange(m + n) < m + fp)
                found = metrics.advantage(decided, member)
                low[tp, fp], high[tp, fp] = found.low, found.high
        coverage, width = [], []
        for tpr in grid:
            for fpr in grid:
                weight = np.outer(stats.binom.pmf(np.arange(m + 1), m, tpr), stats.binom.pmf(np.arange(n + 1), n, fpr))
                holds = (low <= tpr - fpr + 1e-12) & (high >= tpr - fpr - 1e-12)
                coverage.append(float((weight * holds).sum()))
                width.append(float((weight * (high - low)).sum()))
        rows.append(
            {
                "members": m,
                "nonmembers": n,
                "least": round(min(coverage), 4),
                "mean": round(float(np.mean(coverage)), 4),
                "share below 94 %": round(float(np.mean(np.array(coverage) < 0.94)), 4),
                "width": round(float(np.mean(width)), 4),
            }
        )
    return rows


def show(result: dict[str, Any]) -> None:
    """Print the tables of docs/statistics.md."""
    print("TPR at FPR: coverage over the scenarios, and width as a share of the simple interval's\n")
    print("| members + non-members | FPR | ours, least | mean | simple, least | mean | plain, mean | width / simple |")
    print("|---|---|---|---|---|---|---|---|")
    for m, n in SIZES:
        for fpr in FPRS:
            rows = [r for r in result["tpr_at_fpr"] if (r["members"], r["nonmembers"], r["fpr"]) == (m, n, fpr)]
            if not rows:
                continue
            cover = {way: 100 * np.array([r[way]["coverage"] for r in rows]) for way in ("ours", "simple", "plain")}
            ratio = float(np.exp(np.mean([math.log(r["ours"]["width"] / r["simple"]["width"]) for r in rows])))
            both = " | ".join(f"{cover[way].min():.1f} % | {cover[way].mean():.1f} %" for way in ("ours", "simple"))
            print(f"| {m} + {n} | {100 * fpr:g} % | {both} | {cover['plain'].mean():.1f} % | {ratio:.2f} |")
    print("\nAUC\n\n| members + non-members | least | mean | least at |\n|---|---|---|---|")
    for m, n in dict.fromkeys((r["members"], r["nonmembers"]) for r in result["auc"]):
        rows = [r for r in result["auc"] if (r["members"], r["nonmembers"]) == (m, n)]
        worst = min(rows, key=lambda r: r["coverage"])
        mean = 100 * np.mean([r["coverage"] for r in rows])
        print(f"| {m} + {n} | {100 * worst['coverage']:.1f} % | {mean:.1f} % | {worst['scenario']} |")
    for title, key in (("Difference of two AUCs, paired", "compare_auc"), ("Advantage (exact)", "advantage")):
        names = list(result[key][0])
        print(f"\n{title}\n\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
        for row in result[key]:
            print("| " + " | ".join(str(row[name]) for name in names) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--keep", action="store_true", help="in benchmarks/results/figures.jsonl")
    arguments = parser.parse_args()
    result = {
        "runs": arguments.runs,
        "level": 1 - ALPHA,
        "tpr_at_fpr": tpr_rows(arguments.runs),
        "auc": auc_rows(arguments.runs),
        "compare_auc": paired_rows(arguments.runs),
        "advantage": advantage_rows(),
    }
    show(result)
    if arguments.keep:
        keep("coverage", result)


if __name__ == "__main__":
    main()
