"""kill -9 at any moment, start again: the same record and arrays bit for bit, and little is asked twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kill

KILLS = 5


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("case", ["boundary/local", "guided/local", "boundary/service"])
def test_a_killed_audit_ends_with_the_same_bits(case: str) -> None:
    """Five moments; ``python -m benchmarks.kills`` has fifty of each audit."""
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", str(KILLS), "--only", case]
    root = Path(__file__).parents[3]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    assert found["same"] == [True, True]
    assert found["kills"] >= 3  # most were killed indeed, before they ended
    assert max(found["lost"]) <= found["bound"]
    assert (
        found["rows"] <= found["rows seen"] <= found["rows"] + KILLS * (found["bound"] + 8)
    )  # 8 canaries of a service
    assert 0 <= found["maybe_repaid"] <= found["bound"]
