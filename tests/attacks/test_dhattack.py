"""DHAttack: fixedBD by hand, the transform, the ends of the walk, what is billed, and that it finds members."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from labelleaks.attacks.dhattack import DHAttack, _distance, _end, _StraightPath, _transformed, _walk
from labelleaks.core import domains
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box, Continuous, Integer, Mixed, OneHot
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Status
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import reference_models
from labelleaks.models.training import Recipe
from labelleaks.testing.planted import remembered

SHORT = Recipe(epochs=3)


def slow_distance(right: list[bool]) -> float:
    """fixedBD as the paper states it, one point after the other."""
    n, window = len(right), max(len(right) // 100, 1)
    if not right[0]:
        run = next((j for j in range(n) if right[j]), n)
        return window * math.exp(-run)
    return float(next((j for j in range(n - window + 1) if not any(right[j : j + window])), n))


@pytest.mark.parametrize("steps", [2, 30, 100, 200, 350])
def test_the_distance_is_the_slow_obvious_one(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    right = torch.rand(60, steps, generator=generator) < torch.rand(60, 1, generator=generator)
    right[0], right[1] = True, False
    expected = [slow_distance(row) for row in right.tolist()]
    assert _distance(~right, max(steps // 100, 1)).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [30, 200])
def test_stopping_early_changes_no_distance_and_asks_for_no_point_too_many(steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(80, steps, generator=generator) < 0.2 + 0.8 * torch.rand(80, 1, generator=generator)
    right[0], right[1] = True, False
    y = torch.zeros(80, dtype=torch.int64)

    def ask(rows: Tensor, j: int) -> Tensor:
        return (~right[rows, j]).to(torch.int64)

    all_points = _walk(ask, y, steps, early_stop=False)
    early = _walk(ask, y, steps, early_stop=True)
    assert torch.equal(all_points[0], early[0])
    assert torch.equal(all_points[2], early[2])
    assert (all_points[1] == steps).all()
    window = max(steps // 100, 1)
    for d, asked, wrong in zip(*(t.tolist() for t in early), strict=True):
        if wrong:
            run = round(-math.log(d / window))
            assert asked == min(run + 1, steps)
        else:
            assert asked == min(d + window, steps)


def test_the_transform_rises_with_the_distance_and_saturates() -> None:
    d = torch.tensor([math.exp(-3), math.exp(-1), 1, 2, 5, 17, 29, 200], dtype=torch.float64)
    u = _transformed(d)
    b = torch.exp(-d) + 1e-8
    assert torch.allclose(u, torch.log(torch.exp(-b) / (1 - torch.exp(-b))), atol=1e-6)
    assert (u.diff() >= 0).all() and (u[:-1].diff() > 0).all()
    assert u[-1] == pytest.approx(math.log(1e8), abs=1e-6)


def candidates(x: Tensor, space: domains.Domain) -> Candidates:
    return Candidates(x, torch.zeros(len(x), dtype=torch.int64), space, 2)


def test_the_way_to_white_is_straight_and_ends_at_the_pictures_own_maximum() -> None:
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.8
    rows = torch.tensor([2, 0])
    for towards, most in (("white", x.amax((1, 2, 3))), ("black", x.amin((1, 2, 3)))):
        way = _StraightPath(candidates(x, Box(0, 1)), _end(candidates(x, Box(0, 1)), towards), 10, seed=0)
        assert torch.equal(way.points(rows, 0), x[rows])
        halfway = (x[rows] + most[rows].reshape(2, 1, 1, 1)) / 2
        assert torch.allclose(way.points(rows, 5), halfway)
    table = candidates(x.flatten(1), Box(-1, 3))
    assert (_end(table, "white") == 3).all() and (_end(table, "black") == -1).all()
    goal = torch.full((1, 4, 4), 0.25)
    given = _StraightPath(candidates(x, Box(0, 1)), _end(candidates(x, Box(0, 1)), goal), 4, seed=0)
    assert torch.allclose(given.points(rows, 2), (x[rows] + 0.25) / 2)


def test_features_that_cannot_move_a_little_turn_one_after_the_other() -> None:
    x = Binary().from_uniform(torch.rand(4, 20, generator=torch.Generator().manual_seed(1)))
    rows = torch.arange(4)
    given = candidates(x, Binary())
    way = _StraightPath(given, _end(given, "white"), 20, seed=3)
    ones = torch.stack([way.points(rows, j).sum(1) for j in range(20)])
    assert torch.equal(ones[0], x.sum(1))
    assert (ones.diff(dim=0) >= 0).all() and (ones.diff(dim=0) <= 1).all()
    turned = torch.stack([(way.points(rows, j) != 0).to(torch.int64) for j in range(20)])
    assert (turned.diff(dim=0) >= 0).all()

    mixed = Mixed(Continuous(0, 10), Integer(0, 4), OneHot(3))
    x = torch.tensor([[2.0, 1.0, 0.0, 0.0, 1.0]])
    given = candidates(x, mixed)
    way = _StraightPath(given, _end(given, "white"), 8, seed=0)
    seen = torch.cat([way.points(torch.tensor([0]), j) for j in range(8)])
    mixed.check(seen, "points")
    assert torch.allclose(seen[:, 0], 2 + torch.arange(8) / 8 * 8)
    assert seen[:, 1].tolist() == torch.round(1 + torch.arange(8) / 8 * 3).tolist()
    assert seen[:4, 2:].tolist() == [[0, 0, 1]] * 4 and seen[5:, 2:].tolist() == [[1, 0, 0]] * 3


def run(attack: DHAttack, budget: int | None = None, more: Knowledge | None = None, count: int | None = None):
    made = remembered("vector")
    gate = Gate(made.target())
    knowledge = more or Knowledge(setup=gate.setup_oracle("setup"), shadow=ShadowRows(made.shadow), references=count)
    oracle = gate.oracle("dhattack", len(made.candidates), budget)
    return attack.score(oracle, made.candidates, knowledge, seed=0), gate, made


def test_the_score_is_the_distance_in_standard_deviations_of_the_references() -> None:
    attack = DHAttack(queries=20, recipe=SHORT, sd_floor=0.4)
    scores, gate, made = run(attack, count=4)
    every, all_gate, _ = run(DHAttack(queries=20, recipe=SHORT, sd_floor=0.4, early_stop=False), count=4)
    assert torch.equal(scores.value, every.value)
    assert all_gate.ledger.candidates["dhattack.way"].tolist() == [20] * 32 == every.queries.tolist()
    assert gate.ledger.candidates["dhattack.way"].tolist() == scores.queries.tolist()
    assert int(scores.queries.sum()) < 20 * 32
    assert gate.ledger.setup_rows == len(made.shadow)

    knowledge = Knowledge(setup=gate.setup_oracle("again"), shadow=ShadowRows(made.shadow), references=4)
    models = reference_models.references(knowledge, 2, seed=0, recipe=SHORT).models
    i = 5
    x, y = made.candidates.x[i], int(made.candidates.y[i])
    points = torch.stack([x + j / 20 * (3 - x) for j in range(20)])
    known = [slow_distance((reference_models.logits(m, points).argmax(1) == y).tolist()) for m in models]
    u = _transformed(torch.tensor(known, dtype=torch.float64))
    d = slow_distance((made.decide(points) == y).tolist())
    mean, sd = float(u.mean()), float(u.std(correction=0))
    z = (float(_transformed(torch.tensor([d], dtype=torch.float64))[0]) - mean) / max(sd, 0.4)
    assert float(scores.details["distance"][i]) == pytest.approx(d)
    assert float(scores.details["reference_mean"][i]) == pytest.approx(mean)
    assert float(scores.details["reference_sd"][i]) == pytest.approx(sd)
    assert float(scores.value[i]) == pytest.approx(z)
    assert float(scores.details["relscore"][i]) == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)))


def test_a_small_budget_plans_a_shorter_walk() -> None:
    scores, gate, made = run(DHAttack(recipe=SHORT), budget=5, count=2)
    assert int(scores.queries.max()) <= 5
    wrong = made.decide(made.candidates.x) != made.candidates.y
    assert torch.equal(scores.status == int(Status.MISCLASSIFIED), wrong)
    assert set(scores.details["distance"][~wrong].tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert (scores.details["distance"][wrong] < 0.5).all() and (scores.details["distance"][wrong] > 0).all()
    knowledge = Knowledge(setup=gate.setup_oracle("setup"), shadow=ShadowRows(made.shadow))
    cost = DHAttack().cost(made.candidates, knowledge, 5)
    assert (cost.least, cost.most, cost.setup) == (2, 5, len(made.shadow))
    assert DHAttack().cost(made.candidates, knowledge, 500).most == 30


def test_references_that_all_agree_leave_a_finite_score() -> None:
    scores, _, _ = run(DHAttack(queries=10, recipe=SHORT), count=1)
    assert torch.isfinite(scores.value).all()
    assert (scores.details["reference_sd"] == 0).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"queries": 1}, "queries must be a whole number of at least 2, got 1"),
        ({"sd_floor": 0.0}, "sd_floor must be a number"),
        ({"towards": "wite"}, "one of 'white', 'black' or an input, got 'wite'"),
    ],
)
def test_bad_settings_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        DHAttack(**settings)


def test_a_bad_end_and_missing_rows_are_refused_before_a_label_is_bought() -> None:
    made = remembered("vector")
    gate = Gate(made.target())
    knowledge = Knowledge(setup=gate.setup_oracle("setup"), shadow=ShadowRows(made.shadow))
    ends = (
        (torch.zeros(4), r"towards has shape \(4,\)"),
        (torch.full((16,), 9.0), "outside the domain"),
        (torch.full((16,), math.nan), "NaN"),
    )
    for end, says in ends:
        attack = DHAttack(towards=end)
        with pytest.raises(InputError, match=says):
            attack.cost(made.candidates, knowledge, 10)
        with pytest.raises(InputError, match=says):
            attack.prepare(knowledge, made.candidates, seed=0)
    with pytest.raises(NeedsError, match="shadow"):
        DHAttack().cost(made.candidates, Knowledge(setup=gate.setup_oracle("setup")), 10)
    assert gate.ledger.rows == 0
