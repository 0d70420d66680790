"""A process that is killed while it asks a service: the next one pays again for at most what was in flight."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.targets import Http, wrap
from tests.servers.faulty import Faulty, rows_of, truth

pytestmark = pytest.mark.kill

CONCURRENCY, BATCH = 3, 4
X = rows_of(600)
CHILD = """
import sys
import torch
from tests.targets.http.test_kill import X, options
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.gate import Gate
from labelleaks.targets import wrap

with wrap(options(sys.argv[1]), numpy=True, classes=3) as target, Journal(sys.argv[2], "t") as journal:
    Gate(target, batch_rows=target.batch_rows, journal=journal).ask(X, torch.zeros(len(X), dtype=torch.int64), "a.b", 1)
"""


def options(url: str) -> Http:
    return Http(url=url, batch_rows=BATCH, concurrency=CONCURRENCY, backoff=0.001)


def _killed(server: Faulty, journal: Path, after: int) -> None:
    """Start asking in a process of its own and kill it when the service has seen ``after`` further rows."""
    start = server.rows
    root = str(Path(__file__).parents[3])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path]), "NO_PROXY": "127.0.0.1"}
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, str(journal)], env=env, cwd=root)
    end = time.monotonic() + 120.0
    while server.rows < start + after and child.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    assert child.poll() is None, "it ended before it was killed"
    child.kill()
    child.wait()


def test_a_kill_costs_at_most_what_was_in_flight(tmp_path: Path) -> None:
    with Faulty(latency=0.03) as server:
        for after in (40, 210):
            _killed(server, tmp_path / "j", after)
        time.sleep(0.1)
        with wrap(options(server.url), numpy=True, classes=3) as target, Journal(tmp_path / "j", "t") as journal:
            kept = len(journal)
            assert kept >= 250 - 2 * CONCURRENCY * BATCH
            gate = Gate(target, batch_rows=target.batch_rows, journal=journal)
            assert gate.ask(X, torch.zeros(len(X), dtype=torch.int64), "a.b", 1).equal(truth(X))
            assert gate.ledger.cached == kept
        assert len(X) <= server.rows <= len(X) + 2 * CONCURRENCY * BATCH
