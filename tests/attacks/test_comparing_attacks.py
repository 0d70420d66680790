"""DHAttack, OSLO and YOQO on a real overfitted target, and all of the attacks that compare in one audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import labelleaks
from labelleaks import attacks
from labelleaks.auditing.report import write_report
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.domains import Box
from labelleaks.core.oracle.label_oracle import Gate
from labelleaks.core.types import Candidates
from labelleaks.models.training import Recipe, train
from tests.support import digits

N = 250


@pytest.fixture(scope="module")
def world():
    """Digits, a fifth of the labels wrong, a target that learned its half of them by heart; models shared by all."""
    x, y = digits()
    generator = torch.Generator().manual_seed(1)
    y[: 2 * N] = torch.where(
        torch.rand(2 * N, generator=generator) < 0.2, torch.randint(10, (2 * N,), generator=generator), y[: 2 * N]
    )
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
    train(net, x[:N], y[:N], Recipe(epochs=200, stop_at_interpolation=True), seed=0)
    return lambda rows: net(rows).argmax(1).detach(), x, y, {}


@pytest.mark.parametrize(
    ("attack", "least"),
    [
        (attacks.DHAttack(), 0.55),
        (attacks.Oslo(taus=(0.5, 0.1, 0.02), budgets=30, steps=2, eps=0.3), 0.52),
        (attacks.Yoqo(), 0.52),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_members_are_found_beyond_the_gap(attack: Attack, least: float, world) -> None:
    target, x, y, store = world
    gate = Gate(target)
    knowledge = Knowledge(gate.setup_oracle("setup"), ShadowRows(x[2 * N :]), family="mlp", references=4, store=store)
    rows = Candidates(x[: 2 * N], y[: 2 * N], Box(0, 1), 10)
    value = attack.score(gate.oracle(attack.name, 2 * N, 30), rows, knowledge, seed=0).value.numpy()
    member = np.arange(2 * N) < N
    right = (target(rows.x) == rows.y).numpy()
    assert roc_auc_score(member[right], value[right]) > least


def test_one_audit_of_all_of_them(world, tmp_path: Path) -> None:
    target, x, y, _ = world
    record = labelleaks.audit(
        target,
        members=(x[:20], y[:20]),
        nonmembers=(x[N : N + 20], y[N : N + 20]),
        shadow=(x[2 * N : 2 * N + 300],),
        domain=Box(0, 1),
        family="mlp",
        attacks=["gap", "dhattack", attacks.Oslo(budgets=3, steps=1), "yoqo", attacks.Chameleon(copies=5)],
        budget=10,
    )
    assert list(record.attacks) == ["gap", "dhattack", "oslo", "yoqo", "chameleon"]
    assert all(found.queries.max() <= 10 for found in record.attacks.values())
    assert record.attacks["yoqo"].queries.max() == 1
    # What an attack did not ask for is no disagreement, and no figure about it is given.
    assert "randomised_labels" not in {flag.name for flag in record.flags}
    assert record.attacks["gap"].given_correct.members > record.attacks["yoqo"].given_correct.members == 0
    assert "known to classify correctly" in record.attacks["yoqo"].given_correct.auc.reason
    assert sum(count for phase, count in record.ledger.setup.items() if "relabel" in phase) <= 300  # once for all
    page = write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "asked about by other inputs" in page
