"""What does ``kill -9`` cost? Audits that are killed at random moments, again and again, and started again each time.

    python -m benchmarks.kills                              50 kills of each of four audits (about 10 minutes)
    python -m benchmarks.kills --only guided/local          one of them; the page keeps the others
    python -m benchmarks.kills --kills 5                    prints, writes nothing

A boundary and a guided audit, each of a local target with a journal and of a service on loopback. The moments are drawn
evenly over the rows that the whole run sends. At the end ``record.json`` and ``arrays.npz`` must be those of a run that
was left alone, byte for byte, and each kill may cost what was on its way: one batch of a local target, concurrency x
rows of a request of a service. The target counts the rows that it sees, whatever becomes of the process that asks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import labelleaks as ll
from benchmarks.tables import environment, figures_of, markdown, write
from labelleaks.attacks import Boundary, Guided
from labelleaks.core.oracle.journal_file import read
from labelleaks.models.training import Recipe
from labelleaks.testing.planted import remembered

CASES = ("boundary/local", "guided/local", "boundary/service", "guided/service")
KILLS = 50
BATCH = 24
CONCURRENCY, REQUEST = 3, 24
CANARIES = 8


class Counting:
    """A target that leaves a byte in a file for each row that it sees."""

    fingerprint = "planted"

    def __init__(self, path: Path) -> None:
        self.target = remembered("vector").target()
        self.file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def __call__(self, x: Tensor) -> Tensor:
        os.write(self.file, b"." * len(x))
        time.sleep(0.002)  # so that many kills meet rows on their way
        return self.target(x)


@contextlib.contextmanager
def service(seen: Path) -> Iterator[str]:
    """The same target behind HTTP, in a process of its own; gives its address."""
    address = seen.with_suffix(".address")
    child = os.fork()
    if child == 0:
        _serve(seen, address)
    try:
        while not address.exists() or not address.read_text():
            time.sleep(0.01)
        yield address.read_text()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _serve(seen: Path, address: Path) -> None:
    from tests.servers.faulty import Faulty

    counting = Counting(seen)
    with Faulty() as server:
        server.reply = lambda document: {"predictions": counting(torch.tensor(document["instances"])).tolist()}
        address.write_text(server.url)
        while True:
            time.sleep(1)


def run(attack: str, target: Any, folder: Path, name: str) -> None:
    made = remembered("vector")
    x, y, member = made.candidates.x, made.candidates.y, made.member
    attacks: dict[str, Any] = {
        "boundary": Boundary(max_iterations=4),
        "guided": Guided(labels=25, ways=3, recipe=Recipe(epochs=8)),
    }
    ll.audit(
        target, members=(x[member], y[member]), nonmembers=(x[~member], y[~member]), attacks=["gap", attacks[attack]],
        shadow=(made.shadow,), domain=made.candidates.domain, classes=2, budget=120, references=3, thresholds=[],
        batch_rows=REQUEST if isinstance(target, ll.targets.Http) else BATCH, journal=folder / f"{name}.journal",
        out=folder / name, overwrite=True, show_progress=False, references_dir=folder / "references",
    )  # fmt: skip


def sitting(attack: str, target: Any, folder: Path, name: str, seen: Path, kill_at: int | None, wait: float) -> bool:
    """Run in a process of its own; kill it when ``kill_at`` rows were seen, and a little later. Whether it ended."""
    child = os.fork()
    if child == 0:
        try:
            run(attack, target if target is not None else Counting(seen), folder, name)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
        os._exit(0)
    while kill_at is not None and _size(seen) < kill_at:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return True
        time.sleep(0.0005)
    if kill_at is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == 0


def _size(seen: Path) -> int:
    return seen.stat().st_size if seen.exists() else 0


def _answers(journal: Path) -> int:
    return len(read(journal).keys) if journal.exists() and journal.stat().st_size else 0


def trial(case: str, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """One run that is left alone and one that is killed again and again; what came of them."""
    attack, kind = case.split("/")
    whole = folder / "whole.seen"
    window = BATCH if kind == "local" else CONCURRENCY * REQUEST
    run(attack, Counting(folder / "first.seen"), folder, "first")  # the forked need not import anything again
    with contextlib.ExitStack() as stack:
        target: Any = None
        seen = folder / "killed.seen"
        if kind == "service":  # one address for both, which is in the record
            seen = whole
            address = stack.enter_context(service(seen))
            target = ll.targets.Http(url=address, batch_rows=REQUEST, concurrency=CONCURRENCY)
        sitting(attack, target, folder, "whole", whole, None, 0.0)
        rows = _size(whole)
        start = _size(seen)
        generator = np.random.default_rng(seed)
        moments = sorted(generator.integers(1, rows, kills).tolist())
        lost, ended, journal = [], [], folder / "killed.journal"
        for moment, wait in zip(moments, generator.random(kills) * 0.004, strict=True):
            before, had = _size(seen), _answers(journal)
            ended.append(sitting(attack, target, folder, "killed", seen, before + moment - had, wait))
            time.sleep(0.05)  # a service reads what was sent to its end
            canaries = CANARIES if kind == "service" and had else 0
            lost.append(max(0, _size(seen) - before - (_answers(journal) - had) - canaries))
        sitting(attack, target, folder, "killed", seen, None, 0.0)
    files = ("record.json", "arrays.npz")
    log = json.loads((folder / "killed" / "run.json").read_text())
    return {
        "case": case,
        "kills": kills - sum(ended),
        "same": [(folder / "whole" / f).read_bytes() == (folder / "killed" / f).read_bytes() for f in files],
        "rows": rows,
        "rows seen": _size(seen) - start,
        "bound": window,
        "lost": lost,
        "maybe_repaid": log["maybe_repaid"],
    }


def page(results: list[dict[str, Any]]) -> str:
    lines = [
        [
            r["case"], str(r["kills"]), "yes" if all(r["same"]) else "NO", f"{r['rows']:,}", str(sum(r["lost"])),
            str(max(r["lost"])), str(r["bound"]), f"{np.mean(np.array(r['lost']) > 0):.0%}",
        ]
        for r in results
    ]  # fmt: skip
    header = [
        "audit",
        "kills",
        "same record and arrays",
        "rows",
        "paid twice",
        "at most by a kill",
        "bound",
        "kills that cost",
    ]
    return (
        "# Audits that are killed\n\n"
        "`kill -9` at random moments, and the same command again each time, until the audit ends. Written by\n"
        "`python -m benchmarks.kills`.\n\n" + markdown(header, lines)
    )


def kept(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These results, and what was measured of the other audits before."""
    of_case = {r["case"]: r for r in [*figures_of("kills").get("results", []), *results]}
    return [of_case[case] for case in CASES if case in of_case]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"fewer than {KILLS} print, and write nothing")
    parser.add_argument("--only", choices=CASES, help="one audit; the page keeps what was measured of the others")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for case in [arguments.only] if arguments.only else CASES:
        with tempfile.TemporaryDirectory() as folder:
            results.append(trial(case, Path(folder), arguments.kills, arguments.seed))
        print(json.dumps(results[-1]), flush=True)
    if arguments.kills >= KILLS:
        results = kept(results)
        write("kills", {"environment": environment(), "results": results}, page(results))
    else:
        print(page(results))


if __name__ == "__main__":
    main()
