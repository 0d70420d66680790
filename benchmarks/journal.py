"""What does the journal cost? Microseconds a row, beside the hash of the row, in a journal that grows to a million.

    python -m benchmarks.journal            a million rows, three shapes of calls (about 2 minutes)
    python -m benchmarks.journal --quick    100,000 rows; prints, writes nothing

A run asks for every row for the first time: turns are counted, the rows looked up, marked as on their way, and
recorded. Then the same run is replayed. The hash, which grows with the row, is timed by itself. The last tenth of the
rows shows what a full journal costs. The same work through the gate, with a target that costs nothing, shows what is
around it. Processor time with system calls, and for the first run the time on the clock; the machine may be shared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.tables import environment, markdown, write
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.query_keys import RepeatCounter, digests, keys_of

WIDTH = 64
BAR = 10.0


def batches(rows: int, batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return list(torch.rand(rows, WIDTH, generator=generator).split(batch))


SHAPES = (
    ("local, 1,024 rows a call", 1024, 1024),
    ("service, 32 rows a request", 2048, 32),
    ("32 rows a call", 32, 32),
)
"""Name, rows of a call (looked up together), rows of a request (marked and recorded together)."""


def timed(work: Callable[[Tensor], Any], parts: list[Tensor], clock: Callable[[], float]) -> list[float]:
    """Microseconds a row of each part."""
    found = []
    for part in parts:
        began = clock()
        work(part)
        found.append((clock() - began) / len(part) * 1e6)
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def measure(rows: int, shape: tuple[str, int, int]) -> dict[str, Any]:
    name, call, request = shape
    parts = batches(rows, call)
    last = max(1, len(parts) // 10)
    hashing = mean(timed(digests, parts[:last], time.process_time))
    found: dict[str, Any] = {"shape": name, "rows": rows, "call": call, "request": request, "hash": hashing}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        with Journal(path, "t") as journal:
            began = time.perf_counter()
            first = timed(asking(journal, request), parts, time.process_time)
            elapsed = (time.perf_counter() - began) / rows * 1e6
        found |= {"first run": mean(first) - hashing, "its last tenth": mean(first[-last:]) - hashing}
        found["on the clock"] = elapsed - hashing
        found["megabytes"] = path.stat().st_size / 1e6
        began = time.process_time()
        with Journal(path, "t") as journal:
            found["opening, seconds"] = time.process_time() - began
            counter = RepeatCounter()
            replay = timed(lambda x: journal.lookup(keys_of(x, counter)), parts, time.process_time)
            found["replay"] = mean(replay) - hashing
        with Journal(Path(folder) / "b.journal", "t") as journal:
            gate = Gate(lambda x: torch.zeros(len(x), dtype=torch.int64), batch_rows=request, journal=journal)
            oracle = gate.oracle("a", 1, None)
            owner = torch.zeros(call, dtype=torch.int64)
            some = parts[: 2 * last]
            through = timed(lambda x: oracle.query(x, owner[: len(x)], phase="b"), some, time.process_time)
            found["through the gate"] = mean(through) - hashing
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}


def asking(journal: Journal, request: int) -> Callable[[Tensor], None]:
    counter = RepeatCounter()

    def ask(x: Tensor) -> None:
        keys = keys_of(x, counter)
        assert int(journal.lookup(keys).max()) == -1
        for start in range(0, len(keys), request):
            part = keys[start : start + request]
            journal.begin(part)
            journal.record(part, torch.zeros(len(part), dtype=torch.int64))

    return ask


def page(results: list[dict[str, Any]]) -> str:
    names = ["hash", "first run", "its last tenth", "on the clock", "replay", "through the gate"]
    lines = []
    for r in results:
        figures = [*[r[name] for name in names], r["opening, seconds"], r["megabytes"]]
        lines.append([r["shape"], *[f"{figure:.2f}" for figure in figures]])
    return (
        "# Cost of the journal\n\n"
        f"Microseconds of processor time a row of {WIDTH} features, in a journal that grows to {results[0]['rows']:,}\n"
        f"rows; all columns but the first are beside the hash. Bar: {BAR:g}. The gate's column is of the first fifth\n"
        "of the rows, with a target that costs nothing. Written by `python -m benchmarks.journal`.\n\n"
        + markdown(["", *names, "opening, s", "MB"], lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 rows; writes nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = 100_000 if arguments.quick else 1_000_000
    results = [measure(rows, shape) for shape in SHAPES]
    text = page(results)
    print(text)
    if not arguments.quick:
        write("journal", {"environment": environment(), "bar": BAR, "measured": results}, text)


if __name__ == "__main__":
    main()
