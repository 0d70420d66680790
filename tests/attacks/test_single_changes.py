"""Single changes of rows: which exist, what they gain by a gradient and as measured, families without gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from labelleaks.attacks import Guided, Oslo, Yoqo
from labelleaks.attacks._guided.directions import Split, StartPoints, ensemble_log_odds, log_odds, perturb_to
from labelleaks.attacks._guided.likelihood import ratio, single_changes_of
from labelleaks.attacks.single_changes import SingleChanges, mean_objective, slopes
from labelleaks.core import attack as contract
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.errors import NeedsError
from labelleaks.models.shadow_model import Network
from labelleaks.testing.planted import remembered
from tests.attacks.test_guided import plane

MIXED = Mixed(Continuous(-2, 2), Integer(0, 9), OneHot(3), Integer(0, 1))
SCALE = torch.tensor([0.5, 2.0, 0.4, 0.4, 0.4, 0.5])


class Opaque(Network):
    """A network whose gradient nobody may ask for."""

    differentiable = False

    def gradient(self, *_: object) -> Tensor:
        raise AssertionError("the gradient was asked for")


def opaque(w: Tensor) -> Opaque:
    network = plane(w)
    assert isinstance(network, Network)
    return Opaque(network.module, network.classes, network.shape, network.training)


def test_each_kind_of_feature_has_its_changes() -> None:
    changes = SingleChanges.of(MIXED, SCALE)
    first, second = changes.others(torch.tensor([[1.5, 3.0, 0.0, 1.0, 0.0, 1.0]]))
    assert first.tolist() == [[2.0, 7.0, 1.0, 1.0, 1.0, 1.0]]
    assert second.tolist() == [[0.5, 0.0, 0.0, 1.0, 0.0, 0.0]]
    bits, _ = SingleChanges.of(Binary(), torch.ones(3)).others(torch.tensor([[0.0, 1.0, 1.0]]))
    assert bits.tolist() == [[1.0, 0.0, 0.0]]


def test_another_category_unsets_the_one_before() -> None:
    changes = SingleChanges.of(MIXED, SCALE)
    z = torch.tensor([[1.5, 3.0, 0.0, 1.0, 0.0, 1.0]])
    assert changes.made(z, torch.tensor([4]), torch.tensor([1.0])).tolist() == [[1.5, 3.0, 0.0, 0.0, 1.0, 1.0]]
    free = changes.without(torch.ones(1, 6, dtype=torch.bool), torch.tensor([4]))
    assert free.tolist() == [[True, True, False, False, False, True]]


@pytest.mark.parametrize("domain", [Binary(), MIXED], ids=["binary", "mixed"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_on_planes_what_is_measured_is_what_the_gradient_predicts(domain: Domain, sign: int) -> None:
    """So the same features change, in the same order, and no gradient is asked for."""
    generator = torch.Generator().manual_seed(0)
    x = domain.from_uniform(torch.rand(40, 6, generator=generator))
    w = torch.randn(6, generator=generator)
    y = (x @ w > 0).to(torch.int64)
    points = []
    for models in ((plane(w), plane(w)), (opaque(w), opaque(w))):
        start = StartPoints(models, x, y, domain, ensemble_log_odds(models, x, y), SCALE)
        drop = torch.linspace(0.1, 3, len(x), dtype=torch.float64)
        points.append(perturb_to(start, Split((0,), (1,)), torch.arange(len(x)), drop, sign=sign))
    assert torch.equal(points[0][0], points[1][0]) and torch.equal(points[0][1], points[1][1])
    assert (points[0][0] != x).any(1).sum() > 30


def test_differences_stand_for_a_gradient() -> None:
    """On a plane they are its weights, of categories less that of the one that is set; 0 where nothing gains."""
    w = torch.tensor([1.0, -2.0, 0.5, 3.0, 2.0, 4.0])
    x = torch.tensor([[0.0, 5.0, 0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 1.0, 0.0, 0.0, 1.0]])
    y = torch.ones(2, dtype=torch.int64)
    changes = SingleChanges.of(MIXED, SCALE)
    found = slopes((opaque(w),), x, y, log_odds, changes=changes)
    torch.testing.assert_close(found, torch.tensor([[1, -2, -2.5, 0, -1, 4], [0, 0, 0, 2.5, 1.5, 0]]))
    falling = slopes((opaque(w),), x, y, log_odds, changes=changes, falling=True)
    torch.testing.assert_close(falling, torch.tensor([[1, -2, -2.5, 0, -1, 0], [1, -2, 0, 2.5, 1.5, 4.0]]))


def test_a_row_is_measured_alike_in_any_company() -> None:
    x = MIXED.from_uniform(torch.rand(30, 6, generator=torch.Generator().manual_seed(1)))
    y, models = torch.ones(30, dtype=torch.int64), (opaque(torch.randn(6)), opaque(torch.randn(6)))
    changes = SingleChanges.of(MIXED, SCALE)
    free = torch.rand(30, 6, generator=torch.Generator().manual_seed(2)) < 0.5

    def best(rows: Tensor) -> tuple[Tensor, Tensor]:
        ask = mean_objective(models, x[rows], y[rows], log_odds)
        return changes.best(x[rows], changes.measured(x[rows], free[rows], ask))

    value, gain = best(torch.arange(30))
    assert (torch.isfinite(gain) <= free).all() and torch.isfinite(gain).any()
    for rows in (torch.arange(30).flip(0), torch.tensor([7]), torch.arange(3, 20)):
        assert torch.equal(best(rows)[0], value[rows]) and torch.equal(best(rows)[1], gain[rows])


FORESTLIKE = (LogisticRegression(), RandomForestClassifier(5, max_depth=4))


@pytest.mark.parametrize("name", ["binary", "mixed", "vector"])
@pytest.mark.parametrize("family", FORESTLIKE, ids=["logistic", "forest"])
def test_guided_finds_members_with_references_that_have_no_gradient(name: str, family: object) -> None:
    made = remembered(name)
    scores = []
    for rows in (torch.arange(32), torch.arange(31, -1, -2)):  # in any company
        gate = Gate(made.target())
        candidates = replace(made.candidates, x=made.candidates.x[rows], y=made.candidates.y[rows], ids=())
        knowledge = Knowledge(gate.setup_oracle("setup"), ShadowRows(made.shadow), family=family, references=3)
        made_scores = contract.run(
            Guided(labels=6), gate.oracle("guided", len(rows), None), candidates, knowledge, seed=0
        )
        assert gate.ledger.rows == int(made_scores.queries.sum()) + len(made.shadow)
        scores.append(made_scores.value)
    assert torch.equal(scores[0].flip(0)[::2], scores[1])
    assert float(scores[0][made.member].mean()) > float(scores[0][~made.member].mean())


@pytest.mark.parametrize("attack", [Oslo(taus=(0.4,), budgets=2, steps=2), Yoqo(rounds=3)], ids=["oslo", "yoqo"])
@pytest.mark.parametrize("name", ["mixed", "vector"])
def test_oslo_and_yoqo_craft_with_references_that_have_no_gradient(attack: contract.Attack, name: str) -> None:
    """What they send has moved to where models outside are less sure of the label."""
    made = remembered(name)
    seen: list[Tensor] = []
    gate = Gate(made.target())
    knowledge = Knowledge(
        gate.setup_oracle("setup"), ShadowRows(made.shadow), family=LogisticRegression(), references=2
    )
    rows = torch.arange(0, 32, 4)
    candidates = replace(made.candidates, x=made.candidates.x[rows], y=made.candidates.y[rows], ids=())
    oracle = gate.oracle(attack.name, len(rows), None)
    ask = oracle.query
    oracle.query = lambda x, *a, **k: (seen.append(x.clone()), ask(x, *a, **k))[1]  # type: ignore[method-assign]
    contract.run(attack, oracle, candidates, knowledge, seed=0)
    sent = torch.cat(seen)
    made.candidates.domain.check(sent, "sent")
    models = [model for model in knowledge.store.values() if hasattr(model, "logits")]
    before, after = (ensemble_log_odds(models, x, candidates.y).mean(0) for x in (candidates.x, sent))
    assert (after <= before + 1e-9).all() and (after < before - 0.1).sum() >= 4


@pytest.mark.parametrize("attack", [Guided(), Oslo(), Yoqo()], ids=["guided", "oslo", "yoqo"])
def test_rows_too_wide_for_single_changes_are_refused_by_name_before_a_label(attack: contract.Attack) -> None:
    gate = Gate(lambda x: torch.zeros(len(x), dtype=torch.int64))
    rows = Candidates(torch.rand(4, 1025), torch.zeros(4, dtype=torch.int64), Box(0, 1), 2)
    shadow = ShadowRows(torch.rand(9, 1025))
    knowledge = Knowledge(gate.setup_oracle("s"), shadow, family=LogisticRegression())
    says = rf"{attack.name}: LogisticRegression has no gradient, .* 1024 at most, and rows have 1025: .* family='mlp'"
    with pytest.raises(NeedsError, match=says):
        attack.prepare(knowledge, rows, seed=0)
    assert gate.ledger.rows == 0
    assert attack.cost(rows, replace(knowledge, family="mlp"), 10).least == 1  # the mend


def test_the_changes_at_which_the_directing_half_is_least_sure_come_first() -> None:
    x = torch.tensor([[0.0, 5.0, 0.0, 1.0, 0.0, 0.0]])
    directing, measuring = torch.tensor([1.0, -2.0, 0.5, 3.0, 2.0, 4.0]), torch.arange(6.0)
    rows = Candidates(x, torch.ones(1, dtype=torch.int64), MIXED, 2)
    models = (opaque(directing), opaque(measuring))
    changes = SingleChanges.of(MIXED, SCALE)
    found = single_changes_of(rows, torch.arange(1), models, changes, 4)
    MIXED.check(found.x[0], "questions")
    by_hand = [[0, 9, 0, 1, 0, 0], [0, 5, 1, 0, 0, 0], [-1, 5, 0, 1, 0, 0], [0, 5, 0, 0, 1, 0]]  # -8, -2.5, -1, -1
    assert found.x[0, :2].tolist() == by_hand[:2]
    assert sorted(found.x[0, 2:].tolist()) == sorted(by_hand[2:])
    torch.testing.assert_close(found.log_odds, ensemble_log_odds(models[1:], found.x[0], torch.ones(4).long()))
    few = single_changes_of(rows, torch.arange(1), models, changes, 60).log_odds[0]
    assert torch.isfinite(few).tolist() == [True] * 7 + [False] * 5  # two ways of two numbers, but for bounds; the rest


def test_a_label_tells_what_models_outside_would_not_have_said() -> None:
    log_odds = torch.tensor([0.0, 0.0, 9.0, -9.0], dtype=torch.float64)
    holds = torch.tensor([True, False, True, True])
    half = -torch.tensor(0.5, dtype=torch.float64).log()
    found = ratio(log_odds, holds)
    torch.testing.assert_close(found[:2], torch.stack([half, -half]))
    assert 0 < float(found[2]) < 1e-3 and float(found[3]) == pytest.approx(-math.log(0.02))
