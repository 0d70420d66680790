"""The guided attack: what it asks, what it makes of the answers, how few labels it needs, and what it refuses."""

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
from labelleaks.attacks._guided.directions import ensemble_log_odds, log_odds
from labelleaks.attacks._guided.posterior import ScoreScale
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks.guided import Guided
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Box, Domain
from labelleaks.core.oracle.label_oracle import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import architectures, reference_models
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import Network
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
        return guided._fitted_scale(references, gate.setup_oracle("none")).weight

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
    with pytest.raises(NeedsError, match=r"guided needs gradients .* LogisticRegression has none"):
        Guided().cost(made.candidates, Knowledge(setup, shadow, family=LogisticRegression()), 7)
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
