"""The ladder: which attacks, at which budgets, what they cost, and the curve that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import labelleaks as ll
from labelleaks import attacks as registry
from labelleaks.auditing import ladder
from labelleaks.cli import demo
from labelleaks.core.attack import About, Cost, Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores


@dataclass(frozen=True)
class Planner:
    """Asks as often as it may, up to 30 times, and scores by the number of labels: it plans for its budget."""

    name: ClassVar[str] = "planner"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About("Asks as often as it may.", "labels")

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        return Cost(least=2, most=max(2, min(budget, 30)))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        n, most = len(candidates), min(30, int(oracle.remaining().min()))
        owner = torch.arange(n).repeat(most)
        right = oracle.query(torch.cat([candidates.x] * most), owner, phase="ask") == candidates.y.repeat(most)
        return Scores(
            value=right.reshape(most, n).sum(0).to(torch.float64) + 100 * most,
            status=torch.zeros(n, dtype=torch.int64),
            queries=torch.full((n,), most),
        )


@pytest.fixture(scope="module")
def case() -> demo.DemoCase:
    return demo.build(seed=0)


def _knowledge(case: demo.DemoCase, *, shadow: bool) -> tuple[Candidates, Knowledge]:
    gate = Gate(lambda x: torch.zeros(len(x), dtype=torch.int64))
    x, y = (torch.as_tensor(part[:4]) for part in case.members)
    rows = ShadowRows(torch.as_tensor(case.shadow[0])) if shadow else None
    return Candidates(x.float(), y.long(), ll.Box(0, 1), 10), Knowledge(setup=gate.setup_oracle("x"), shadow=rows)


def test_rungs_are_the_budgets_that_change_something() -> None:
    def cost(budget: int) -> Cost:
        return Cost(least=2, most=min(budget, 30))

    assert ladder.rungs(cost, 1) == ()
    assert ladder.rungs(cost, 2) == (2,)
    assert ladder.rungs(cost, 20) == (2, 5, 10, 20)
    assert ladder.rungs(cost, 25) == (2, 5, 10, 20, 25)
    assert ladder.rungs(cost, 500) == (2, 5, 10, 20, 50), "30 labels are all that it asks: 100 would ask the same"


def test_all_runs_are_in_the_cost(case: demo.DemoCase) -> None:
    candidates, knowledge = _knowledge(case, shadow=True)
    cost, budgets = ladder.cost_of(Planner(), candidates, knowledge, 20)
    assert budgets == (2, 5, 10, 20) and (cost.least, cost.most) == (2, 37)
    cost, budgets = ladder.cost_of(registry.resolve("noise"), candidates, knowledge, 20)
    assert budgets == () and cost.most == 20


def test_without_shadow_rows_nothing_needs_them(case: demo.DemoCase) -> None:
    candidates, knowledge = _knowledge(case, shadow=False)
    found = ladder.climb(candidates, knowledge, 100)
    assert {"gap", "noise", "boundary"} <= {attack.name for attack in found.attacks}
    assert all("shadow" not in attack.needs for attack in found.attacks)
    assert any("transfer is left out" in sentence and "shadow" in sentence for sentence in found.left_out)


def test_with_shadow_rows_and_one_label_only_what_one_label_allows(case: demo.DemoCase) -> None:
    candidates, knowledge = _knowledge(case, shadow=True)
    found = ladder.climb(candidates, knowledge, 1)
    names = [attack.name for attack in found.attacks]
    assert "gap" in names and "transfer" in names and "boundary" not in names
    assert any("boundary is left out" in sentence and "labels" in sentence for sentence in found.left_out)
    every = {*names, *(sentence.split()[1] for sentence in found.left_out)}
    assert every == set(registry.names())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of three attacks, one of which plans for its budget."""
    known = {"gap": registry.load("gap"), "noise": registry.load("noise"), "planner": Planner}
    monkeypatch.setattr(registry, "names", lambda: tuple(known))
    monkeypatch.setattr(registry, "load", known.__getitem__)


def _few(rows: tuple, n: int = 6) -> tuple:  # type: ignore[type-arg]
    return tuple(part[:n] for part in rows)


@pytest.mark.parametrize("asked", ["ladder", ["ladder"]])
def test_an_audit_makes_one_curve_of_all_runs(case: demo.DemoCase, short: None, asked: object) -> None:
    arguments = {
        "members": _few(case.members), "nonmembers": _few(case.nonmembers), "shadow": case.shadow, "attacks": asked,
        "budget": 10,
    }  # fmt: skip
    record = ll.audit(case.target, **arguments)
    assert list(record.attacks) == ["gap", "noise", "planner"]
    planner = record.attacks["planner"]
    assert planner.checkpoints == (2, 5, 10) and [point.labels for point in planner.curve] == [2, 5, 10]
    assert planner.trajectory is not None
    assert (planner.trajectory[:, 0] // 100).tolist() == [2.0, 5.0, 10.0] and (planner.queries == 10).all()
    assert record.ledger.candidates["planner.ask"] == 12 * (2 + 5 + 10)
    assert record.spec["ladder"] == {"planner": [2, 5, 10]}

    forecast = ll.forecast(case.target, **arguments, probe=False)
    lines = {line.name: line for line in forecast.lines}
    assert lines["planner"].budgets == (2, 5, 10) and lines["planner"].labels == 17
    assert lines["planner"].rows == 12 * 17 and lines["noise"].budgets == ()


def test_a_lowered_budget_leaves_rungs_out(case: demo.DemoCase, short: None) -> None:
    arguments = {
        "members": _few(case.members), "nonmembers": _few(case.nonmembers), "shadow": case.shadow, "attacks": "ladder",
    }  # fmt: skip
    total = 16 + 12 * (1 + 1)  # the probe; one label for gap and noise is one too few for noise
    record = ll.audit(case.target, **arguments, budget=10, budget_total=total)
    assert list(record.attacks) == ["gap"] and record.ledger.rows <= total
    assert any("planner" in note and "left out" in note for note in record.notes)


def test_other_attacks_may_stand_beside_it(case: demo.DemoCase, short: None) -> None:
    louder = ll.attacks.Noise(emphasis=0.0)
    record = ll.audit(
        case.target, members=_few(case.members), nonmembers=_few(case.nonmembers), attacks=["ladder", louder, "gap"],
        budget=5,
    )  # fmt: skip
    assert list(record.attacks) == ["gap", "noise", "noise(emphasis=0.0)"]
    assert any("planner is left out, it needs shadow" in note for note in record.notes)
