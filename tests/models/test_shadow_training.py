"""Shadow rows and models: what is dropped, what is held out, what is reused, and odd sets of labels."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from labelleaks.core import near_duplicates
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box, Continuous, Mixed, OneHot
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import shadow_model, shadow_training
from labelleaks.models.training import Recipe
from tests.support import digits

QUICK = Recipe(epochs=2, batch=32)


def candidates(x, domain=None, classes=10):
    return Candidates(x=x, y=torch.zeros(len(x), dtype=torch.int64), domain=domain or Box(0, 1), classes=classes)


def knowing(x, target, **more):
    gate = Gate(target)
    return gate, Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x), **more)


# -- near duplicates -------------------------------------------------------------------------------------------------


def obvious(x, others, span):
    """The rule of near.nearly_equal, written out: every pair, every distance."""
    x = x.flatten(1).double().numpy() / span
    others = others.flatten(1).double().numpy() / span
    among = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    among[among == 0] = np.inf
    distinct = np.unique(x, axis=0, return_index=True)[1]
    typical = np.median(np.sort(among[distinct][:, distinct].min(1)))
    apart = np.sqrt(((x[:, None] - others[None]) ** 2).sum(2))
    return (apart <= near_duplicates.NEAR * typical).any(1) | (apart == 0).any(1)


@pytest.mark.parametrize("shape", [(3,), (8, 8), (3, 8, 8)])
def test_near_duplicates_against_every_pair(shape, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_VALUES", 5000)  # many chunks
    generator = torch.Generator().manual_seed(len(shape))
    x = torch.rand(301, *shape, generator=generator) * 7
    others = torch.rand(83, *shape, generator=generator) * 7
    away = torch.randn(60, *shape, generator=generator)
    away /= away.flatten(1).norm(dim=1).reshape(60, *[1] * len(shape))
    apart = torch.cdist(x.flatten(1), x.flatten(1)).fill_diagonal_(torch.inf).amin(1).median() * near_duplicates.NEAR
    x[100:160] = others[:60] + apart * torch.linspace(0.1, 1.9, 60).reshape(60, *[1] * len(shape)) * away
    x[7] = others[70]
    found = near_duplicates.nearly_equal(x, others, Box(0, 7))
    expected = obvious(x, others, 7.0)
    assert found.tolist() == expected.tolist()
    assert 20 < expected.sum() < 50 and found[7]


def test_real_images_rounded_noisy_and_brighter_copies_are_found_and_no_others():
    x, _ = digits()
    audited, own = x[:200], x[200:]
    generator = torch.Generator().manual_seed(0)
    copies = torch.cat(
        [
            (audited * 255).round() / 255,
            (audited + 0.02 * torch.randn(audited.shape, generator=generator)).clamp(0, 1),
            audited * 0.98,
        ]
    )
    kept, dropped = shadow_training.drop_near_duplicates(ShadowRows(torch.cat([own, copies])), candidates(audited))
    assert dropped == len(copies)
    assert torch.equal(kept.x, own)


def test_nothing_to_drop_returns_the_rows_as_they_are():
    x, _ = digits()
    shadow = ShadowRows(x[200:])
    assert shadow_training.drop_near_duplicates(shadow, candidates(x[:200])) == (shadow, 0)


def test_binary_rows_are_dropped_only_when_equal():
    rows = (torch.rand(300, 400, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    flipped = rows[:50].clone()
    flipped[:, 3] = 1 - flipped[:, 3]  # by far the nearest rows: other domains would drop them
    assert near_duplicates.nearly_equal(torch.cat([rows[100:], flipped]), rows[:50], Box(0, 1)).sum() == 50
    shadow = ShadowRows(torch.cat([rows[100:], flipped, -0.0 + rows[:7]]), y=torch.arange(257))
    kept, dropped = shadow_training.drop_near_duplicates(shadow, candidates(rows[:100], Binary()))
    assert dropped == 7
    assert torch.equal(kept.x, torch.cat([rows[100:], flipped])) and kept.y.tolist() == list(range(250))


def test_mixed_rows_of_another_category_are_other_rows():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(400, 2, generator=generator) * 1000
    category = nn.functional.one_hot(torch.randint(4, (400,), generator=generator), 4).float()
    x = torch.cat([numbers, category], 1)
    domain = Mixed(Continuous(0, 1000, 2), OneHot(4))
    other_category = torch.cat([numbers[:20], category[:20].roll(1, 1)], 1)
    rounded = torch.cat([numbers[:20] + 0.01, category[:20]], 1)
    shadow = ShadowRows(torch.cat([x[100:], other_category, rounded]))
    _, dropped = shadow_training.drop_near_duplicates(shadow, candidates(x[:20], domain))
    assert dropped == 20


def test_minus_zero_is_zero():
    shadow = ShadowRows(torch.tensor([[-0.0, 1.0], [0.5, 0.5]]))
    assert shadow_training.drop_near_duplicates(shadow, candidates(torch.tensor([[0.0, 1.0]])))[1] == 1


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_very_few_shadow_rows(rows):
    x, _ = digits()
    for domain in (Box(0, 1), Binary()):
        kept, dropped = shadow_training.drop_near_duplicates(ShadowRows(x[:rows]), candidates(x[:5], domain))
        assert (len(kept), dropped) == (0, rows)
        assert shadow_training.drop_near_duplicates(ShadowRows(x[:rows]), candidates(x[:0], domain))[1] == 0
    equal = ShadowRows(x[:1].repeat(4, 1, 1))
    assert shadow_training.drop_near_duplicates(equal, candidates(x[5:9]))[1] == 0


def test_many_near_copies_do_not_take_all_pairs_of_memory():
    x = torch.rand(1, 500, generator=torch.Generator().manual_seed(0)).repeat(3000, 1)
    x += 1e-4 * torch.rand(3000, 500, generator=torch.Generator().manual_seed(1))
    x[1500:] = torch.rand(1500, 500, generator=torch.Generator().manual_seed(2))
    found = near_duplicates.nearly_equal(x, x[:300], Box(0, 2))
    assert found[:300].all() and not found[1500:].any()


def test_order_of_rows_does_not_matter():
    x, _ = digits()
    rows = torch.cat([x[200:], x[:50] + 0.01])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))
    a = near_duplicates.nearly_equal(rows, x[:200], Box(0, 2))
    b = near_duplicates.nearly_equal(rows[order], x[:200].flip(0), Box(0, 2))
    assert torch.equal(a[order], b)


# -- split -----------------------------------------------------------------------------------------------------------


def test_split_is_by_content():
    x, y = digits()
    shadow = ShadowRows(x, y)
    train, held = shadow_training.split_shadow(shadow, 0.3, 5)
    assert len(train) + len(held) == len(x) and 0.25 < len(held) / len(x) < 0.35
    assert not torch.isin(shadow_training.rng.content_keys(train.x), shadow_training.rng.content_keys(held.x)).any()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    again = shadow_training.split_shadow(ShadowRows(x[order], y[order]), 0.3, 5)[1]
    assert set(shadow_training.rng.content_keys(again.x).tolist()) == set(
        shadow_training.rng.content_keys(held.x).tolist()
    )
    doubled = shadow_training.split_shadow(ShadowRows(x.repeat(2, 1, 1)), 0.3, 5)
    assert (len(doubled[0]), len(doubled[1])) == (2 * len(train), 2 * len(held))
    assert len(shadow_training.split_shadow(shadow, 0.3, 6)[1].x) > 0
    assert not torch.equal(shadow_training.split_shadow(shadow, 0.3, 6)[1].x[:5], held.x[:5])


def test_split_keeps_labels_with_their_rows():
    x, y = digits()
    gate = Gate(lambda rows: (rows.flatten(1).sum(1) * 10).long() % 10)
    shadow = ShadowRows(x, y)
    bought = shadow.labels(gate.setup_oracle("a"))
    train, held = shadow_training.split_shadow(shadow, 0.5, 0)
    position = {key: i for i, key in enumerate(shadow_training.rng.content_keys(x).tolist())}
    for part in (train, held):
        rows = [position[key] for key in shadow_training.rng.content_keys(part.x).tolist()]
        assert torch.equal(part.y, y[rows]) and torch.equal(part.labels(gate.setup_oracle("b")), bought[rows])
    assert gate.ledger.rows == len(x)


def test_split_limits():
    x, _ = digits()
    train, held = shadow_training.split_shadow(ShadowRows(x), 0, 0)
    assert (len(train), len(held)) == (len(x), 0)
    assert [len(part) for part in shadow_training.split_shadow(ShadowRows(x[:0]), 0.5, 0)] == [0, 0]
    for fraction in (-0.1, 1.0):
        with pytest.raises(InputError, match="fraction must be 0 to below 1"):
            shadow_training.split_shadow(ShadowRows(x), fraction, 0)


# -- posteriors ------------------------------------------------------------------------------------------------------


def test_log_posteriors_against_scipy():
    from scipy.special import log_softmax

    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 5
    expected = log_softmax(logits.double().numpy(), axis=1)
    np.testing.assert_allclose(shadow_model.log_posteriors(logits).numpy(), expected, rtol=1e-12)


def test_log_posteriors_of_a_model_that_is_all_too_sure():
    sure = shadow_model.log_posteriors(torch.tensor([[60.0, 0.0], [80.0, 0.0], [1e30, -1e30]]))
    np.testing.assert_allclose(sure[:2, 0].numpy(), -np.exp([-60.0, -80.0]), rtol=1e-12)
    assert sure[2].tolist() == [0.0, shadow_model.LOG_FLOOR]


FAMILIES = {
    "cnn": "cnn",
    "mlp": "mlp",
    "cnn7": "cnn7",
    "factory": lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)),
    "forest": RandomForestClassifier(n_estimators=10, n_jobs=2),
    "logistic": LogisticRegression(max_iter=1000),
    "neighbours": KNeighborsClassifier(),
}


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request):
    x, y = digits()
    return shadow_training.train_shadow(x[:150], y[:150], 12, FAMILIES[request.param], QUICK, seed=1), x[150:250]


def test_a_rows_posteriors_do_not_depend_on_other_rows(trained):
    model, x = trained
    whole = model.log_posteriors(x)
    assert whole.shape == (100, 12) and whole.dtype == torch.float64
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.log_posteriors(x[order]), whole[order])
    assert torch.equal(model.log_posteriors(x[:50]), whole[:50])
    assert torch.equal(model.log_posteriors(x[37:38]), whole[37:38])
    assert model.log_posteriors(x[:0]).shape == (0, 12)


def test_posteriors_are_distributions_and_agree_with_the_labels(trained):
    model, x = trained
    log_p = model.log_posteriors(x)
    assert (log_p >= shadow_model.LOG_FLOOR).all() and (log_p <= 0).all()
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(100, dtype=torch.float64))
    labels = model.labels(x)
    assert labels.dtype == torch.int64
    assert (log_p.gather(1, labels[:, None])[:, 0] >= log_p.amax(1) - 1e-5).all()


def test_a_forest_votes_in_one_thread():
    x, y = digits()
    model = shadow_training.train_shadow(x[:50], y[:50], 10, RandomForestClassifier(5, n_jobs=2), seed=0)
    assert model.estimator.n_jobs == 1


def test_classes_that_no_shadow_row_has():
    x, y = digits()
    y = torch.where(y == 4, 5, y)
    model = shadow_training.train_shadow(x[:300], y[:300], 10, LogisticRegression(max_iter=1000), seed=0)
    log_p = model.log_posteriors(x[:5])
    np.testing.assert_allclose(log_p[:, 4].numpy(), shadow_model.LOG_FLOOR)
    fitted = LogisticRegression(max_iter=1000).fit(x[:300].flatten(1).double().numpy(), y[:300].numpy())
    np.testing.assert_allclose(
        log_p.exp().numpy()[:, [0, 1, 2, 3, 5, 6, 7, 8, 9]],
        fitted.predict_proba(x[:5].flatten(1).double().numpy()),
        rtol=1e-9,
        atol=1e-40,
    )


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "cnn7"])
def test_one_label_for_all_shadow_rows(family):
    x, _ = digits()
    y = torch.full((40,), 3)
    recipe = Recipe(epochs=15, batch=8, lr=1e-2)
    model = shadow_training.train_shadow(x[:40], y, 10, FAMILIES[family], recipe, seed=0)
    assert torch.isfinite(model.log_posteriors(x[:40])).all()
    assert (model.labels(x[:40]) == 3).all()


@pytest.mark.parametrize("family", ["cnn", "mlp", "logistic"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_rows_than_a_batch(family, rows):
    x, y = digits()
    model = shadow_training.train_shadow(x[:rows], y[:rows], 10, FAMILIES[family], QUICK, seed=0)
    assert torch.isfinite(model.log_posteriors(x[:4])).all()


def test_an_estimator_that_cannot_be_fitted_is_named():
    x, y = digits()
    with pytest.raises(InputError, match=r"KNeighborsClassifier could not be trained on 30 rows: .*n_neighbors"):
        shadow_training.train_shadow(x[:30], y[:30], 10, KNeighborsClassifier(n_neighbors=-1), seed=0)
    model = shadow_training.train_shadow(x[:3], y[:3], 10, KNeighborsClassifier(n_neighbors=5), seed=0)
    with pytest.raises(InputError, match=r"KNeighborsClassifier: predict_proba failed: .*n_neighbors"):
        model.log_posteriors(x[:1])


def test_labels_out_of_range_and_no_rows():
    x, y = digits()
    for labels in (y[:50] - 1, y[:49]):
        with pytest.raises(InputError, match=r"one of 0 to \d for each of 50 rows"):
            shadow_training.train_shadow(x[:50], labels, 10, "mlp", QUICK, seed=0)
    with pytest.raises(NeedsError, match="no shadow rows"):
        shadow_training.train_shadow(x[:0], y[:0], 10, "mlp", QUICK, seed=0)


@pytest.mark.parametrize("family", ["mlp", LogisticRegression(max_iter=1000)])
def test_a_target_that_knows_more_classes_than_the_candidates(family):
    x, y = digits()
    model = shadow_training.train_shadow(x[:200], y[:200], 5, family, Recipe(epochs=20), seed=0)
    assert model.log_posteriors(x[:3]).shape == (3, 10)
    assert (model.labels(x[:200]) == y[:200]).float().mean() > 0.9


# -- store, stand-in ---------------------------------------------------------------------------------------------------


def test_the_same_training_is_done_once_and_any_other_again():
    x, y = digits()
    x, y, store = x[:60], y[:60], {}

    def get(x=x, y=y, classes=10, family="mlp", recipe=QUICK, seed=0):
        return shadow_training.train_shadow(x, y, classes, family, recipe, seed=seed, store=store)

    first = get()
    assert get(x=x.clone(), y=y.clone()) is first and get(family=FAMILIES["factory"]) is not first
    other_rows, other_labels = x.clone(), y.clone()
    other_rows[3, 0, 0] += 0.1
    other_labels[3] = (other_labels[3] + 1) % 10
    others = [
        get(x=other_rows),
        get(y=other_labels),
        get(classes=11),
        get(family="cnn"),
        get(recipe=Recipe(epochs=3, batch=32)),
        get(seed=1),
        get(family=RandomForestClassifier(n_estimators=2)),
        get(family=RandomForestClassifier(n_estimators=3), classes=11),
        get(family=RandomForestClassifier(n_estimators=3)),
    ]
    assert len({id(model) for model in [first, *others]}) == 10
    assert get(family=RandomForestClassifier(n_estimators=3)) is others[-1]


def test_stand_in_answers_labels_and_is_another_model():
    x, y = digits()
    _, knowledge = knowing(x[:200], lambda rows: torch.zeros(len(rows), dtype=torch.int64), family="mlp")
    predict = shadow_training.stand_in(x[:200], y[:200], 10, knowledge, seed=0, recipe=Recipe(epochs=20))
    labels = predict(x[200:])
    assert labels.dtype == torch.int64 and labels.shape == (len(x) - 200,)
    assert (labels == y[200:]).float().mean() > 0.8
    assert Gate(predict).oracle("a", 3, 1).query(x[:3], torch.arange(3), phase="p").shape == (3,)
