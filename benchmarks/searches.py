"""How near is the boundary that each search finds with 50, 200, 1,000 and 2,500 labels?

    LABELLEAKS_DATA=../shared/data python -m benchmarks.searches               all (some five minutes of CPU time)
    LABELLEAKS_DATA=../shared/data python -m benchmarks.searches --only RayS   what has this in its name

On the closed-form targets of ``boundary_accuracy`` (found / true distance; starts are 16 random inputs), and on a
small CNN trained on 2,000 CIFAR-10 images (the distance itself; starts are 500 images that it did not train on). The
labels of the starts are bought once, as set-up. Every budget is a run of its own: the searches know their budget. Rows
are written as they are measured, and those of the committed page that are not measured again stay.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import labelleaks as ll
from benchmarks.audit_cifar import cifar
from benchmarks.closed_form import Cell, problem
from benchmarks.tables import environment, figures_of, markdown, write
from labelleaks.attacks import Boundary
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Predict, Status
from labelleaks.models import training

BUDGETS = (50, 200, 1_000, 2_500)
ROWS = 16
TRAINED, CANDIDATES, STARTS = 2_000, 50, 500
RECIPE = ll.Recipe(epochs=10)
SEED = 0
SEARCHES: dict[str, Boundary] = {
    "HopSkipJump, L∞": Boundary(norm="linf"),
    "RayS, L∞": Boundary(norm="linf", search="rays"),
    "HopSkipJump, L2": Boundary(),
    "SurFree, L2": Boundary(search="surfree"),
    "Sign-OPT, L2": Boundary(search="signopt"),
    "Tangent, L2": Boundary(search="tangent"),
}
SMOOTH: dict[str, Boundary] = {
    "HopSkipJump, DCT / 2, L2": Boundary(subspace="dct"),
    "SurFree, DCT / 2, L2": Boundary(search="surfree", subspace="dct"),
    "Sign-OPT, DCT / 2, L2": Boundary(search="signopt", subspace="dct"),
    "Tangent, DCT / 2, L2": Boundary(search="tangent", subspace="dct"),
}


def distances(attack: Boundary, target: Predict, rows: Candidates, starts: Tensor, budget: int) -> Tensor:
    """Return float64 (k,): what the attack reports, of the candidates that the target gets right."""
    gate = Gate(target, batch_rows=1 << 10)
    knowledge = Knowledge(setup=gate.setup_oracle("starts"), starts=starts)
    scores = attack.score(gate.oracle("boundary", len(rows), budget), rows, knowledge, seed=SEED)
    if gate.ledger.rows - gate.ledger.setup_rows != int(scores.queries.sum()) or scores.queries.max() > budget:
        raise AssertionError("billed and reported labels differ, or the budget was passed")
    return scores.value[scores.status != int(Status.MISCLASSIFIED)]


def closed_form(cell: Cell, attack: Boundary, budget: int) -> Tensor:
    """Return float64 (ROWS,): found / true distance."""
    made = problem(cell, seed=SEED)
    rows = Candidates(made.x[:ROWS], torch.zeros(ROWS, dtype=torch.int64), Box(0, 1), classes=2)
    return distances(attack, made.labels, rows, made.starts[:ROWS], budget) / made.true[:ROWS]


def network() -> nn.Module:
    """16 and 32 channels, both with stride 2: some 0.1 ms a row on one core."""
    small, wide = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
    head = [nn.Flatten(), nn.Linear(32 * 64, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(small, nn.ReLU(), wide, nn.ReLU(), *head)


def cnn(folder: Path) -> tuple[Predict, Candidates, Tensor]:
    """Train the target; return it, its candidates (half of them members) and the starts."""
    rows = cifar(folder, seed=SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = network()
    training.train(model, rows.x[:TRAINED], rows.y[:TRAINED], RECIPE, seed=SEED)
    model.eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(model(x).argmax(1))

    half = CANDIDATES // 2
    order = [*range(half), *range(TRAINED, TRAINED + half)]
    candidates = Candidates(rows.x[order], rows.y[order], Box(0, 1), classes=10)
    starts = rows.x[TRAINED + half : TRAINED + half + STARTS]
    return predict, candidates, starts


def row(where: str, name: str, attack: Boundary, found: Sequence[Tensor], budgets: Sequence[int]) -> dict[str, Any]:
    """Return one row of the table: the median and the geometric mean at each budget."""
    at = {
        str(budget): {"median": round(float(f.median()), 4), "geometric_mean": round(float(f.log().mean().exp()), 4)}
        for budget, f in zip(budgets, found, strict=True)
    }
    return {"target": where, "search": name, "norm": attack.norm, "candidates": len(found[0]), "at": at}


def page(result: dict[str, Any]) -> str:
    """Return the Markdown page: one table a target."""
    text = [
        "# The searches of the boundary attack, label by label",
        "",
        "Median over candidates (geometric mean). Closed forms: found / true distance, 1 is the true one. CNN: the "
        f"distance in [0, 1] units, of {CANDIDATES} candidates those that it gets right. Bold: the nearest in its "
        "norm. Written by `python -m benchmarks.searches`.",
    ]
    for target in dict.fromkeys(r["target"] for r in result["rows"]):
        rows = [r for r in result["rows"] if r["target"] == target]
        lines = []
        for r in rows:
            rivals = [other for other in rows if other["norm"] == r["norm"]]
            shown = []
            for budget, at in r["at"].items():
                least = min(other["at"][budget]["median"] for other in rivals)
                bold = "**" if at["median"] == least else ""
                shown.append(f"{bold}{at['median']:.3f}{bold} ({at['geometric_mean']:.3f})")
            lines.append([r["search"], *shown])
        header = ["search", *[f"{budget:,} labels" for budget in result["budgets"]]]
        text += ["", f"## {target}", "", markdown(header, lines).rstrip()]
    return "\n".join(text) + "\n"


def kept() -> list[dict[str, Any]]:
    """What an earlier run has measured."""
    rows: list[dict[str, Any]] = figures_of("searches").get("rows", [])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure again what has this in the name of the search")
    parser.add_argument("--closed-forms-only", action="store_true", help="leave the CNN's rows as they are")
    arguments = parser.parse_args()
    rows = {(r["target"], r["search"]): r for r in kept()}
    network_rows = {} if arguments.closed_forms_only else {**SEARCHES, **SMOOTH}
    order = [("CNN on CIFAR-10", name) for name in {**SEARCHES, **SMOOTH}]
    order += [(f"{c}, d = {d}", name) for c, d in product(("linear", "ball"), (64, 784)) for name in SEARCHES]

    def note(where: str, name: str, attack: Boundary, found: Sequence[Tensor]) -> None:
        rows[where, name] = row(where, name, attack, found, BUDGETS)
        result = {"environment": environment(), "budgets": BUDGETS, "rows": [rows[o] for o in order if o in rows]}
        print(f"{time.process_time():6.0f} s of CPU time  {where}  {name}", flush=True)
        write("searches", result, page(result))

    wanted = {name: attack for name, attack in network_rows.items() if arguments.only in name}
    if wanted:
        target, candidates, starts = cnn(Path(os.environ.get("LABELLEAKS_DATA", "../shared/data")))
    for name, attack in wanted.items():
        note("CNN on CIFAR-10", name, attack, [distances(attack, target, candidates, starts, b) for b in BUDGETS])
    for shape, width in product(("linear", "ball"), (784, 64)):
        for name, attack in SEARCHES.items():
            if arguments.only in name:
                cell = Cell(shape, width, attack.norm)
                note(f"{shape}, d = {width}", name, attack, [closed_form(cell, attack, b) for b in BUDGETS])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
