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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import labelleaks as ll
from benchmarks.scale.page import page
from benchmarks.tables import environment
from labelleaks.engine import Local, Ray
from labelleaks.models import architectures, shadow_training
from labelleaks.models.training import Recipe, train

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
WIDTH, CLASSES = 64, 10
CANDIDATES = (100, 1_000, 10_000, 100_000)
REFERENCES = (1, 2, 4, 8, 16, 32, 64)
RECIPE = Recipe(epochs=20)


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
    found = [{"work": name, "here": best(lambda: work(Local(1)))} for name, (work, _) in works.items()]  # noqa: B023
    for cpus in (1, 2):
        with Ray(cpus=cpus) as engine:
            for line, (work, warm) in zip(found, works.values(), strict=True):
                warm(engine)
                line[f"workers {cpus}"] = best(lambda: work(engine))  # noqa: B023
    return found


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
    found = []
    for count in REFERENCES:
        store: dict[str, Any] = {}
        seconds = timed(
            lambda: shadow_training.train_shadows(
                x, y, CLASSES, "mlp", RECIPE, seeds=range(count), store=store, engine=Local(1)  # noqa: B023
            )
        )  # fmt: skip
        size = sum(p.numel() * 4 for model in store.values() for p in model.module.parameters())
        found.append({"models": count, "seconds": seconds, "megabytes": round(size / 1e6, 3)})
    return found


def alone(n: int) -> dict[str, Any]:
    """:func:`candidates_of` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "candidates", str(n)], stdout=subprocess.PIPE, text=True, check=True
    )
    line: dict[str, Any] = json.loads(done.stdout)
    return line


def main(words: Sequence[str]) -> None:
    torch.set_num_threads(1)
    if len(words) == 2:
        print(json.dumps(candidates_of(int(words[1]))))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    parts: dict[str, Callable[[], Any]] = {
        "efficiency": efficiency,
        "candidates": lambda: [alone(n) for n in CANDIDATES],
        "references": references_of,
    }
    for name in words or parts:
        if name in parts:
            found[name] = parts[name]()
            found["environment"] = environment()
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "README.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main(sys.argv[1:])
