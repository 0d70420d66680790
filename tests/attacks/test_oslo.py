"""OSLO: which input is sent for which tau, how the taus are asked, what a budget plans, and what is refused."""

from __future__ import annotations

import pytest
import torch

from labelleaks.attacks.oslo import Oslo, _Craft, _spread
from labelleaks.attacks.surrogate_gradients import confidence
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Status
from labelleaks.errors import InputError
from labelleaks.models import reference_models
from labelleaks.models.training import Recipe
from labelleaks.testing.planted import remembered

SHORT = Recipe(epochs=8)


def given(name: str = "vector", count: int | None = 4, **more):
    made = remembered(name)
    gate = Gate(made.target())
    return made, gate, Knowledge(gate.setup_oracle("setup"), ShadowRows(made.shadow), references=count, **more)


@pytest.mark.parametrize("name", ["vector", "image", "binary", "mixed"])
def test_the_first_level_below_tau_is_sent(name: str) -> None:
    made, _, knowledge = given(name)
    attack = Oslo(taus=(0.6, 0.2), budgets=4, steps=2, eps=0.4, recipe=SHORT)
    references = reference_models.references(knowledge, 2, seed=0, recipe=SHORT)
    models = references.models
    rows = torch.arange(0, 32, 3)
    sent, level = _Craft(attack, made.candidates, references, 0).points(rows, attack.taus)
    x, y, domain = made.candidates.x[rows], made.candidates.y[rows], made.candidates.domain
    for points in sent:
        domain.check(points, "sent")
    assert (level[0] <= level[1]).all() and int(level.max()) <= 4
    unsure = [confidence(models[3:], points, y) for points in sent]
    for tau, sure, k in zip(attack.taus, unsure, level, strict=True):
        assert ((sure < tau) | (k == 4)).all()
    assert torch.equal(sent[0][level[0] == 0], x[level[0] == 0])
    assert (confidence(models[3:], x, y)[level[0] > 0] >= 0.6).all()
    if name in ("vector", "image"):
        moved = ((sent - x) / domain.span(made.candidates.shape)).abs().flatten(2).amax(2)
        assert (moved <= 0.4 * level / 4 + 0.5 / 255 + 1e-6).all()  # to a level of the 8 bits
    assert (unsure[1] < confidence(models[3:], x, y)).to(torch.float64).mean() > 0.5


def test_the_score_counts_the_taus_survived() -> None:
    made, gate, knowledge = given()
    attack = Oslo(taus=(0.2, 0.7, 0.5), budgets=4, steps=2, recipe=SHORT)
    assert attack.taus == (0.7, 0.5, 0.2)
    n = len(made.candidates)
    scores = attack.score(gate.oracle("oslo", n, 10), made.candidates, knowledge, seed=0)
    references = reference_models.references(knowledge, 2, seed=0, recipe=SHORT)
    sent, level = _Craft(attack, made.candidates, references, 0).points(torch.arange(n), attack.taus)
    held = torch.stack([made.decide(points) == made.candidates.y for points in sent])
    survived = held.to(torch.int64).cumprod(0).sum(0)
    assert torch.equal(scores.value, survived.double())
    assert torch.equal(scores.queries, (survived + 1).clamp(max=3))
    assert torch.equal(gate.ledger.candidates["oslo.moved"], scores.queries)
    assert torch.equal(scores.details["level"], level.gather(0, survived.clamp(max=2)[None])[0])
    assert (scores.status == int(Status.UNASKED)).all()
    assert scores.trajectory is not None and scores.trajectory.checkpoints == (1, 2, 3)
    assert torch.equal(scores.trajectory.value[0], survived.clamp(max=1).double())
    assert len(survived.unique()) > 1


def test_one_tau_is_one_label_and_a_hard_decision() -> None:
    made, gate, knowledge = given()
    scores = Oslo(taus=(0.4,), budgets=2, steps=2, recipe=SHORT).score(
        gate.oracle("oslo", 32, None), made.candidates, knowledge, seed=0
    )
    assert (scores.queries == 1).all() and set(scores.value.tolist()) == {0.0, 1.0}


def test_a_budget_takes_taus_from_all_over_the_tuple() -> None:
    taus = tuple(range(10))
    assert _spread(taus, 10) == taus
    assert _spread(taus, 1) == (5,) and _spread(taus, 2) == (2, 7)
    assert all(len(set(_spread(taus, count))) == count for count in range(1, 11))
    made, _, knowledge = given()
    cost = Oslo().cost(made.candidates, knowledge, 3)
    assert (cost.least, cost.most, cost.setup) == (1, 3, len(made.shadow))
    assert Oslo().cost(made.candidates, knowledge, 300).most == len(Oslo().taus)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"taus": ()}, r"taus must be 1 or more numbers in \(0, 1\), got \(\)"),
        ({"taus": (0.5, 1.0)}, r"numbers in \(0, 1\), got 1\.0 in \(0\.5, 1\.0\)"),
        ({"eps": 0.0}, r"eps must be a number in \(0, 1\]"),
        ({"source": 1.5}, r"source must be a number in \(0, 1\]"),
        ({"budgets": 0}, "budgets must be a whole number of at least 1, got 0"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"momentum": -1.0}, r"momentum must be a number in \[0, inf\)"),
        ({"diversity": 2.0}, r"diversity must be a number in \[0, 1\]"),
    ],
)
def test_bad_settings_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Oslo(**settings)


def test_what_the_attack_cannot_do_without_is_refused_before_a_label_is_bought() -> None:
    for more, error, says in (({"count": 1}, InputError, "two reference models at least"),):
        made, gate, knowledge = given(**more)
        with pytest.raises(error, match=says):
            Oslo().cost(made.candidates, knowledge, 10)
        with pytest.raises(error, match=says):
            Oslo().prepare(knowledge, made.candidates, seed=0)
        assert gate.ledger.rows == 0
