"""kill -9 at any moment, start again: the same record and arrays bit for bit, and little is asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import labelleaks as ll
from labelleaks.attacks import Boundary, Guided
from labelleaks.planted import remembered
from labelleaks.training import Recipe

BATCH = 24
KILLS = 5


class Counting:
    """A target that leaves a byte in a file for each row that it sees, whatever becomes of the process."""

    fingerprint = "planted"

    def __init__(self, path: Path) -> None:
        self.target = remembered("vector").target()
        self.file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def __call__(self, x: Tensor) -> Tensor:
        os.write(self.file, b"." * len(x))
        time.sleep(0.002)  # so that many kills meet rows on their way
        return self.target(x)


def run(attack: str, folder: Path, name: str) -> None:
    made = remembered("vector")
    x, y, member = made.candidates.x, made.candidates.y, made.member
    attacks: dict[str, Any] = {
        "boundary": Boundary(max_iterations=4),
        "guided": Guided(labels=25, ways=3, recipe=Recipe(epochs=8)),
    }
    ll.audit(
        Counting(folder / f"{name}.seen"), members=(x[member], y[member]), nonmembers=(x[~member], y[~member]),
        attacks=["gap", attacks[attack]], shadow=(made.shadow,), domain=made.candidates.domain, classes=2, budget=120,
        references=3, thresholds=[], batch_rows=BATCH, journal=folder / f"{name}.journal", out=folder / name,
        overwrite=True, show_progress=False, references_dir=folder / "references",
    )  # fmt: skip


def sitting(attack: str, folder: Path, name: str, kill_at: int | None, wait: float = 0.0) -> bool:
    """Run in a process of its own; kill it when ``kill_at`` rows were seen, and a little later. Whether it ended."""
    child = os.fork()
    if child == 0:
        try:
            run(attack, folder, name)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
        os._exit(0)
    seen = folder / f"{name}.seen"
    while kill_at is not None and (not seen.exists() or seen.stat().st_size < kill_at):
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


def trial(attack: str, folder: Path, seed: int) -> dict[str, Any]:
    """One run that is left alone and one that is killed again and again; what came of them."""
    sitting(attack, folder, "whole", None)
    rows = (folder / "whole.seen").stat().st_size
    generator = np.random.default_rng(seed)
    moments = sorted(generator.integers(1, rows, KILLS).tolist())
    ended = [
        sitting(attack, folder, "killed", at, wait)
        for at, wait in zip(moments, generator.random(KILLS) * 0.004, strict=True)
    ]
    sitting(attack, folder, "killed", None)
    same = [
        (folder / "whole" / file).read_bytes() == (folder / "killed" / file).read_bytes()
        for file in ("record.json", "arrays.npz")
    ]
    log = json.loads((folder / "killed" / "run.json").read_text())
    return {"same": same, "rows": rows, "seen": (folder / "killed.seen").stat().st_size, "ended": ended, "log": log}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("attack", ["boundary", "guided"])
def test_a_killed_audit_ends_with_the_same_bits(attack: str, tmp_path: Path) -> None:
    code = "import sys, json; from pathlib import Path; from tests.test_replay_kill import trial; import torch;"
    code += "torch.set_num_threads(1); print(json.dumps(trial(sys.argv[1], Path(sys.argv[2]), 0)))"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, attack, str(tmp_path)], cwd=root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same"] == [True, True]
    assert not any(found["ended"][:3])  # they were killed indeed
    assert found["rows"] <= found["seen"] <= found["rows"] + KILLS * BATCH
    assert 0 <= found["log"]["maybe_repaid"] <= BATCH
