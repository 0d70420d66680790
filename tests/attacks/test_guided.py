"""The guided attack, and the ascent directions that it follows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from labelleaks import metrics
from labelleaks.attacks import guided
from labelleaks.attacks._guided.directions import (
    Split,
    StartPoints,
    ensemble_log_odds,
    feature_scale,
    log_odds,
    perturb_to,
    splits,
)
from labelleaks.attacks._guided.posterior import ScoreScale
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks.guided import Guided
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import architectures, reference_models
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import Network, ShadowModel
from labelleaks.models.training import Recipe, train
from labelleaks.testing.planted import remembered
from tests.support import digits

SHORT = Recipe(epochs=8)


def run(attack: Guided, name: str = "vector", budget: int | None = None, count: int | None = 4) -> tuple:
    made = remembered(name)
    gate = Gate(made.target())
    knowledge = Knowledge(gate.setup_oracle("setup"), ShadowRows(made.shadow), references=count)
    scores = attack.score(gate.oracle("guided", len(made.candidates), budget), made.candidates, knowledge, seed=0)
    return made, gate, knowledge, scores


def auc(made, scores: Scores, at: int | None = None) -> float:
    value = scores.value if at is None else scores.trajectory.value[scores.trajectory.checkpoints.index(at)]
    area = metrics.auc(value.numpy(), made.member.numpy()).value
    assert area is not None
    return area


def test_details_hold_the_references_mean_and_standard_deviation() -> None:
    made, _, knowledge, scores = run(Guided(labels=1, recipe=SHORT))
    models = reference_models.references(knowledge, 2, seed=0, recipe=SHORT).models
    expected = ensemble_log_odds(models, made.candidates.x, made.candidates.y)
    torch.testing.assert_close(scores.details["reference_log_odds"], expected.mean(0))
    torch.testing.assert_close(scores.details["reference_spread"], expected.std(0, correction=0))


def test_the_candidate_is_asked_for_second_where_the_first_way_leaves_doubt() -> None:
    _, _, _, one = run(Guided(labels=1, recipe=SHORT))
    made, gate, _, two = run(Guided(labels=2, recipe=SHORT))
    doubtful = one.status == int(Status.UNASKED)
    assert doubtful.any() and not doubtful.all()
    assert torch.equal(gate.ledger.candidates["guided.correct"], doubtful.long())
    assert (one.status[~doubtful] == int(Status.DONE)).all()
    truth = made.target()(made.candidates.x) == made.candidates.y
    assert torch.equal(two.status == int(Status.DONE), truth)
    _, gate, _, full = run(Guided(recipe=SHORT))
    assert torch.equal(gate.ledger.candidates["guided.correct"], torch.ones_like(full.queries))
    assert (two.value[doubtful & truth] > one.value[doubtful & truth]).all()
    assert (two.value[doubtful & ~truth] < one.value[doubtful & ~truth]).all()


@pytest.mark.parametrize("labels", [1, 2, 3, 7, 30])
def test_the_trajectory_is_the_score_at_every_smaller_budget(labels: int) -> None:
    """No question depends on the budget, so a smaller one gives the scores that a larger one passes."""
    _, _, _, full = run(Guided(labels=30, ways=3, recipe=SHORT))
    _, gate, _, cut = run(Guided(labels=30, ways=3, recipe=SHORT), budget=labels)
    assert int(cut.queries.max()) <= labels
    for_itself = gate.ledger.candidates.get("guided.correct", torch.zeros(1))
    assert int(for_itself.max()) == (labels > 1)
    if labels in full.trajectory.checkpoints:
        assert torch.equal(full.trajectory.value[full.trajectory.checkpoints.index(labels)], cut.value)


class OwnDomain:
    """A user's domain: a class of its own, no subclass of ours, which does what the one that it holds does."""

    def __init__(self, held: Domain) -> None:
        self.held = held

    def __getattr__(self, name: str) -> Any:
        return getattr(self.held, name)


@pytest.mark.parametrize("name", ["vector", "image", "binary", "mixed"])
def test_a_domain_of_the_users_own_is_asked_and_not_its_class(name: str) -> None:
    """Same members, same questions and scores, whatever the class is."""
    made, _, knowledge, ours = run(Guided(labels=6, recipe=SHORT), name)
    own = replace(made.candidates, domain=OwnDomain(made.candidates.domain))
    gate = Gate(made.target())
    theirs = Guided(labels=6, recipe=SHORT).score(gate.oracle("guided", len(own), None), own, knowledge, seed=0)
    assert torch.equal(ours.value, theirs.value) and torch.equal(ours.queries, theirs.queries)


@pytest.mark.parametrize("name", ["vector", "binary", "mixed"])
def test_few_labels_find_what_was_remembered(name: str) -> None:
    made, gate, _, scores = run(Guided(labels=20, recipe=SHORT), name)
    assert gate.ledger.rows == int(scores.queries.sum()) + len(made.shadow)
    right = made.target()(made.candidates.x) == made.candidates.y
    gap = metrics.auc(right.numpy().astype(float), made.member.numpy()).value
    at_one, at_five, at_all = auc(made, scores, 1), auc(made, scores, 5), auc(made, scores)
    assert at_all > 0.7 and at_five > 0.6
    assert min(at_one, at_five, at_all) > gap


def test_log_odds_are_read_from_rows_with_features_that_hardly_vary() -> None:
    """The corners of digits are nearly always 0: what models make of other values there differs from model to model."""
    x, y = digits()
    x = x.flatten(1)
    target = train(architectures.build("mlp", (64,), 10, seed=5), x[:300], y[:300], Recipe(epochs=30), seed=5)
    candidates = Candidates(torch.cat([x[:100], x[300:400]]), torch.cat([y[:100], y[300:400]]), Box(0, 1), 10)
    gate = Gate(lambda rows: target(rows).argmax(1).detach())
    knowledge = Knowledge(gate.setup_oracle("setup"), ShadowRows(x[400:1000]), references=4)
    scores = Guided().score(gate.oracle("guided", 200, 13), candidates, knowledge, seed=0)
    right = scores.status == int(Status.DONE)
    truth = log_odds(target(candidates.x).detach().double(), candidates.y)
    inferred = scores.details["target_log_odds"]
    assert right.sum() > 150
    assert spearmanr(truth[right], inferred[right]).statistic > 0.8


def test_references_that_agree_with_the_target_count_more() -> None:
    class Sign(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([-x[:, 0], x[:, 0]], 1)

    model = Network(Sign(), 2, (1,), Training(1, 1, 0.0))
    x = torch.linspace(-1, 1, 400)[:, None]
    gate = Gate(lambda rows: (rows[:, 0] > 0).to(torch.int64))

    def weight(wrong: float, held: int) -> float:
        labels = (x[:, 0] > 0).to(torch.int64)
        labels[: round(400 * wrong)] ^= 1
        order = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:held]
        rows = ShadowRows(x[order], labels[order], labels[order])
        references = reference_models.References((model, model), ShadowRows(x, labels, labels), rows)
        return guided.fitted_scale(references, gate.setup_oracle("none")).weight

    assert gate.ledger.rows == 0
    assert weight(0.0, 0) == weight(0.35, 0) == TUNING.weight
    assert TUNING.weight < weight(0.0, 5) < weight(0.0, 50) < weight(0.0, 400)
    assert weight(0.35, 400) == pytest.approx(TUNING.weight, abs=0.01)
    assert weight(0.0, 400) == pytest.approx(0.3 + 0.75 * 0.35, abs=0.01) and weight(0.9, 400) == TUNING.weight


def test_the_first_question_is_harder_where_the_references_are_more_confident() -> None:
    scale = ScoreScale(saturation=4.0, weight=0.4, usual_confidence=1.0)
    confidence = torch.linspace(-20, 20, 41, dtype=torch.float64)
    u = scale.first_u(confidence)
    assert (u.diff() >= 0).all() and (u[18:25].diff() > 0).all()
    assert 0 < float(u[0]) < 0.5 < 0.9 < float(u[-1]) < 1
    at_usual = 8 * math.atanh(1 / 8)
    assert float(scale.first_u(torch.tensor([at_usual], dtype=torch.float64))) == pytest.approx(0.72)


def test_one_way_orders_the_right_above_the_wrong_and_members_above_others() -> None:
    made, _, _, scores = run(Guided(labels=5, ways=1, recipe=SHORT))
    h = scores.details["target_log_odds"]
    right = scores.status == int(Status.DONE)
    assert (h[right] >= 0).all() and (h[~right] <= 0).all()
    member = made.member & right
    other = ~made.member & right
    assert h[member].median() > h[other].median()


def test_costs_are_known_and_bad_settings_refused() -> None:
    made = remembered("vector")
    setup = Gate(made.target()).setup_oracle("setup")
    shadow = ShadowRows(made.shadow)
    cost = Guided().cost(made.candidates, Knowledge(setup, shadow), 7)
    assert (cost.least, cost.most, cost.setup) == (1, 7, len(made.shadow))
    assert Guided().cost(made.candidates, Knowledge(setup, shadow), 500).most == 13
    table = remembered("binary")
    assert Guided().cost(table.candidates, Knowledge(setup, ShadowRows(table.shadow)), 500).most == 20
    assert Guided(votes=3).cost(made.candidates, Knowledge(setup, shadow), 500).most == 39
    with pytest.raises(NeedsError, match="shadow"):
        Guided().cost(made.candidates, Knowledge(setup), 7)
    assert Guided().cost(made.candidates, Knowledge(setup, shadow, family=LogisticRegression()), 500).most == 13
    for bad in ({"labels": 0}, {"labels": 2.5}, {"ways": 0}, {"ways": 65}):
        with pytest.raises(InputError, match=f"guided: {next(iter(bad))} must be a whole number"):
            Guided(**bad)


def fickle(name: str, share: float, attack: Guided, budget: int) -> tuple:
    """As ``run``, but each answer is another class with probability ``share``, anew each time."""
    made = remembered(name)
    target, generator = made.target(), torch.Generator().manual_seed(1)

    def answer(x: torch.Tensor) -> torch.Tensor:
        y = target(x)
        return torch.where(torch.rand(len(x), generator=generator) < share, 1 - y, y)

    gate = Gate(answer)
    knowledge = Knowledge(gate.setup_oracle("setup"), ShadowRows(made.shadow), references=4)
    scores = attack.score(gate.oracle("guided", len(made.candidates), budget), made.candidates, knowledge, seed=0)
    return made, gate, scores


def test_votes_see_through_labels_that_change() -> None:
    made, _, quiet = fickle("vector", 0.0, Guided(labels=20, recipe=SHORT), 20)
    _, _, once = fickle("vector", 0.15, Guided(labels=100, recipe=SHORT), 100)
    _, gate, often = fickle("vector", 0.15, Guided(labels=100, votes=9, recipe=SHORT), 100)
    off = [float((noisy.value - quiet.value).abs().mean()) for noisy in (once, often)]
    assert off[1] < off[0] / 2
    assert 0.8 < float(often.details["agreement"].mean()) < 0.95
    assert "agreement" not in once.details
    assert int(often.queries.max()) <= 100
    assert gate.ledger.rows == int(often.queries.sum()) + len(made.shadow)


def test_a_quiet_target_gives_the_same_scores_for_more_votes() -> None:
    _, _, once = fickle("vector", 0.0, Guided(labels=20, recipe=SHORT), 20)
    _, _, often = fickle("vector", 0.0, Guided(labels=60, votes=3, recipe=SHORT), 60)
    assert torch.equal(once.value, often.value)
    assert torch.equal(often.queries, 2 * once.queries)
    assert (often.details["agreement"] == 1.0).all()
    assert often.trajectory.checkpoints[0] >= 3


def test_votes_are_odd_and_affordable() -> None:
    for bad, words in (
        ({"votes": 2}, "odd"),
        ({"votes": 0}, "whole number"),
        ({"labels": 4, "votes": 5}, "from 1 to labels=4"),
    ):
        with pytest.raises(InputError, match=f"guided: votes must be .*{words}"):
            Guided(**bad)
    made = remembered("vector")
    knowledge = Knowledge(Gate(made.target()).setup_oracle("setup"), ShadowRows(made.shadow))
    assert Guided(votes=3).cost(made.candidates, knowledge, 1).least == 3


class Plane(nn.Module):
    """Logits (0, <w, x> - b)."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, x: Tensor) -> Tensor:
        margin = (x * self.w).flatten(1).sum(1) - self.b
        return torch.stack([torch.zeros_like(margin), margin], 1)


def plane(w: Tensor, b: float = 0.0) -> ShadowModel:
    return Network(Plane(w, b), 2, tuple(w.shape), Training(1, 1, 0.0))


def go(
    domain: Domain,
    x: Tensor,
    y: Tensor,
    weights: list[Tensor],
    drop: float | Tensor,
    sign: int = -1,
    scale: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Perturb all rows; the first of the planes directs, the others measure."""
    models = tuple(plane(w) for w in weights)
    start = StartPoints(
        models, x, y, domain, ensemble_log_odds(models, x, y), domain.span(x.shape[1:]) if scale is None else scale
    )
    split = Split((0,), tuple(range(1, len(models))))
    drops = torch.full((len(x),), drop, dtype=torch.float64) if isinstance(drop, float) else drop
    return perturb_to(start, split, torch.arange(len(x)), drops, sign=sign, **options)


@pytest.mark.parametrize(("models", "count"), [(2, 2), (3, 4), (4, 4), (8, 6), (32, 10)])
def test_every_model_directs_and_measures(models: int, count: int) -> None:
    """No model measures a way that it directs, and no two splits are the same."""
    all_splits = splits(models)
    assert len(all_splits) == count == len({frozenset(split.directing) for split in all_splits})
    for split in all_splits:
        directing, measuring = set(split.directing), set(split.measuring)
        assert directing and measuring and not directing & measuring and directing | measuring == set(range(models))


def test_one_model_does_both() -> None:
    (split,) = splits(1)
    assert split.directing == split.measuring == (0,)


def test_log_odds_are_those_of_the_posterior() -> None:
    z = torch.randn(5, 4, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0])
    p = z.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(log_odds(z, y), (p / (1 - p)).log())


MIXED = Mixed(Continuous(-2, 2), Integer(0, 9), OneHot(3), Integer(0, 1))
ONES = torch.ones(2, dtype=torch.int64)
W = torch.tensor([3.0, 4.0])


def test_on_planes_the_drop_is_the_margin_that_was_lost() -> None:
    x = torch.tensor([[0.6, 0.6], [0.5, 0.9]])
    wanted = torch.tensor([1.5, 0.3], dtype=torch.float64)
    points, reached = go(Box(0, 1), x, ONES, [W, W], wanted)
    torch.testing.assert_close(((x - points) * W).sum(1).double(), reached, atol=1e-5, rtol=0)
    torch.testing.assert_close(reached, wanted, atol=1e-5, rtol=0)  # a plane is linear
    way = points - x
    assert (way / way.norm(dim=1, keepdim=True) + W / W.norm()).abs().max() < 1e-5


def test_points_lie_farther_where_the_measuring_models_lose_less_than_predicted() -> None:
    x = torch.full((1, 2), 0.8)
    points, reached = go(Box(0, 1), x, ONES[:1], [W, W / 5], 0.5)
    assert float(reached) == pytest.approx(0.5, rel=TUNING.tolerance)
    assert float(((x - points) * W).sum()) == pytest.approx(2.5, rel=TUNING.tolerance)


def test_towards_the_label_the_drop_is_a_gain() -> None:
    x = torch.tensor([[0.2, 0.2]])
    points, reached = go(Box(0, 1), x, ONES[:1], [W, W], 1.0, sign=+1)
    assert float(((points - x) * W).sum()) == pytest.approx(float(reached), abs=1e-5) == pytest.approx(1.0, abs=1e-5)


def test_a_way_ends_at_the_bounds_with_the_drop_reached_there() -> None:
    x = torch.tensor([[0.1, 0.1]])
    points, reached = go(Box(0, 1), x, ONES[:1], [W, W], 5.0)
    assert (points == 0).all() and float(reached) == pytest.approx(0.7, abs=1e-5)


def test_where_measuring_models_gain_the_point_is_the_candidate_itself() -> None:
    x = torch.full((1, 2), 0.6)
    points, reached = go(Box(0, 1), x, ONES[:1], [W, -W], 1.0)
    assert torch.equal(points, x) and float(reached) == 0


def test_steps_are_measured_in_the_scale_of_the_features() -> None:
    """A rare feature is not moved far, however steep a model that saw next to nothing of it is there."""
    x = torch.full((1, 3), 0.5)
    w, scale = torch.tensor([1.0, 100.0, 1.0]), torch.tensor([0.3, 0.001, 0.0])
    points, reached = go(Box(0, 1), x, ONES[:1], [w, w], 0.2, scale=scale)
    moved = (x - points)[0]
    assert float(reached) == pytest.approx(0.2, abs=1e-5)
    assert float(moved[1] / moved[0]) == pytest.approx(100 * 0.001**2 / 0.3**2, rel=1e-3) and moved[2] == 0


def test_scales_come_from_the_rows_but_a_picture_has_one() -> None:
    rows = torch.rand(50, 6)
    rows[:, 2] = 0.1
    torch.testing.assert_close(feature_scale(rows, Box(0, 2)), rows.double().std(0, correction=0).float())
    assert feature_scale(rows, MIXED)[2] == 0
    pictures = torch.rand(5, 1, 8, 8)
    assert torch.equal(feature_scale(pictures, Box(0, 2)), Box(0, 2).span((1, 8, 8)))
    torch.testing.assert_close(feature_scale(pictures, Binary()), pictures.std(0, correction=0))


@pytest.mark.parametrize("domain", [Box(0, 1), Binary(), Mixed(Integer(0, 1, width=4))], ids=["box", "binary", "mixed"])
def test_what_never_varies_stays(domain: Domain) -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 4.0])
    scale = torch.tensor([0.5, 0.0, 0.5, 0.0])
    points, _ = go(domain, torch.ones(1, 4), ONES[:1], [w, w], 100.0, scale=scale)
    assert points.tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_numbers_of_a_table_go_two_scales() -> None:
    domain = Mixed(Continuous(-10, 10), Integer(0, 100), Integer(0, 9))
    x, w = torch.tensor([[1.0, 50.0, 5.0]]), torch.tensor([3.0, 1.0, 0.5])
    points, _ = go(domain, x, ONES[:1], [w, w], 1000.0, scale=torch.tensor([1.5, 4.2, 0.1]))
    assert points.tolist() == [[-2.0, 42.0, 4.0]]


def test_pictures_change_smoothly() -> None:
    w = torch.zeros(1, 16, 16)
    w[0, 8, 8] = 1.0
    x = torch.full((1, 1, 16, 16), 0.5)
    sharp, smooth = (go(Box(0, 1), x, ONES[:1], [w, w], 0.1, smoothing=smoothing)[0] - x for smoothing in (0.0, 3 / 16))
    assert int((sharp != 0).sum()) == 1
    assert int((smooth != 0).sum()) == 49 and float(smooth[0, 0, 8, 8]) == float(smooth.min())
    assert float(smooth[0, 0, 8, 8]) == pytest.approx(float(sharp[0, 0, 8, 8]), rel=TUNING.tolerance)


@pytest.mark.parametrize("domain", [Binary(), MIXED], ids=["binary", "mixed"])
def test_tables_change_one_feature_after_the_other(domain: Domain) -> None:
    generator = torch.Generator().manual_seed(0)
    width = 6
    x = domain.from_uniform(torch.rand(9, width, generator=generator))
    w = torch.randn(width, generator=generator)
    y = (x @ w > 0).to(torch.int64)
    top, largest = go(domain, x, y, [w, w], math.inf)
    assert (largest > 0).all()
    domain.check(top, "point")
    points, reached = go(domain, x, y, [w, w], largest / 2)
    domain.check(points, "point")
    assert (reached >= largest / 2).all() and (reached <= largest).all()
    torch.testing.assert_close(
        reached, (ensemble_log_odds([plane(w)], x, y) - ensemble_log_odds([plane(w)], points, y))[0]
    )
    assert ((points != x).sum(1) <= (top != x).sum(1)).all()
    changed = go(domain, x, y, [w, w], 1e-9)[0] != x
    assert (changed.sum(1) <= 2).all()  # one feature; a switch of category changes two columns


def test_features_that_may_not_change_stay() -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 4.0])
    allowed = torch.tensor([[True, False, True, False]])
    points, _ = go(Binary(), torch.ones(1, 4), ONES[:1], [w, w], math.inf, allowed=allowed)
    assert points.tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_means_are_taken_term_by_term() -> None:
    models = [plane(torch.randn(3)) for _ in range(5)]
    x, y = torch.randn(40, 3), torch.zeros(40, dtype=torch.int64)
    together = mean_of(ensemble_log_odds(models, x, y))
    alone = torch.cat([mean_of(ensemble_log_odds(models, x[i : i + 1], y[i : i + 1])) for i in range(40)])
    assert torch.equal(together, alone)
