"""What attacks share: the protocol, votes, and how they compare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import labelleaks
from labelleaks import attacks
from labelleaks.attacks import Boundary
from labelleaks.auditing.report import write_report
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError
from labelleaks.models.training import Recipe, train
from tests.support import digits, run


@pytest.mark.parametrize("name", attacks.names())
def test_a_name_gives_a_configured_attack(name: str) -> None:
    attack = attacks.resolve(name)
    assert isinstance(attack, Attack)
    assert attack.name == name
    assert type(attack) is attacks.load(name) is getattr(attacks, type(attack).__name__)
    assert attacks.resolve(attack) is attack


def test_every_attack_is_public() -> None:
    assert {attacks.load(name).__name__ for name in attacks.names()} <= set(attacks.__all__)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("boundry", "unknown attack 'boundry'; did you mean 'boundary'"),
        ("zzz", "known: augmentation, boundary, .*gap, .*transfer"),
        (
            3,
            "3 is not an attack: it lacks name, needs, is_distance, anytime, whole, revision, about, cost, prep",
        ),
        (attacks.Gap, r"Gap is a class: configure it, Gap\(\)"),
    ],
)
def test_what_is_not_an_attack_is_refused(given, says: str) -> None:
    with pytest.raises(InputError, match=says):
        attacks.resolve(given)


def test_an_attack_that_lacks_most_members_is_told_what_to_add() -> None:
    class Halfway:
        name = "halfway"

        def score(self) -> None: ...

    with pytest.raises(
        InputError, match=r"^attack Halfway lacks needs, .*: add needs: ClassVar.*; def prepare"
    ) as refused:
        attacks.resolve(Halfway())  # type: ignore[arg-type]
    assert " object at 0x" not in str(refused.value)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Boundry'"):
        _ = attacks.Boundry


def test_only_what_is_used_is_imported() -> None:
    code = (
        "import sys, labelleaks.attacks as a; a.names(); before = 'torch' in sys.modules; a.Gap();"
        "print(before, sorted(m for m in sys.modules if m.startswith('labelleaks.attacks.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False ['labelleaks.attacks.gap']"


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


D = 12
X = torch.rand(60, D, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
W = torch.linspace(0.5, 1.5, D, dtype=torch.float64)
LEVEL = float((X.double() @ W).median())
TRUE = ((X.double() @ W - LEVEL).abs() / W.norm()).clamp_min(1e-9)  # the exact distance to the plane


def plane(x: Tensor) -> Tensor:
    return (x.double() @ W > LEVEL).long()


def score(share: float, votes: int, budget: int, shadow: Tensor | None = None) -> tuple[Scores, Gate, Boundary]:
    generator = torch.Generator().manual_seed(1)

    def noisy(x: Tensor) -> Tensor:
        flipped = torch.rand(len(x), generator=generator) < share
        return torch.where(flipped, 1 - plane(x), plane(x))

    attack = Boundary(votes=votes)
    found, gate = run(attack, noisy, Candidates(X, plane(X), Box(0, 1), 2), budget=budget, shadow=shadow)
    return found, gate, attack


def test_votes_keep_the_distance_right_where_one_answer_does_not() -> None:
    once, often = score(0.1, 1, 600)[0], score(0.1, 9, 2400)[0]

    def right(found: Scores) -> float:
        """Share of candidates whose distance is within a fifth of the true one."""
        ratio = found.value / TRUE
        return float(((ratio > 0.8) & (ratio < 1.2)).double().mean())

    assert right(often) > 0.85
    assert right(once) < right(often) - 0.25
    assert 0.85 < float(often.details["agreement"].mean()) < 0.97
    assert "agreement" not in once.details


@pytest.mark.parametrize("votes", [3, 5])
def test_a_quiet_target_gives_the_distances_of_one_vote_for_more_labels(votes: int) -> None:
    once, often = score(0.0, 1, 10_000)[0], score(0.0, votes, 60_000)[0]
    assert torch.equal(once.value, often.value) and torch.equal(once.status, often.status)
    assert (often.details["agreement"] == 1.0).all()
    assert (often.queries > once.queries).all() and (often.queries < votes * once.queries).all()


@pytest.mark.parametrize("budget", [120, 333])
def test_the_budget_holds_and_every_row_is_billed(budget: int) -> None:
    found, gate, attack = score(0.3, 3, budget, shadow=torch.rand(20, D))
    assert int(found.queries.max()) <= budget
    assert gate.ledger.setup == {"boundary.starts": 60}
    assert gate.ledger.rows == int(found.queries.sum()) + 60
    assert (found.status != int(Status.NO_START)).any() and bool(torch.isfinite(found.value).all())
    knowledge = Knowledge(gate.setup_oracle("boundary"), ShadowRows(torch.rand(20, D)))
    cost = attack.cost(Candidates(X, plane(X), Box(0, 1), 2), knowledge, budget)
    assert cost.setup == 60 and cost.least <= budget == cost.most


@pytest.mark.parametrize("votes", [0, 2, -1, 1.5])
def test_votes_are_odd(votes: int) -> None:
    with pytest.raises(InputError, match="votes must be"):
        Boundary(votes=votes)
