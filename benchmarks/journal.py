"""What does the journal cost? Microseconds a row, beside the hash of the row, in a journal that holds a million.

    python -m benchmarks.journal            a million rows, in batches of 1,024 and of 32 (about 2 minutes)
    python -m benchmarks.journal --quick    100,000 rows; prints, writes nothing

A run asks for every row for the first time: turns are counted, the rows looked up, marked as on their way, and
recorded. Then the same run is replayed. The hash, which grows with the row, is timed by itself. The last 100,000 rows
show what a full journal costs. The same work through the gate, with a target that costs nothing, shows what is around
it. Processor time, system calls included: the machine may be shared.
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
from labelleaks.content import digests
from labelleaks.journal import Journal, keys_of
from labelleaks.oracle import Gate
from labelleaks.turns import Turns

WIDTH = 64
BAR = 10.0


def batches(rows: int, batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return list(torch.rand(rows, WIDTH, generator=generator).split(batch))


def timed(work: Callable[[Tensor], Any], parts: list[Tensor]) -> list[float]:
    """Microseconds of processor time a row of each part."""
    found = []
    for part in parts:
        began = time.process_time()
        work(part)
        found.append((time.process_time() - began) / len(part) * 1e6)
    return found


def mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 2)


def measure(rows: int, batch: int) -> dict[str, Any]:
    parts = batches(rows, batch)
    last = max(1, len(parts) // 10)
    hashing = mean(timed(digests, parts[:last]))
    found: dict[str, Any] = {"rows": rows, "batch": batch, "hash": hashing}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        with Journal(path, "t") as journal:
            turns = Turns()

            def ask(x: Tensor) -> None:
                keys = keys_of(x, turns)
                assert int(journal.lookup(keys).max()) == -1
                journal.begin(keys)
                journal.record(keys, torch.zeros(len(x), dtype=torch.int64))

            first = timed(ask, parts)
            found |= {"first run": mean(first) - hashing, "its last tenth": mean(first[-last:]) - hashing}
        found["megabytes"] = round(path.stat().st_size / 1e6, 1)
        with Journal(path, "t") as journal:
            turns = Turns()
            replay = timed(lambda x: journal.lookup(keys_of(x, turns)), parts)
            found["replay"] = mean(replay) - hashing
        with Journal(Path(folder) / "b.journal", "t") as journal:
            gate = Gate(lambda x: torch.zeros(len(x), dtype=torch.int64), batch_rows=batch, journal=journal)
            oracle = gate.oracle("a", 1, None)
            owner = torch.zeros(batch, dtype=torch.int64)
            through = timed(lambda x: oracle.query(x, owner[: len(x)], phase="b"), parts[: 2 * last])
            found["through the gate"] = mean(through) - hashing
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}


def page(results: list[dict[str, Any]]) -> str:
    names = ["hash", "first run", "its last tenth", "replay", "through the gate"]
    lines = [
        [f"{r['rows']:,}", f"{r['batch']:,}", *[f"{r[n]:.2f}" for n in names], f"{r['megabytes']}"] for r in results
    ]
    return (
        "# Cost of the journal\n\n"
        f"Microseconds of processor time a row of {WIDTH} features; all columns but the first are beside the hash. "
        f"Bar: {BAR:g}. The gate's column is of the first fifth of the rows.\n"
        "Written by `python -m benchmarks.journal`.\n\n" + markdown(["rows", "batch", *names, "MB"], lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 rows; writes nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = 100_000 if arguments.quick else 1_000_000
    results = [measure(rows, batch) for batch in (1024, 32)]
    text = page(results)
    print(text)
    if not arguments.quick:
        write("journal", {"environment": environment(), "bar": BAR, "measured": results}, text)


if __name__ == "__main__":
    main()
