"""Measure how a run scales, write the figures and the page.

    python -m benchmarks.scale                all parts, then the page (about 10 minutes on two quiet cores)
    python -m benchmarks.scale efficiency     one part: efficiency, candidates or references
    python -m benchmarks.scale page           the page from the figures that are there

Efficiency: the same tasks on a Ray cluster of one and of two CPUs, after a first run that starts its workers; a thread
a task, the better of two runs by the clock. Candidates: gap and noise (10 labels) of an MLP, scores alone and with
everything that an audit makes of them. References: training MLPs on 1,000 rows. These two in one thread of one process,
in processor time, which neighbours on the machine disturb less.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import labelleaks as ll
from benchmarks.tables import environment, figures_of, keep, markdown, write
from labelleaks.engine import Local, Ray
from labelleaks.models import architectures, shadow_training
from labelleaks.models.training import Recipe, train

WIDTH, CLASSES = 64, 10
CANDIDATES = (100, 1_000, 10_000, 100_000)
REFERENCES = (1, 2, 4, 8, 16, 32, 64)
RECIPE = Recipe(epochs=20)
MANY, MODELS = 10**7, 10**3
"""Candidates and reference models of the forecast."""
CPUS = 256
"""Of the cluster in the forecast."""
PRICE = 0.04
"""Of a CPU for an hour, in US dollars: an assumption, about a list price; put in your own."""
EFFICIENCY = 0.8
"""Of the cluster in the forecast: an assumption. What was measured is two workers of one machine."""


def rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform rows of 64 features; the class is the largest of 10 random directions."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, WIDTH, generator=generator)
    directions = torch.randn(WIDTH, CLASSES, generator=torch.Generator().manual_seed(0))
    return x, ((x - 0.5) @ directions).argmax(1)


def target() -> torch.nn.Module:
    """Return an MLP that has fitted 1,000 rows."""
    module = architectures.build("mlp", (WIDTH,), CLASSES, seed=0)
    assert isinstance(module, torch.nn.Module)
    return train(module, *rows(1_000, 1), Recipe(epochs=60), seed=0)


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    began = clock()
    work()
    return round(clock() - began, 3)


def best(work: Callable[[], Any]) -> float:
    """The better of two runs, by the clock: the machine may be shared."""
    return min(timed(work, time.perf_counter) for _ in range(2))


def efficiency() -> list[dict[str, Any]]:
    """Seconds of the same work at one and two workers."""
    module, (x, y), shadow = target(), rows(1_024, 2), rows(1_000, 3)
    small = rows(256, 4)

    def boundary(engine: Any, part: tuple[Tensor, Tensor]) -> None:
        attack = ll.attacks.Boundary(norm="l2")
        ll.infer(
            module, *part, attack=attack, threshold=0.0, budget=200, seed=0, engine=engine, shard_rows=128, classes=10
        )

    def references(engine: Any, count: int) -> None:
        seeds = list(range(count))
        shadow_training.train_shadows(*shadow, CLASSES, "mlp", Recipe(epochs=30), seeds=seeds, engine=engine)

    works: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
        "boundary, 200 labels, 1,024 candidates in 8 shards": (
            lambda engine: boundary(engine, (x, y)),
            lambda engine: boundary(engine, (torch.cat([small[0]] * 2), torch.cat([small[1]] * 2))),
        ),
        "8 reference models, 30 epochs of 1,000 rows": (
            lambda engine: references(engine, 8),
            lambda engine: references(engine, 2),
        ),
    }
    lines = [{"work": name, "here": best(lambda: work(Local(1)))} for name, (work, _) in works.items()]  # noqa: B023
    for cpus in (1, 2):
        with Ray(cpus=cpus) as engine:
            for line, (work, warm) in zip(lines, works.values(), strict=True):
                warm(engine)
                line[f"workers {cpus}"] = best(lambda: work(engine))  # noqa: B023
    return lines


def candidates_of(n: int) -> dict[str, Any]:
    """Scores of n candidates, and an audit of them; run in a process of its own, whose memory is looked at."""
    module, (x, y) = target(), rows(n, 5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line: dict[str, Any] = {"n": n}
    ll.infer(module, x[:64], y[:64], attack="noise", threshold=0.5, budget=10, classes=10)
    for name in ("gap", "noise"):
        line[name] = timed(
            lambda: ll.infer(module, x, y, attack=name, threshold=0.5, budget=10, classes=10)  # noqa: B023
        )
    half = n // 2
    line["audit"] = timed(
        lambda: ll.audit(
            module, members=(x[:half], y[:half]), nonmembers=(x[half:], y[half:]), attacks=["gap", "noise"],
            budget=10, classes=10, keep_inputs=False,
        )
    )  # fmt: skip
    line["megabytes"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    return line


def references_of() -> list[dict[str, Any]]:
    """Seconds for R reference models, and the memory that they take."""
    x, y = rows(1_000, 6)
    shadow_training.train_shadows(x, y, CLASSES, "mlp", Recipe(epochs=1), seeds=[99], engine=Local(1))
    lines = []
    for count in REFERENCES:
        store: dict[str, Any] = {}
        seconds = timed(
            lambda: shadow_training.train_shadows(
                x, y, CLASSES, "mlp", RECIPE, seeds=range(count), store=store, engine=Local(1)  # noqa: B023
            )
        )  # fmt: skip
        size = sum(p.numel() * 4 for model in store.values() for p in model.module.parameters())
        lines.append({"models": count, "seconds": seconds, "megabytes": round(size / 1e6, 3)})
    return lines


def alone(n: int) -> dict[str, Any]:
    """:func:`candidates_of` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "candidates", str(n)], stdout=subprocess.PIPE, text=True, check=True
    )
    line: dict[str, Any] = json.loads(done.stdout)
    return line


def page(figures: Mapping[str, Any]) -> str:
    """Return the page in Markdown; parts that were not measured are left out."""
    parts = [_INTRODUCTION]
    if "efficiency" in figures:
        parts.append("## Two workers\n\n" + _efficiency(figures["efficiency"]))
    if "candidates" in figures:
        parts.append("## Candidates\n\n" + _candidates(figures["candidates"]))
    if "references" in figures:
        parts.append("## Reference models\n\n" + _references(figures["references"]))
    if {"candidates", "references"} <= figures.keys():
        parts.append("## On paper: 10⁷ candidates, 10³ reference models\n\n" + _forecast(figures))
    return "\n".join(parts)


_INTRODUCTION = """# What it costs to go further

Made by `python -m benchmarks.scale`, from figures.jsonl: everything but the forecast is measured, on two
cores of a shared machine, one thread a task. Small models on purpose: they show the overhead most.
"""


def _efficiency(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            line["work"],
            f"{line['here']:.1f}",
            f"{line['workers 1']:.1f}",
            f"{line['workers 2']:.1f}",
            f"{line['workers 1'] / line['workers 2'] / 2:.0%}",
        ]
        for line in lines
    ]
    header = ["work", "local, one process, s", "Ray, 1 worker, s", "Ray, 2 workers, s", "efficiency at 2"]
    return markdown(header, rows) + (
        "\nSeconds by the clock, the better of two runs. Efficiency: seconds at one worker / (2 x seconds at two). "
        "Workers had started before; that takes some ten seconds.\n"
    )


def _candidates(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"{line['n']:,}", *[f"{line[name]:.2f}" for name in ("gap", "noise", "audit")], f"{line['megabytes']:,}"]
        for line in lines
    ]
    header = ["candidates", "gap, s", "noise, 10 labels, s", "audit with both, s", "memory, MB"]
    return markdown(header, rows) + (
        "\nProcessor seconds of one process, rows of 64 features, an MLP: of `infer` (scores and decisions), and of a "
        "whole audit without a report, statistics and flags included. Memory: what the process grew by at most.\n"
    )


def _references(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            str(line["models"]),
            f"{line['seconds']:.2f}",
            f"{line['seconds'] / line['models']:.2f}",
            f"{line['megabytes']:.1f}",
        ]
        for line in lines
    ]
    return markdown(["models", "seconds", "seconds a model", "weights, MB"], rows) + (
        "\nMLPs, 20 epochs of 1,000 rows; processor seconds of one thread.\n"
    )


def slope(lines: Sequence[Mapping[str, Any]], x: str, y: str) -> float:
    """Return the rise of ``y`` for each more of ``x``, between the last two points."""
    a, b = lines[-2], lines[-1]
    return float((b[y] - a[y]) / (b[x] - a[x]))


def _forecast(figures: Mapping[str, Any]) -> str:
    lines, models = figures["candidates"], figures["references"]
    noise, audit = slope(lines, "n", "noise"), slope(lines, "n", "audit")
    beside = max(audit - noise - slope(lines, "n", "gap"), 0.0)
    training = slope(models, "models", "seconds")
    memory = slope(lines, "n", "megabytes") * MANY / 1024
    weights = slope(models, "models", "megabytes") * MODELS
    shards, train = MANY * noise / 3600, MODELS * training / 3600
    away = (shards + train) / (CPUS * EFFICIENCY)
    here = MANY * beside / 3600
    money = PRICE * (CPUS * (away + here))
    each = slope(lines, "n", "megabytes") * 1024**2
    slow = MODELS * 600 / 3600
    return f"""Arithmetic from the slopes above (the last two points of each table), not a measurement:

* noise: {noise * 1e6:,.0f} µs a candidate, {shards:,.1f} CPU hours for 10⁷ candidates;
* training: {training:.2f} s a model, {train:,.2f} CPU hours for 10³ models; of ten minutes each: {slow:,.0f};
* on {CPUS} CPUs at {EFFICIENCY:.0%} efficiency (an assumption): {away * 60:,.1f} minutes for both;
* statistics and flags, in the one process of the command: {beside * 1e6:,.0f} µs a candidate, {here:,.2f} hours for
  10⁷, if they were linear. The check for near duplicates is not: it grows with members times non-members, and 10⁷
  candidates want it left out or done on a part;
* memory of the command: {memory:,.1f} GB, {each:,.0f} bytes a candidate of 64 features;
* weights of 10³ models of this size: {weights:,.0f} MB in each worker;
* money, at {PRICE:.2f} US dollars a CPU hour (an assumption), all CPUs kept until the end: {money:,.2f} dollars.

An attack that compares with 10³ models asks each of them about each candidate: its CPU hours grow with the product,
which is not in these figures. Nor is a slower target than an MLP: multiply its seconds a row by
11 labels (noise) and 10⁷.
"""


def main(words: Sequence[str]) -> None:
    torch.set_num_threads(1)
    if len(words) == 2:
        print(json.dumps(candidates_of(int(words[1]))))
        return
    figures = figures_of("scale")
    parts: dict[str, Callable[[], Any]] = {
        "efficiency": efficiency,
        "candidates": lambda: [alone(n) for n in CANDIDATES],
        "references": references_of,
    }
    for name in words or parts:
        if name in parts:
            figures[name] = parts[name]()
            figures["environment"] = environment()
            keep("scale", figures)
    write("scale", figures, page(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
