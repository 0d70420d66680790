"""Peak memory grows by the candidates and a bounded chunk, not by candidates x probes. RSS of a subprocess."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.memory

FEW, MANY = 200, 2000
WIDTH = 28 * 28
BUDGET = 250
MEGABYTE = 1 << 20
COPIES = 24
"""Arrays of the candidates' size that an attack may hold at a time: x itself, best so far, a step's ends, details."""
CHUNK = 96 * MEGABYTE
"""For what the few do not fill yet: a chunk of probes on its way from table to target, and the allocator's slack."""

SCRIPT = """
import json, resource, sys
import torch
from labelleaks import attacks
from labelleaks.attacks import noise
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.attack import Knowledge
from labelleaks.core.types import Candidates

torch.set_num_threads(1)
name, unchunked, few, many, side, budget = json.loads(sys.argv[1])
if unchunked:
    noise._BLOCK = 1 << 40
attack = {
    "noise": lambda: attacks.Noise(),
    "augmentation": lambda: attacks.Augmentation(),
    "boundary": lambda: attacks.Boundary(),
    "boundary linf": lambda: attacks.Boundary(norm="linf"),
}[name]()

def decide(rows):
    return (rows.reshape(len(rows), -1)[:, ::49].mean(1) > 0.5).to(torch.int64)

def run(n):
    x = 0.5 + 0.2 * (torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(n)) - 0.5)
    candidates = Candidates(x, decide(x), Box(0, 1), classes=2)
    gate = Gate(decide)
    scores = attack.score(
        gate.oracle("attack", n, budget), candidates, Knowledge(setup=gate.setup_oracle("setup")), seed=0
    )
    assert len(scores.value) == n
    return gate.ledger.rows

peaks, rows = [], []
for n in (few, many):
    rows.append(run(n))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(json.dumps({"growth": peaks[1] - peaks[0], "rows": rows}))
"""


def growth(name: str, *, unchunked: bool = False) -> tuple[int, int]:
    """Return by how many bytes the peak rises from few to many candidates, and the rows that the many sent."""
    arguments = json.dumps([name, unchunked, FEW, MANY, 28, BUDGET])
    done = subprocess.run([sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["growth"], found["rows"][1]


ALLOWED = COPIES * (MANY - FEW) * WIDTH * 4 + CHUNK


@pytest.mark.parametrize("name", ["noise", "augmentation", "boundary", "boundary linf"])
def test_memory_grows_by_the_candidates_not_by_their_probes(name: str) -> None:
    grown, rows = growth(name)
    assert rows >= MANY * 10
    assert grown < ALLOWED, f"{grown / MEGABYTE:.0f} MB more for {MANY} candidates than for {FEW}"


def test_the_measure_sees_probes_that_are_not_chunked() -> None:
    grown, rows = growth("noise", unchunked=True)
    assert grown > ALLOWED
    assert grown > 0.4 * rows * WIDTH * 4
