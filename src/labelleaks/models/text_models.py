"""Reference models of text classifiers: TF-IDF and logistic regression by default, or the user's own pipeline.

Each reference is trained on a random part of the rows of its own, since most such models have no other randomness and
would all be one model. The words and their weights are learnt once, from the rows that references train on, and shared:
several models are asked about the same texts at the cost of one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.domains import Domain, Group, Text
from labelleaks.errors import InputError, NeedsError
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import LOG_FLOOR, Objective, log_posteriors

__all__ = [
    "PreparedTexts",
    "TextFamily",
    "TextFeatures",
    "TextModel",
    "TextPipeline",
    "UntrainedText",
    "for_texts",
    "logits_of_all",
    "texts_of",
]

_ROWS = 1 << 12
"""Rows whose features are held at a time."""


@dataclass(frozen=True)
class Tuning:
    """Constants of the default family. C alone was chosen: 1, 10, 100 on movie snippets and SMS, seed 100."""

    C: float = 10.0
    """Inverse strength of the penalty: between scikit-learn's default, 1, and a model that fits all of its rows."""
    share: float = 0.8
    """Part of the rows that one reference trains on."""
    characters: tuple[int, int] = (1, 4)
    """Lengths of the character n-grams, where texts are not taken apart at spaces."""


TUNING = Tuning()


@dataclass(frozen=True, eq=False)
class TextFamily:
    """Family of reference models for rows with texts.

    Args:
        groups: of the rows' domain.
        inner: the user's own family: a scikit-learn pipeline on strings, or a factory; None: the default.
    """

    groups: tuple[Group, ...]
    inner: Any = None


def for_texts(family: Any, domain: Domain, shape: Sequence[int]) -> Any:
    """Return the family for rows with texts; any other domain's stays.

    Raises:
        InputError: the user's pipeline beside columns of a table, or a name, which stands for no model of texts.
    """
    groups = domain.groups(shape)
    texts = [group for group in groups if group.kind == "token"]
    if not texts:
        return family
    if isinstance(family, str):
        raise InputError(
            f"family={family!r} takes numbers, and rows hold texts: leave family out (TF-IDF and logistic regression), "
            "or give your own pipeline on strings"
        )
    if family is not None and len(groups) > 1:
        raise InputError(
            "family: rows are texts beside other columns, which a pipeline of your own cannot be given yet: leave "
            "family out (TF-IDF of the texts, the other columns as numbers, logistic regression)"
        )
    return TextFamily(tuple(groups), family)


def texts_of(groups: Sequence[Group], x: Tensor) -> list[str]:
    """Return the texts of rows x (n, d), those of several columns one behind the other."""
    parts = [
        group.vocabulary.decode(x[:, group.columns].cpu().numpy()) for group in groups if group.vocabulary is not None
    ]
    return parts[0] if len(parts) == 1 else ["\n".join(texts) for texts in zip(*parts, strict=True)]


class TextFeatures:
    """TF-IDF of one and two words, and the other features of a row in standard deviations; learnt from rows (n, d)."""

    def __init__(self, groups: Sequence[Group], x: Tensor) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # scikit-learn is slow to import

        self._groups = tuple(groups)
        plain = all(g.vocabulary.settings.tokens == Text.tokens for g in groups if g.vocabulary is not None)
        texts = texts_of(groups, x)
        characters = TfidfVectorizer(analyzer="char", ngram_range=TUNING.characters, lowercase=True)
        self._tfidf: Any = TfidfVectorizer(ngram_range=(1, 2)) if plain else characters
        try:
            self._tfidf.fit(texts)
        except ValueError:  # no word of two letters in any text
            self._tfidf = characters
            self._tfidf.fit(texts if any(texts) else ["-"])
        self._others = [group.columns for group in groups if group.kind != "token"]
        rest = self._rest(x)
        self._mean, self._scale = rest.mean(0), np.where(rest.std(0) > 0, rest.std(0), 1.0)

    def _rest(self, x: Tensor) -> NDArray[np.float64]:
        blocks = [x[:, columns].cpu().numpy().astype(np.float64) for columns in self._others]
        return np.hstack(blocks) if blocks else np.zeros((len(x), 0))

    def __call__(self, x: Tensor) -> Any:
        """Return the features of rows x (n, d): a sparse matrix (n, features), row i made of row i alone."""
        from scipy.sparse import csr_matrix, hstack

        words = self._tfidf.transform(texts_of(self._groups, x))
        if not self._others:
            return words
        return hstack([words, csr_matrix((self._rest(x) - self._mean) / self._scale)], format="csr")


@dataclass(frozen=True, eq=False)
class TextModel:
    """A linear model on shared features."""

    features: TextFeatures
    weights: NDArray[np.float64]
    """(features, K)"""
    offsets: NDArray[np.float64]
    """(K,)"""
    training: Training

    differentiable = False

    def of_features(self, features: Any) -> NDArray[np.float64]:
        """Return logits (n, K) of features (n, f): sums over a row's own entries, in their order."""
        found: NDArray[np.float64] = features @ self.weights + self.offsets
        return found

    def logits(self, x: Tensor) -> Tensor:
        return logits_of_all([self], x)[0].to(torch.float32)

    def log_posteriors(self, x: Tensor) -> Tensor:
        return log_posteriors(logits_of_all([self], x)[0])

    def labels(self, x: Tensor) -> Tensor:
        return self.logits(x).argmax(1)

    def gradient(self, x: Tensor, y: Tensor, of: Objective) -> Tensor:
        raise NeedsError("reference models of texts have no gradient by the codes of words")


def logits_of_all(models: Sequence[TextModel], x: Tensor) -> Tensor:
    """Return the logits of models with the same features: float64 (R, n, K), those of each row made of it alone."""
    flat = x.flatten(1)
    if len(flat) == 0:
        return torch.zeros(len(models), 0, len(models[0].offsets), dtype=torch.float64, device=x.device)
    parts = []
    for rows in flat.split(_ROWS):
        features = models[0].features(rows)
        parts.append(np.stack([model.of_features(features) for model in models]))
    return torch.from_numpy(np.concatenate(parts, 1)).to(x.device)


@dataclass(frozen=True, eq=False)
class UntrainedText:
    """An untrained reference of the default family; the seed decides which rows it trains on."""

    groups: tuple[Group, ...]
    seed: int

    @property
    def identity(self) -> tuple[str, ...]:
        """Parts of the key under which a trained model is kept."""
        words = [group.vocabulary.digest() for group in self.groups if group.vocabulary is not None]
        return ("text model", repr(TUNING), *words)

    def train(self, texts: PreparedTexts, y: Tensor, classes: int) -> TextModel:
        """Train on a part of the rows whose labels are y, int64 (n,)."""
        from sklearn.linear_model import LogisticRegression

        began = time.monotonic()
        rows = own_part(len(y), self.seed)
        labels = y.cpu().numpy()[rows]
        present = np.unique(labels)
        weights, offsets = np.zeros((texts.matrix.shape[1], classes)), np.full(classes, LOG_FLOOR)
        if len(present) == 1:
            offsets[present] = 0.0
        else:
            fitted = LogisticRegression(C=TUNING.C, max_iter=1000).fit(texts.matrix[rows], labels)
            if len(present) == 2:  # one row of weights, for the second class
                weights[:, present[1]], offsets[present] = fitted.coef_[0], (0.0, fitted.intercept_[0])
            else:
                weights[:, present], offsets[present] = fitted.coef_.T, fitted.intercept_
        return TextModel(texts.features, weights, offsets, Training(len(rows), 0, round(time.monotonic() - began, 3)))


@dataclass(frozen=True, eq=False)
class PreparedTexts:
    """Features of the rows that all references of a run train on."""

    features: TextFeatures
    matrix: Any
    """sparse (n, features)"""

    @classmethod
    def of(cls, groups: Sequence[Group], x: Tensor) -> PreparedTexts:
        """Learn the features from rows x (n, *shape)."""
        features = TextFeatures(groups, x.flatten(1))
        return cls(features, features(x.flatten(1)))


def own_part(count: int, seed: int) -> NDArray[np.int64]:
    """Return the places of the rows that one reference trains on, in order: int64 (m,), one at least."""
    kept = max(1, round(TUNING.share * count))
    return np.sort(np.random.default_rng(seed).permutation(count)[:kept])


class TextPipeline:
    """A user's own classifier of strings, in scikit-learn's manner, for rows of codes: a reference of its own part."""

    def __init__(self, pipeline: Any, groups: tuple[Group, ...], seed: int) -> None:
        self._pipeline, self._groups, self._seed = pipeline, groups, seed

    @property
    def identity(self) -> tuple[Any, ...]:
        """Parts of the key under which a trained model is kept."""
        words = [group.vocabulary.digest() for group in self._groups if group.vocabulary is not None]
        return ("text pipeline", repr(TUNING), self._pipeline, *words)

    @property
    def classes_(self) -> Any:
        """Classes that it was fitted on."""
        return self._pipeline.classes_

    def fit(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> TextPipeline:
        """Fit the pipeline on a part of the rows."""
        rows = own_part(len(x), self._seed)
        if len(np.unique(y[rows])) < 2 <= len(np.unique(y)):
            rows = np.arange(len(x))
        self._pipeline.fit(self._texts(x[rows]), y[rows])
        return self

    def predict(self, x: NDArray[np.float64]) -> Any:
        """Labels of rows of codes."""
        return self._pipeline.predict(self._texts(x))

    def predict_proba(self, x: NDArray[np.float64]) -> Any:
        """Probabilities of rows of codes."""
        return self._pipeline.predict_proba(self._texts(x))

    def get_params(self) -> dict[str, Any]:
        """Settings of the pipeline."""
        params: dict[str, Any] = self._pipeline.get_params()
        return params

    def set_params(self, **params: Any) -> TextPipeline:
        """Change settings of the pipeline."""
        self._pipeline.set_params(**params)
        return self

    def _texts(self, x: NDArray[np.float64]) -> list[str]:
        return texts_of(self._groups, torch.from_numpy(x))
