"""YOQO: its two losses and their gradients in closed form, when it stops, IN models, one label, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from labelleaks.attacks import yoqo
from labelleaks.attacks.single_changes import SingleChanges
from labelleaks.attacks.surrogate_gradients import Moves
from labelleaks.attacks.yoqo import Yoqo, _Loss
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Status
from labelleaks.errors import InputError
from labelleaks.models import reference_models, shadow_training
from labelleaks.models.training import Recipe
from labelleaks.testing.planted import remembered

SHORT = Recipe(epochs=8)


def given(name: str = "vector", count: int | None = 3, **more):
    made = remembered(name)
    gate = Gate(made.target())
    return made, gate, Knowledge(gate.setup_oracle("setup"), ShadowRows(made.shadow), references=count, **more)


@pytest.mark.parametrize("online", [False, True])
def test_the_loss_is_the_papers_and_the_slope_is_its_gradient(online: bool) -> None:
    made, _, knowledge = given()
    models = reference_models.references(knowledge, 2, seed=0, recipe=SHORT).models
    x, y = made.candidates.x[:6], made.candidates.y[:6]
    alpha, inside = (2.0, models[:1]) if online else (5.0, ())
    changes = SingleChanges.of(made.candidates.domain, torch.ones(made.candidates.shape))
    loss = _Loss(x, y, models[1:], inside, alpha, Moves.of(made.candidates), changes)
    who = torch.tensor([4, 1])
    shift = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)) * 0.1
    points = (x[who] + shift).requires_grad_()
    t = 1 - y[who]  # the only other class
    out = sum(F.cross_entropy(m.module(points), t, reduction="none") for m in models[1:]) / 2
    if online:
        known = F.cross_entropy(models[0].module(points), y[who], reduction="none")
        expected = 16 * (known + alpha * out) / (1 + alpha) * 3
    else:
        unit = 0.25 * 4  # the span is 4
        expected = 16 * (alpha * ((points - x[who]) / unit).square().mean(1) + out) / (1 + alpha) * 6
    (gradient,) = torch.autograd.grad(expected.sum(), points)
    points = points.detach()
    assert torch.allclose(loss.value(points, who), expected.detach().double(), rtol=1e-5)
    assert torch.allclose(loss.slope(points, who), gradient, rtol=1e-4, atol=1e-5)  # one unit is 1 here


def test_the_target_class_is_the_likeliest_other_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    assert yoqo._best_other(logits, torch.tensor([0, 1, 1])).tolist() == [2, 0, 0]


@pytest.mark.parametrize("name", ["vector", "image", "binary"])
def test_what_is_sent_has_a_lower_loss_and_is_asked_for_once(name: str) -> None:
    made, gate, knowledge = given(name)
    start = Yoqo(rounds=0, recipe=SHORT).score(gate.oracle("a", 32, 1), made.candidates, knowledge, seed=0)
    assert torch.equal(start.value, (made.decide(made.candidates.x) == made.candidates.y).double())
    scores = Yoqo(rounds=6, step=0.05, recipe=SHORT).score(
        gate.oracle("yoqo", 32, 1), made.candidates, knowledge, seed=0
    )
    before, after = start.details["loss"], scores.details["loss"]
    assert (after <= before).all()
    assert name == "binary" or float(after.mean()) < float(before.mean()) - 0.5  # one flip of 40 is dear
    assert torch.equal(after[before < 8], before[before < 8])  # enough from the start
    assert (scores.queries == 1).all() and (scores.status == int(Status.UNASKED)).all()
    assert set(scores.value.tolist()) <= {0.0, 1.0}
    assert gate.ledger.candidates["yoqo.moved"].tolist() == [1] * 32


def test_a_bit_flips_where_that_is_worth_it() -> None:
    """At a small weight of the distance, models of bits are talked out of y by a few flips."""
    made, gate, knowledge = given("binary")
    attack = Yoqo(alpha=0.1, recipe=SHORT)
    found = attack.score(gate.oracle("yoqo", 32, 1), made.candidates, knowledge, seed=0)
    start = Yoqo(alpha=0.1, rounds=0, recipe=SHORT).score(
        gate.oracle("yoqo", 32, 1), made.candidates, knowledge, seed=0
    )
    assert float(found.details["loss"].mean()) < 0.8 * float(start.details["loss"].mean())
    assert float(found.value.mean()) < float(start.value.mean())


def test_a_higher_threshold_stops_earlier() -> None:
    made, gate, knowledge = given()
    losses = []
    for threshold in (40.0, 1e-6):
        attack = Yoqo(rounds=6, step=0.05, threshold=threshold, recipe=SHORT)
        found = attack.score(gate.oracle("yoqo", 32, 1), made.candidates, knowledge, seed=0)
        losses.append(found.details["loss"])
    assert float(losses[1].mean()) < float(losses[0].mean())


def test_online_trains_models_with_each_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    made, gate, knowledge = given(count=2)
    few = Candidates(made.candidates.x[:3], made.candidates.y[:3], made.candidates.domain, 2)
    trained = []
    train = shadow_training.train_shadow

    def watched(x, y, *rest, **more):
        trained.append((x, y))
        return train(x, y, *rest, **more)

    monkeypatch.setattr(yoqo.shadow_training, "train_shadow", watched)
    attack = Yoqo(mode="online", rounds=2, recipe=SHORT)
    scores = attack.score(gate.oracle("yoqo", 3, 1), few, knowledge, seed=0)
    inside = trained[-6:]
    for i in range(3):
        for x, y in inside[2 * i : 2 * i + 2]:
            assert torch.equal(x[-1], few.x[i]) and y[-1] == few.y[i]
    assert len(knowledge.store) == 2  # IN models are not kept
    last = Candidates(few.x[2:], few.y[2:], few.domain, 2)
    alone = attack.score(gate.oracle("yoqo", 1, 1), last, knowledge, seed=0)
    assert torch.equal(alone.value, scores.value[2:]) and torch.equal(alone.details["loss"], scores.details["loss"][2:])
    assert gate.ledger.setup_rows == len(made.shadow)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mode": "onlin"}, "mode must be one of 'offline', 'online', got 'onlin'"),
        ({"rounds": -1}, "rounds must be a whole number of at least 0, got -1"),
        ({"alpha": 0.0}, "alpha must be a number"),
        ({"step": float("nan")}, r"step must be a number in \(0, inf\), got nan"),
    ],
)
def test_bad_settings_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Yoqo(**settings)
