"""What several files of tests need: pictures of digits, one attack on one target, the command line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from typer.testing import CliRunner, Result

from labelleaks.cli.main import app
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Predict, Scores


@cache
def _digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(found.images / 16, dtype=torch.float32)[order], torch.tensor(found.target)[order]


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 pictures (1797, 8, 8) of scikit-learn's digits, float32 in 0 … 1, and their labels, shuffled."""
    x, y = _digits()
    return x.clone(), y.clone()


def run(
    attack: Attack,
    target: Predict,
    candidates: Candidates,
    *,
    budget: int | None = None,
    shadow: Tensor | None = None,
    starts: Tensor | None = None,
    family: Any = None,
    references: int | None = None,
    batch_rows: int = 256,
    seed: int = 0,
) -> tuple[Scores, Gate]:
    """Scores of one attack on a target of the test's own, and the gate that every label came through."""
    gate = Gate(target, batch_rows=batch_rows)
    rows = None if shadow is None else ShadowRows(shadow)
    knowledge = Knowledge(gate.setup_oracle(attack.name), rows, starts, family, references)
    oracle = gate.oracle(attack.name, len(candidates), budget)
    return attack.score(oracle, candidates, knowledge, seed=seed), gate


def cli(*words: str | Path, env: dict[str, str] | None = None) -> Result:
    """Exit code and output of ``labelleaks WORDS``, run in this process; what it should have caught is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done
