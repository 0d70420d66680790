"""What does the attack cost beyond the target? Wall time / time of the same number of rows through the bare target.

    python -m benchmarks.overhead            both targets, three repetitions (a few minutes)
    python -m benchmarks.overhead --quick    smaller, one repetition; prints, writes nothing

The bare target is timed at its best batch size, with its labels taken, in the same process and between the runs that
it is compared with; medians over the repetitions. The rows of every method are counted where they enter the target.
Ours takes the rows per call that an audit chooses by default.
Rivals run at their defaults, from the same start points, for as many iterations as come nearest to the budget; ART
with its batch size raised to hold a whole step, foolbox with all candidates in one batch, their fastest settings.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.rivals import art_attack, foolbox_attack
from benchmarks.tables import environment, markdown, write
from labelleaks.attacks import Boundary
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.targets.base import default_batch_rows

BUDGET = 1_000
BATCHES = (64, 128, 256, 512, 1024, 2048, 4096)
METHODS = ("labelleaks", "ART", "foolbox")
BARS = {"cnn 28x28": 1.10, "mlp 64-256-256-10": 2.0}


def cnn() -> nn.Module:
    """The usual small CNN for 28x28 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's embedded digits in [0, 1]: (1797, 1, 8, 8)."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y, dtype=torch.int64)


class Case:
    """A trained target with candidates that it classifies correctly, and a start point for each."""

    def __init__(self, name: str, candidates: int) -> None:
        x, y = digits()
        image = name.startswith("cnn")
        x = nn.functional.interpolate(x, 28, mode="bilinear") if image else x.flatten(1)
        self.name = name
        self.model = _train(cnn() if image else mlp(), x, y)
        right = (self.labels(x) == y).nonzero().reshape(-1)
        self.x, self.y = x[right[:candidates]].contiguous(), y[right[:candidates]]
        others = x[right[candidates:]]
        labels = self.labels(others)
        self.pool = others[:50]
        self.starts = torch.stack([others[int((labels != label).to(torch.int8).argmax())] for label in self.y])

    @torch.no_grad()
    def labels(self, rows: Tensor) -> Tensor:
        return self.model(rows).argmax(1)


def _train(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


def seconds_per_row(case: Case, batch: int, rows: int) -> float:
    """Time the bare target: forward pass and label, nothing else."""
    block = case.x.repeat(-(-batch // len(case.x)), *[1] * (case.x.dim() - 1))[:batch].contiguous()
    case.labels(block)
    calls = max(1, rows // batch)
    began = time.perf_counter()
    for _ in range(calls):
        case.labels(block)
    return (time.perf_counter() - began) / (calls * batch)


class Count:
    """The target behind a counter of rows and calls."""

    def __init__(self, case: Case) -> None:
        self._case, self.rows, self.calls = case, 0, 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        self.calls += 1
        return self._case.labels(rows)


def run_labelleaks(case: Case, candidates: int, budget: int) -> Count:
    count = Count(case)
    gate = Gate(count, batch_rows=default_batch_rows(case.x[0].numel()))  # what an audit would choose
    x, y = case.x[:candidates], case.y[:candidates]
    Boundary().score(
        gate.oracle("boundary", len(x), budget),
        Candidates(x, y, Box(0, 1), classes=10),
        Knowledge(setup=gate.setup_oracle("starts"), starts=case.pool),
        seed=0,
    )
    return count


def run_art(case: Case, candidates: int, budget: int) -> Count:
    count = Count(case)

    def predict(rows: np.ndarray) -> np.ndarray:
        return np.eye(10, dtype=np.float32)[count(torch.from_numpy(rows.astype(np.float32))).numpy()]

    attack = art_attack(predict, tuple(case.x.shape[1:]), 10, "l2")
    attack.max_iter = iterations(budget, case.x[0].numel(), overhead_steps=14)
    one_hot = np.eye(10, dtype=np.float32)[case.y[:candidates].numpy()]
    attack.generate(case.x[:candidates].numpy(), one_hot, x_adv_init=case.starts[:candidates].numpy())
    return count


class _TimedLogits(nn.Module):
    def __init__(self, case: Case, count: Count) -> None:
        super().__init__()
        self._model, self._count = case.model, count

    def forward(self, rows: Tensor) -> Tensor:
        self._count.rows += len(rows)
        self._count.calls += 1
        return self._model(rows)


def run_foolbox(case: Case, candidates: int, budget: int) -> Count:
    import foolbox as fb

    count = Count(case)
    attack = foolbox_attack("l2")
    attack.steps = iterations(budget, case.x[0].numel(), overhead_steps=20)
    attack.run(
        fb.PyTorchModel(_TimedLogits(case, count).eval(), bounds=(0, 1)),
        case.x[:candidates],
        fb.criteria.Misclassification(case.y[:candidates]),
        starting_points=case.starts[:candidates],
    )
    return count


def iterations(budget: int, width: int, *, overhead_steps: int) -> int:
    """Return how many of a rival's iterations come nearest to the budget: 100 sqrt(t) probes and some line search."""
    spent = [0.0]
    while spent[-1] < budget:
        spent.append(spent[-1] + 100 * len(spent) ** 0.5 + overhead_steps)
    return max(1, min(range(len(spent)), key=lambda t: abs(spent[t] - budget)))


RUN: dict[str, Callable[[Case, int, int], Count]] = {
    "labelleaks": run_labelleaks,
    "ART": run_art,
    "foolbox": run_foolbox,
}


def measure(name: str, *, candidates: dict[str, int], budget: int, repetitions: int) -> dict[str, Any]:
    """Time all methods on one target, interleaved with the bare target."""
    torch.manual_seed(0)
    case = Case(name, 200)
    sweep = 20_000 if name.startswith("cnn") else 200_000
    rates = {b: min(seconds_per_row(case, b, sweep // 3) for _ in range(3)) for b in BATCHES}
    batch = min(rates, key=rates.__getitem__)
    ratios: dict[str, list[float]] = {method: [] for method in METHODS}
    counts: dict[str, Count] = {}
    for _ in range(repetitions):
        for method in METHODS:
            before = seconds_per_row(case, batch, sweep)
            began = time.perf_counter()
            counts[method] = RUN[method](case, candidates[method], budget)
            wall = time.perf_counter() - began
            bare = (before + seconds_per_row(case, batch, sweep)) / 2
            ratios[method].append(wall / (counts[method].rows * bare))
            print(f"{name}  {method:10s}  {wall:7.2f} s  {ratios[method][-1]:8.3f}", flush=True)
    return {
        "target": name,
        "best_batch": batch,
        "rows_per_second": {b: round(1 / r) for b, r in rates.items()},
        "bar": BARS[name],
        "methods": {
            m: {
                "candidates": candidates[m],
                "rows_per_candidate": round(counts[m].rows / candidates[m], 1),
                "calls": counts[m].calls,
                "ratio": round(median(ratios[m]), 3),
                "ratios": [round(r, 3) for r in ratios[m]],
            }
            for m in METHODS
        },
    }


def page(results: list[dict[str, Any]], budget: int) -> str:
    lines = [
        [
            f"{r['target']} (best batch {r['best_batch']})",
            *[f"{m['ratio']:.2f} ({m['candidates']}; {m['rows_per_candidate']:g})" for m in r["methods"].values()],
            f"{r['bar']:.2f}",
        ]
        for r in results
    ]
    return (
        "# Overhead of the boundary search\n\n"
        "Wall time / time of the same number of rows through the bare target at its best batch size; 1: no overhead.\n"
        f"{torch.get_num_threads()} thread(s), budget {budget:,} labels, L2; in brackets: candidates, rows per "
        "candidate. Medians of interleaved repetitions.\nWritten by `python -m benchmarks.overhead`.\n\n"
        + markdown(["target", *METHODS, "our bar"], lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 candidates, 500 labels, one repetition")
    parser.add_argument("--budget", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1 is the steadiest on a shared machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", module="art")
    few = 40 if arguments.quick else 200
    budget = arguments.budget or (500 if arguments.quick else BUDGET)
    repetitions = 1 if arguments.quick else 3
    results = []
    for name in BARS:
        candidates = dict.fromkeys(METHODS, few)
        results.append(measure(name, candidates=candidates, budget=budget, repetitions=repetitions))
    text = page(results, budget)
    if arguments.quick:
        print(text)
    else:
        name = "overhead" if arguments.threads == 1 else f"overhead_{arguments.threads}_threads"
        write(name, {"environment": environment(), "budget": budget, "targets": results}, text)


if __name__ == "__main__":
    main()
