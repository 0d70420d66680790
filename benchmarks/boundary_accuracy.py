"""How close is the boundary that is found? Found / true distance at 500, 2,500 and 10,000 labels.

    python -m benchmarks.boundary_accuracy            all cells (below 25 minutes on 2 cores)
    python -m benchmarks.boundary_accuracy --quick    a few cells, written nowhere (about a minute)
    python -m benchmarks.boundary_accuracy --methods ours    measure ours again, keep the rivals' committed figures

Ours, ART's and foolbox's HopSkipJump attack the same candidates of the same closed-form targets from the same start
points. The label of the start counts for all three. Ours is told its budget, and judged by the distance that it
*reports*; the rivals know no budget, so they run once at their defaults and get credit for the best adversarial point
that they had sent by then. foolbox is also run in one batch of 64, as its users would: there its estimate is
normalised over the whole batch.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks import rivals
from benchmarks.closed_form import CANDIDATES, Cell, Problem, problem
from benchmarks.tables import environment, figures_of, markdown, write
from labelleaks import attacks
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores

BUDGETS = (500, 2_500, 10_000)
WIDTHS = (8, 64, 784, 3072)
NAMES = {"ours": "labelleaks", "art": "ART", "foolbox": "foolbox, alone", "foolbox64": "foolbox, batch of 64"}
ROWS = {"ours": 24, "art": 24, "foolbox": 10, "foolbox64": 64}
SEED = 0


def _score(made: Problem, rows: slice, starts: Tensor, budget: int) -> Scores:
    """Attack some candidates from the given pool of starts, and check everything that is claimed about them."""
    x = made.x[rows]
    gate = Gate(made.labels, batch_rows=1 << 13)
    oracle = gate.oracle("boundary", len(x), budget)
    candidates = Candidates(x, torch.zeros(len(x), dtype=torch.int64), Box(0, 1), classes=2)
    knowledge = Knowledge(setup=gate.setup_oracle("starts"), starts=starts)
    scores = attacks.Boundary(norm=made.cell.norm).score(oracle, candidates, knowledge, seed=SEED)
    adversarial = scores.details["adversarial"]
    if not bool((made.labels(adversarial) == 1).all()):
        raise AssertionError("a point that is said to be adversarial is not")
    claimed = scores.details[f"distance_{made.cell.norm}"]
    if not torch.allclose(claimed, made.distance(adversarial, x), rtol=1e-9, atol=0):
        raise AssertionError("the reported distance is not that of the adversarial point")
    if gate.ledger.rows - gate.ledger.setup_rows != int(scores.queries.sum()) or scores.queries.max() > budget:
        raise AssertionError("billed and reported labels differ, or the budget was passed")
    return scores


def ours(made: Problem, rows: int, budgets: Sequence[int]) -> Tensor:
    """Return float64 (budgets, rows): the distances that labelleaks reports, each candidate from its own start."""
    found = torch.empty(len(budgets), rows, dtype=torch.float64)
    for b, budget in enumerate(budgets):
        for i in range(rows):  # one label goes to the start, as for the rivals
            scores = _score(made, slice(i, i + 1), made.starts[i : i + 1], budget - 1)
            found[b, i] = scores.details[f"distance_{made.cell.norm}"][0]
    return found


def same_in_a_batch(made: Problem, budget: int) -> bool:
    """Return whether a batch of 64, the batch reversed, and three candidates alone give the same bits."""
    starts = made.starts[:1]
    together = _score(made, slice(None), starts, budget).details["adversarial"]
    backwards = Problem(made.cell, made.normal, made.radius, made.x.flip(0), made.starts, made.true.flip(0))
    reversed_ = _score(backwards, slice(None), starts, budget).details["adversarial"].flip(0)
    alone = [_score(made, slice(i, i + 1), starts, budget).details["adversarial"] for i in (0, 31, CANDIDATES - 1)]
    return torch.equal(together, reversed_) and torch.equal(torch.cat(alone), together[[0, 31, CANDIDATES - 1]])


METHODS: dict[str, Callable[[Problem, int, Sequence[int]], Tensor]] = {
    "ours": ours,
    "art": lambda made, rows, budgets: rivals.art(made, rows, budgets, seed=SEED),
    "foolbox": lambda made, rows, budgets: rivals.foolbox(made, rows, budgets, seed=SEED, together=False),
    "foolbox64": lambda made, rows, budgets: rivals.foolbox(made, rows, budgets, seed=SEED, together=True),
}


def measure(cell: Cell, method: str, rows: int, budgets: Sequence[int]) -> dict[str, Any]:
    """Run one method on one cell; the quantiles of found / true distance at each budget."""
    torch.set_num_threads(1)
    made = problem(cell, seed=SEED)
    began = time.perf_counter()
    ratios = METHODS[method](made, rows, budgets) / made.true[:rows]
    seconds = time.perf_counter() - began
    result: dict[str, Any] = {**asdict(cell), "method": method, "candidates": rows, "seconds": round(seconds, 1)}
    result["found_over_true"] = {
        str(budget): {
            "median": round(float(ratios[b].quantile(0.5)), 4),
            "p90": round(float(ratios[b].quantile(0.9)), 4),
        }
        for b, budget in enumerate(budgets)
    }
    if method == "ours":
        result["bit_equal_alone_batched_reversed"] = same_in_a_batch(made, budgets[0])
    return result


def _number(ratio: float) -> str:
    excess = ratio - 1
    return f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.3f}" if excess >= 0.001 else f"1 + {excess:.0e}"


def page(measured: list[dict[str, Any]], budgets: Sequence[int]) -> str:
    """Return the Markdown page: one table a budget, the best median of each row in bold."""
    methods = [m for m in METHODS if any(r["method"] == m for r in measured)]
    found = {(r["target"], r["width"], r["norm"], r["method"]): r for r in measured}
    cells = list(dict.fromkeys((r["norm"], r["target"], r["width"]) for r in measured))
    text = [
        "# Found / true distance to the decision boundary",
        "",
        "Median (90th percentile) over candidates; 1 is the true distance. Written by "
        "`python -m benchmarks.boundary_accuracy`.",
        "Same candidates, same start points, every label counted. labelleaks: the distance it reports. Rivals: the "
        "best adversarial point sent within the budget, at their defaults.",
        "",
        "Candidates per cell: " + ", ".join(f"{NAMES[m]} {_rows(measured, m)}" for m in methods) + ".",
    ]
    for budget in budgets:
        lines = []
        for norm, target, width in sorted(cells):
            quantiles = [found[target, width, norm, m]["found_over_true"][str(budget)] for m in methods]
            least = min(q["median"] for q in quantiles)
            shown = [
                ("**{}** ({})" if q["median"] == least else "{} ({})").format(_number(q["median"]), _number(q["p90"]))
                for q in quantiles
            ]
            lines.append([f"{norm.replace('linf', 'L∞').replace('l2', 'L2')}, {target}, d = {width}", *shown])
        text += ["", f"## {budget:,} labels", "", markdown(["boundary", *[NAMES[m] for m in methods]], lines).rstrip()]
    if "ours" not in methods:
        return "\n".join(text) + "\n"
    equal = [r["bit_equal_alone_batched_reversed"] for r in measured if r["method"] == "ours"]
    text += ["", f"labelleaks, alone, in a batch of 64 and in reversed order: the same bits in {sum(equal)} of "
             f"{len(equal)} cells."]  # fmt: skip
    return "\n".join(text) + "\n"


def _rows(measured: list[dict[str, Any]], method: str) -> str:
    return "/".join(sorted({str(r["candidates"]) for r in measured if r["method"] == method}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="d = 8 and 784, 8 candidates; prints, writes nothing")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    arguments = parser.parse_args()

    widths, budgets = ((8, 784), BUDGETS[:2]) if arguments.quick else (WIDTHS, BUDGETS)
    cells = [Cell(t, d, n) for n, t, d in product(("l2", "linf"), ("linear", "ball"), widths)]
    rows = {m: min(8, r) if arguments.quick and m != "foolbox64" else r for m, r in ROWS.items()}
    jobs = [(cell, m) for cell in sorted(cells, key=lambda c: -c.width) for m in arguments.methods]
    measured = []
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.workers) as pool:
        running = {pool.submit(measure, cell, m, rows[m], budgets): (cell, m) for cell, m in jobs}
        for done in as_completed(running):
            measured.append(done.result())
            cell, method = running[done]
            print(f"{math.ceil(time.perf_counter() - began):5d} s  {cell}  {method}", flush=True)
    if not arguments.quick:
        again = {_place(r) for r in measured}
        measured += [r for r in _kept() if _place(r) not in again]
    order = {(cell, m): k for k, (cell, m) in enumerate(product(cells, METHODS))}
    measured.sort(key=lambda r: order[_place(r)])
    if arguments.quick:
        print(page(measured, budgets))
        return
    result = {"environment": environment(), "budgets": budgets, "cells": measured}
    write("boundary_accuracy", result, page(measured, budgets))


def _place(row: dict[str, Any]) -> tuple[Cell, str]:
    return Cell(row["target"], row["width"], row["norm"]), row["method"]


def _kept() -> list[dict[str, Any]]:
    """What an earlier run has measured."""
    cells: list[dict[str, Any]] = figures_of("boundary_accuracy").get("cells", [])
    return cells


if __name__ == "__main__":
    main()
