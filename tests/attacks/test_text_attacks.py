"""Attacks on texts that compare with reference models: the models, the ways through a text, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from torch import Tensor

import labelleaks as ll
from labelleaks.attacks._guided.directions import (
    StartPoints,
    ensemble_log_odds,
    feature_scale,
    log_odds,
    perturb_to,
    splits,
)
from labelleaks.attacks._guided.word_paths import some_words
from labelleaks.attacks.words import Words
from labelleaks.core import rng
from labelleaks.core.domains import Text, Tokens
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import reference_models, text_models
from labelleaks.models.shadow_training import train_shadows

NOUNS, GOOD, BAD = ("film", "plot", "cast", "score"), ("great", "warm", "fine"), ("dull", "weak", "poor")


def _reviews(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts whose adjectives tell the label, with words of their own that can be remembered."""
    draw = np.random.default_rng(seed)
    y = (np.arange(count) % 2).tolist()
    texts = []
    for label in y:
        words = [*draw.choice(GOOD if label else BAD, 2), draw.choice(BAD if label else GOOD), *draw.choice(NOUNS, 3)]
        words += [f"name{draw.integers(400)}" for _ in range(3)]
        draw.shuffle(words)
        texts.append(" ".join(words))
    return texts, y


def _encoded(texts: list[str]) -> tuple[Tokens, Tensor]:
    domain = Text().learn(texts)
    return domain, torch.from_numpy(domain.vocabulary.encode(texts, domain.width))


def _models(domain: Tokens, x: Tensor, y: Tensor, family: Any = None, count: int = 4) -> Any:
    made = text_models.for_texts(family, domain, (domain.width,))
    return train_shadows(x, y, 2, made, seeds=range(count))


@pytest.fixture(scope="module")
def start() -> StartPoints:
    """Four references, and twelve candidates that they have not seen."""
    texts, labels = _reviews(212, 0)
    domain, x = _encoded(texts)
    y = torch.tensor(labels)
    models = _models(domain, x[12:], y[12:])
    scale = feature_scale(x, domain)
    return StartPoints(models, x[:12], y[:12], domain, ensemble_log_odds(models, x[:12], y[:12]), scale)


# --- reference models -------------------------------------------------------------------------------------------------


def test_logits_are_those_of_scikit_learn_on_the_same_rows() -> None:
    texts, labels = _reviews(60, 1)
    domain, x = _encoded(texts)
    (model,) = _models(domain, x, torch.tensor(labels), count=1)
    tfidf = TfidfVectorizer(ngram_range=(1, 2)).fit(texts)
    rows = np.sort(np.random.default_rng(0).permutation(60)[:48])
    plain = LogisticRegression(C=10, max_iter=1000).fit(
        tfidf.transform([texts[i] for i in rows]), np.array(labels)[rows]
    )
    expected = plain.decision_function(tfidf.transform(texts))
    assert np.allclose((model.logits(x)[:, 1] - model.logits(x)[:, 0]).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("family", [None, make_pipeline(CountVectorizer(), MultinomialNB())], ids=["default", "own"])
def test_bits_of_a_row_do_not_depend_on_its_company(family: Any) -> None:
    texts, labels = _reviews(80, 2)
    domain, x = _encoded(texts)
    models = _models(domain, x, torch.tensor(labels), family)
    whole = reference_models.all_logits(models, x)
    assert torch.equal(reference_models.all_logits(models, x.flip(0)), whole.flip(1))
    assert torch.equal(reference_models.all_logits(models, x[7:8])[:, 0], whole[:, 7])
    assert not torch.equal(whole[0], whole[1]), "each reference has rows of its own"
    again = _models(domain, x, torch.tensor(labels), family)
    assert torch.equal(reference_models.all_logits(again, x), whole)


def test_the_words_of_references_are_learnt_from_their_own_rows_alone() -> None:
    texts, labels = _reviews(60, 3)
    domain, x = _encoded([*texts, "candidateword film"])
    (model,) = _models(domain, x[:60], torch.tensor(labels), count=1)
    assert "candidateword" not in model.features._tfidf.vocabulary_
    known = domain.vocabulary.encode(["film"], domain.width)
    assert torch.equal(model.logits(x[60:]), model.logits(torch.from_numpy(known)))


@pytest.mark.parametrize("words", [["a", "b", "", "!"], ["東京 は 晴れ", "大阪 は 雨", "", "京都"]])
def test_short_words_empty_texts_and_one_class_are_no_trouble(words: list[str]) -> None:
    domain, x = _encoded(words)
    for y in (torch.tensor([0, 1, 0, 1]), torch.ones(4, dtype=torch.int64)):
        for model in _models(domain, x, y):
            assert bool(torch.isfinite(model.logits(x)).all() and torch.isfinite(model.log_posteriors(x)).all())
            assert (model.labels(x) == 1).all() or len(y.unique()) > 1


def test_families_that_do_not_fit_texts_are_refused() -> None:
    members, others = _reviews(8, 4), _reviews(8, 5)
    shadow = _reviews(20, 6)[0]

    def target(texts: list[str]) -> list[int]:
        return [0] * len(texts)

    def audit(**keys: Any) -> None:
        ll.audit(
            target, members=members, nonmembers=others, shadow=(shadow,), attacks=["transfer"], classes=2,
            show_progress=False, **keys,
        )  # fmt: skip

    with pytest.raises(InputError, match="leave family out"):
        audit(family="mlp")


# --- ways through a text ----------------------------------------------------------------------------------------------


def test_the_fall_without_a_word_is_what_the_models_say_of_that_text(start: StartPoints) -> None:
    words = Words.of(start.domain, start.x.shape[1:])
    assert words is not None and start.falls.shape == (4, 12, start.domain.width)
    out = torch.zeros_like(start.x[:1], dtype=torch.bool)
    out[0, 3] = True
    shorter = words.without(start.x[:1], out)
    expected = start.log_odds[:, 0] - ensemble_log_odds(start.models, shorter, start.y[:1])[:, 0]
    assert torch.equal(start.falls[:, 0, 3], expected)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_way_stops_at_the_first_text_that_has_the_drop(start: StartPoints, sign: int) -> None:
    rows, split = torch.arange(12), splits(4)[0]
    everything = torch.ones_like(start.x, dtype=torch.bool)
    drop = torch.full((12,), 0.4, dtype=torch.float64)
    points, reached = perturb_to(start, split, rows, drop, sign=sign, allowed=everything)
    measured = start.drop(split, rows, points, sign)
    assert torch.allclose(measured, reached.clamp_min(0) * (reached > 0) + measured * (reached <= 0))
    falls = torch.stack([start.falls[j] for j in split.directing]).mean(0) * -sign
    for i in rows.tolist():
        left_out = ((points[i] == 0) & (start.x[i] != 0)).nonzero().reshape(-1)
        if len(left_out) == 0:
            continue
        kept = (points[i] != 0).nonzero().reshape(-1)
        assert falls[i, left_out].min() >= falls[i, kept].max() - 1e-12, "words go in falling order"
        one_less = start.x[i : i + 1].clone()
        order = left_out[falls[i, left_out].argsort(descending=True)]
        one_less[0, order[:-1]] = 0
        if reached[i] >= 0.4 and len(order) > 1:
            assert start.drop(split, rows[i : i + 1], one_less, sign)[0] < 0.4
    lower, less = perturb_to(start, split, rows, drop / 4, sign=sign, allowed=everything)
    assert bool((less <= reached + 1e-12).all()) and bool(((lower == 0).sum(1) <= (points == 0).sum(1)).all())


def test_ways_take_random_halves_of_each_texts_own_words() -> None:
    domain, x = _encoded(["a b c d e f g h", "a b c", "a", ""])
    words = Words.of(domain, (domain.width,))
    assert words is not None
    draws = rng.uniform(torch.arange(4), domain.width)
    chosen = some_words(x, words, draws)
    assert chosen.sum(1).tolist() == [4, 2, 1, 0] and not bool((chosen & (x == 0)).any())
    assert torch.equal(some_words(x[:1], words, draws[:1]), chosen[:1])


def test_a_text_of_one_word_and_an_empty_one_have_no_way() -> None:
    texts, labels = _reviews(60, 7)
    domain, x = _encoded([*texts, "great", ""])
    y = torch.tensor([*labels, 1, 0])
    models = _models(domain, x[:60], y[:60])
    start = StartPoints(
        models, x[60:], y[60:], domain, ensemble_log_odds(models, x[60:], y[60:]), feature_scale(x, domain)
    )  # fmt: skip
    drop = torch.ones(2, dtype=torch.float64)
    points, reached = perturb_to(
        start, splits(4)[0], torch.arange(2), drop, sign=-1, allowed=torch.ones_like(x[60:], dtype=torch.bool)
    )
    assert torch.equal(points, x[60:]) and reached.tolist() == [0.0, 0.0]


def test_long_texts_are_looked_at_in_growing_steps() -> None:
    from labelleaks.attacks._guided.word_paths import _lengths

    lengths = _lengths(512).tolist()
    assert lengths[:16] == list(range(1, 17)) and lengths[-1] == 512 and len(lengths) <= 48
    assert _lengths(20).tolist() == list(range(1, 21))


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_guided_finds_what_a_pipeline_remembers() -> None:
    texts, labels = _reviews(500, 8)
    flipped = [1 - label if i % 5 == 0 else label for i, label in enumerate(labels)]  # remembered, not learnt
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100, max_iter=1000)).fit(
        texts[:150], flipped[:150]
    )
    record = ll.audit(
        pipeline, members=(texts[:100], flipped[:100]), nonmembers=(texts[150:250], flipped[150:250]),
        shadow=(texts[250:],), attacks=["gap", "guided", "chameleon", "transfer"], budget=10, thresholds=[],
        show_progress=False,
    )  # fmt: skip
    assert record["guided"].auc.value > record["gap"].auc.value + 0.05
    assert record["guided"].queries.max() <= 10
    assert record.shadow["models"][0]["rows"] < 250


@pytest.mark.parametrize("name", ["oslo", "yoqo", "dhattack", "calibrated"])
def test_what_is_not_made_for_texts_is_refused_by_name_before_a_label(name: str) -> None:
    asked: list[Any] = []

    def target(texts: list[str]) -> list[int]:
        asked.append(texts)
        return [0] * len(texts)

    members, others = _reviews(6, 9), _reviews(6, 10)
    with pytest.raises(NeedsError, match=f"{name} is not made for texts: .*use guided"):
        ll.audit(
            target, members=members, nonmembers=others, shadow=(_reviews(20, 11)[0],), attacks=[name], classes=2,
            show_progress=False,
        )  # fmt: skip
    assert not asked


def test_a_ladder_takes_what_fits_texts_and_notes_the_rest() -> None:
    texts, labels = _reviews(60, 12)
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
    record = ll.audit(
        pipeline, members=(texts[:10], labels[:10]), nonmembers=(texts[10:20], labels[10:20]), shadow=(texts[20:],),
        attacks="ladder", budget=12, thresholds=[], references=2, show_progress=False,
    )  # fmt: skip
    assert {"gap", "noise", "augmentation", "boundary", "transfer", "guided", "chameleon"} <= set(record.attacks)
    for name in ("oslo", "yoqo", "dhattack", "calibrated"):
        assert any(f"{name} is not made for texts" in note for note in record.notes)


def test_log_odds_of_one_text_agree_with_its_posterior(start: StartPoints) -> None:
    model = start.models[0]
    posterior = model.log_posteriors(start.x)[:, 1].exp()
    expected = (posterior / (1 - posterior)).log()
    assert torch.allclose(
        log_odds(model.logits(start.x).double(), torch.ones(12, dtype=torch.int64)), expected, atol=1e-5
    )
