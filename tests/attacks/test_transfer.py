"""The transfer attack: its three statistics in closed form, who ranks last, what it costs, and that it works."""

import math

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from labelleaks.attacks.transfer import Transfer
from labelleaks.core import rng
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.attack import run as set_up_and_score
from labelleaks.core.domains import Binary, Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Status
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import reference_models as refs
from labelleaks.models import shadow_model
from labelleaks.models.training import Recipe
from tests.support import digits

STATISTICS = ("loss", "maximum", "entropy")
QUICK = Recipe(epochs=3, batch=32)


class Target:
    """Answers by a fixed linear map, and counts what it sees."""

    def __init__(self, width=64, classes=10):
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(width, classes, generator=generator, dtype=torch.float64)
        self.seen = []

    def __call__(self, x):
        self.seen.append(x.clone())
        return torch.stack([((row.double().flatten() - 0.3) @ self.weights).argmax() for row in x])

    @property
    def rows(self):
        return sum(len(x) for x in self.seen)


def case(n=40, s=100, classes=10, **more):
    """Candidates of which every third is misclassified, a target and the knowledge of a shadow."""
    x, _ = digits()
    target = Target(classes=classes)
    y = target(x[:n])
    y[::3] = (y[::3] + 1) % classes
    target.seen.clear()
    gate = Gate(target)
    rows = Candidates(x=x[:n], y=y, domain=Box(0, 1), classes=classes)
    more = {"family": "mlp", **more}
    return target, gate, rows, Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x[n : n + s]), **more)


def run(attack, gate, rows, knowledge, seed=0, budget=1):
    return set_up_and_score(attack, gate.oracle(attack.name, len(rows), budget), rows, knowledge, seed=seed)


def test_is_an_attack():
    assert isinstance(Transfer(), Attack)
    assert (Transfer.name, Transfer.needs, Transfer.is_distance) == ("transfer", {"shadow"}, False)


@pytest.mark.parametrize("references", [1, 2])
def test_the_three_statistics_in_closed_form(references):
    _, gate, rows, knowledge = case(references=references)
    scores = {s: run(Transfer(statistic=s, recipe=QUICK), gate, rows, knowledge) for s in STATISTICS}
    models = refs.references(knowledge, 10, count=references, recipe=QUICK, seed=0).models
    p = np.stack([torch.softmax(m.module(rows.x).detach().double(), 1).numpy() for m in models])
    of_y = p[:, np.arange(40), rows.y.numpy()]
    wrong = np.arange(40) % 3 == 0
    expected = {
        "loss": np.where(wrong, -100, np.log(of_y).mean(0)),
        "maximum": np.where(wrong, 0, p.max(2).mean(0)),
        "entropy": np.where(wrong, -100, (p * np.log(p)).sum(2).mean(0)),
    }
    for s in STATISTICS:
        np.testing.assert_allclose(scores[s].value.numpy(), expected[s], rtol=1e-5, atol=1e-7)
        sign = 1 if s == "maximum" else -1
        for other in STATISTICS:  # all three come with any of them
            details = scores[other].details[f"shadow_{s}"]
            assert torch.equal(details * sign, scores[s].value)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_misclassified_ranks_strictly_last(statistic):
    _, gate, rows, knowledge = case()
    scores = run(Transfer(statistic=statistic, recipe=QUICK), gate, rows, knowledge)
    wrong = torch.arange(40) % 3 == 0
    assert (scores.status == torch.where(wrong, int(Status.MISCLASSIFIED), int(Status.DONE))).all()
    assert scores.value[wrong].max() < scores.value[~wrong].min()
    assert len(scores.value[wrong].unique()) == 1
    assert scores.value.dtype == torch.float64 and torch.isfinite(scores.value).all()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_even_the_least_sure_shadow_ranks_above_misclassified(statistic, monkeypatch):
    """Posteriors at the very end of the range: uniform, and certain of another class."""
    _, gate, rows, knowledge = case(n=3)

    class Fixed:
        def log_posteriors(self, x):
            found = torch.full((len(x), 10), -math.log(10), dtype=torch.float64)
            found[0] = shadow_model.LOG_FLOOR
            found[0, (rows.y[1] + 1) % 10] = 0.0
            return found

    monkeypatch.setattr(refs, "references", lambda *args, **kwargs: refs.References((Fixed(),), rows, rows))
    value = run(Transfer(statistic=statistic), gate, rows, knowledge).value
    assert value[0] < value[1:].min()


def test_cost_is_exact():
    target, gate, rows, knowledge = case(n=40, s=100)
    attack = Transfer(recipe=QUICK)
    cost = attack.cost(rows, knowledge, 500)
    assert (cost.least, cost.most, cost.setup) == (1, 1, 100)
    scores = run(attack, gate, rows, knowledge, budget=cost.most)
    assert target.rows == gate.ledger.rows == 140
    assert gate.ledger.by_phase() == {"transfer.relabel": 100, "transfer.correct": 40}
    assert gate.ledger.setup_rows == cost.setup
    assert scores.queries.tolist() == [1] * 40
    assert scores.trajectory.checkpoints == (1,) and torch.equal(scores.trajectory.value[0], scores.value)
    assert attack.cost(rows, knowledge, 500).setup == 0  # bought already
    run(Transfer(statistic="entropy"), gate, rows, knowledge)
    assert gate.ledger.setup_rows == 100


@pytest.mark.parametrize("family", ["mlp", "cnn", LogisticRegression(max_iter=1000), RandomForestClassifier(10)])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_rows_are_independent(family, statistic):
    target, gate, rows, knowledge = case(family=family, references=2)
    attack = Transfer(statistic=statistic, recipe=QUICK)
    whole = run(attack, gate, rows, knowledge, seed=3).value

    def of(index):
        part = Candidates(x=rows.x[index], y=rows.y[index], domain=rows.domain, classes=10)
        return run(attack, Gate(target), part, knowledge, seed=3).value

    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(of(order), whole[order])
    assert torch.equal(of(torch.arange(20)), whole[:20])
    assert torch.equal(of(torch.arange(20, 40)), whole[20:])
    for i in (0, 1, 2, 39):
        assert torch.equal(of(torch.tensor([i])), whole[[i]])


def test_determinism_and_seed():
    results = []
    for seed in (0, 0, 1):
        _, gate, rows, knowledge = case()
        results.append(run(Transfer(recipe=QUICK), gate, rows, knowledge, seed=seed).value)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_inputs_are_not_modified_and_true_shadow_labels_not_used():
    _, gate, rows, knowledge = case()
    kept = rows.x.clone(), rows.y.clone(), knowledge.shadow.x.clone()
    a = run(Transfer(recipe=QUICK), gate, rows, knowledge)
    assert all(torch.equal(p, q) for p, q in zip(kept, (rows.x, rows.y, knowledge.shadow.x), strict=True))
    _, gate, rows, knowledge = case()
    knowledge.shadow.y = torch.zeros(100, dtype=torch.int64)
    assert torch.equal(run(Transfer(recipe=QUICK), gate, rows, knowledge).value, a.value)


def test_binary_rows_and_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(120, 64, generator=generator) < 0.3).float()
    target = Target()
    rows = Candidates(x=x[:30], y=target(x[:30]), domain=Binary(), classes=10)
    gate = Gate(target)
    knowledge = Knowledge(
        setup=gate.setup_oracle("transfer"),
        shadow=ShadowRows(x[30:]),
        family=RandomForestClassifier(n_estimators=5),
    )
    scores = run(Transfer(), gate, rows, knowledge)
    assert torch.isfinite(scores.value).all() and scores.value.min() >= -99
    assert (scores.status == int(Status.DONE)).all()


def test_a_target_with_one_label():
    x, _ = digits()
    gate = Gate(lambda rows: torch.full((len(rows),), 4))
    for family in ("mlp", LogisticRegression()):
        knowledge = Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x[40:100]), family=family)
        rows = Candidates(x=x[:40], y=torch.arange(40) % 10, domain=Box(0, 1), classes=10)
        for statistic in STATISTICS:
            scores = run(Transfer(statistic=statistic, recipe=QUICK), gate, rows, knowledge)
            assert torch.isfinite(scores.value).all()
            assert ((scores.status == int(Status.DONE)) == (rows.y == 4)).all()


def test_no_candidate_is_classified_right():
    _, gate, rows, knowledge = case()
    y = (Target()(rows.x) + 1) % 10
    scores = run(Transfer(recipe=QUICK), gate, Candidates(x=rows.x, y=y, domain=rows.domain, classes=10), knowledge)
    assert scores.value.tolist() == [-100.0] * 40


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8)])
def test_relabelling_each_epoch_is_billed_row_by_row(shape):
    target, gate, rows, knowledge = case(s=37, references=2)
    rows = Candidates(x=rows.x.reshape(40, *shape), y=rows.y, domain=Box(0, 1, levels=256), classes=10)
    shadow_rows = knowledge.shadow.x.reshape(37, *shape)
    knowledge = Knowledge(setup=knowledge.setup, shadow=ShadowRows(shadow_rows), family="cnn", references=2)
    attack = Transfer(recipe=Recipe(epochs=3, batch=16, stop_at_interpolation=True), relabel_each_epoch=True)
    cost = attack.cost(rows, knowledge, 1)
    assert cost.setup == 37 * 3 * 2
    scores = run(attack, gate, rows, knowledge)
    assert gate.ledger.by_phase() == {"transfer.relabel": cost.setup, "transfer.correct": 40}
    assert target.rows == gate.ledger.rows
    sent = torch.cat(target.seen[:-1])
    assert ((sent * 255) - (sent * 255).round()).abs().max() < 1e-3  # every query is one a client could send
    assert sent.min() >= 0 and sent.max() <= 1
    assert not torch.isin(rng.content_keys(sent), rng.content_keys(shadow_rows)).all()
    assert torch.isfinite(scores.value).all()
    again = run(attack, gate, rows, knowledge)
    assert torch.equal(scores.value, again.value)


def test_relabelling_bills_every_epoch_even_of_a_shadow_that_fits_at_once():
    x, _ = digits()
    gate = Gate(lambda rows: torch.full((len(rows),), 4))
    knowledge = Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x[40:60]), family="cnn")
    rows = Candidates(x=x[:5], y=torch.full((5,), 4), domain=Box(0, 1), classes=10)
    attack = Transfer(recipe=Recipe(epochs=12, batch=4, stop_at_interpolation=True), relabel_each_epoch=True)
    run(attack, gate, rows, knowledge)
    assert gate.ledger.setup_rows == attack.cost(rows, knowledge, 1).setup == 20 * 12


def test_relabelling_each_epoch_wants_pictures_and_epochs():
    target = Target()
    x = torch.rand(50, 64, generator=torch.Generator().manual_seed(0))
    gate = Gate(target)
    rows = Candidates(x=x[:10], y=target(x[:10]), domain=Box(0, 1), classes=10)
    knowledge = Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x[10:]))
    with pytest.raises(InputError, match="augments images"):
        Transfer(relabel_each_epoch=True).cost(rows, knowledge, 1)
    _, gate, rows, knowledge = case(family=LogisticRegression())
    with pytest.raises(InputError, match="trained in epochs"):
        run(Transfer(relabel_each_epoch=True), gate, rows, knowledge)
    assert gate.ledger.rows == 0


def test_refusals():
    with pytest.raises(InputError, match=r"statistic must be .*'entropy', got 'entrpy'"):
        Transfer(statistic="entrpy")
    _, gate, rows, _ = case()
    for shadow in (None, ShadowRows(torch.zeros(0, 8, 8))):
        knowledge = Knowledge(setup=gate.setup_oracle("transfer"), shadow=shadow)
        for call in (lambda k: Transfer().cost(rows, k, 1), lambda k: run(Transfer(), gate, rows, k)):
            with pytest.raises(NeedsError, match="give shadow="):
                call(knowledge)
    assert gate.ledger.rows == 0


def test_higher_is_a_member_on_an_overfitted_target():
    """Labels by a target that learned 40 % wrong labels by heart: its members follow it, their true labels are y."""
    x, y = digits()
    members, nonmembers, shadow = x[:300], x[300:600], x[600:1500]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
    from labelleaks.models.training import train

    generator = torch.Generator().manual_seed(0)
    noisy = torch.where(
        torch.rand(600, generator=generator) < 0.4, torch.randint(10, (600,), generator=generator), y[:600]
    )
    train(net, members, noisy[:300], Recipe(epochs=200, stop_at_interpolation=True), seed=0)
    gate = Gate(lambda rows: net(rows).argmax(1).detach())
    knowledge = Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(shadow), family="mlp")
    rows = Candidates(x=torch.cat([members, nonmembers]), y=noisy, domain=Box(0, 1), classes=10)
    scores = run(Transfer(), gate, rows, knowledge)
    assert roc_auc_score(np.arange(600) < 300, scores.value.numpy()) > 0.7
