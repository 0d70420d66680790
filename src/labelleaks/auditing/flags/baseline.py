"""The blind baseline: can members be told from non-members without asking the model anything?

If so the two groups differ in themselves (other source, other years, other cleaning), and whatever an attack shows on
them may be that difference instead of a leak. The classifier sees raw features and true labels only.

Source: Das, Zhang, Tramèr, "Blind Baselines Beat Membership Inference Attacks for Foundation Models", 2406.16201.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks import metrics
from labelleaks.auditing.evaluation import folds
from labelleaks.core import progress, rng
from labelleaks.metrics import Estimate

__all__ = ["LEVEL", "blind_auc"]

LEVEL = 0.99
"""Of the interval: a false alarm costs an auditor a day."""

_MOST_ROWS = 1000  # per group
_MOST_FEATURES = 1024
_LEAST_ROWS = 20  # per group; below, five folds learn nothing
_FOLDS = 5


def blind_auc(
    x: NDArray[np.float32], y: NDArray[np.int64], member: NDArray[np.bool_], keys: NDArray[np.int64], *, seed: int
) -> Estimate:
    """AUC of a classifier that knows the candidates and not the model, 5-fold cross-validated.

    Half a ridge regression (sees shifts of means), half extremely randomised trees (see the rest), on standardised
    features, each row's mean, spread, extremes and share of zeros, and its label. At most 1,000 rows a group and 1,024
    features, chosen by content.

    Args:
        x: (n, *shape), finite.
        y: (n,) labels.
        member: bool (n,).
        keys: int64 (n,) content keys.
        seed: of the choice of rows and features and of the trees.

    Returns:
        the estimate with a 99 % interval; without a value, and with the reason, below 20 rows a group.
    """
    rows = _choose_rows(keys, member, seed)
    truth = member[rows]
    least = min(int(truth.sum()), int((~truth).sum()))
    if least < _LEAST_ROWS:
        return Estimate(None, reason=f"{least} rows in a group; a blind baseline needs {_LEAST_ROWS}")
    features = _features(x[rows], y[rows], seed)
    fold = folds(keys[rows], truth, _FOLDS)
    score = np.full(len(rows), 0.5)
    for f in range(_FOLDS):
        progress.beat()
        test = fold == f
        train = ~test
        if test.any() and truth[train].any() and not truth[train].all():
            score[test] = _fit_predict(features[train], truth[train], features[test], seed)
    return metrics.auc(score, truth, level=LEVEL)


def _choose_rows(keys: NDArray[np.int64], member: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    salt = np.int64(rng.seed_from(seed, "blind baseline rows"))
    order = np.argsort(keys ^ salt, kind="stable")
    chosen = [order[member[order] == side][:_MOST_ROWS] for side in (True, False)]
    return np.concatenate(chosen)


def _features(x: NDArray[np.float32], y: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    flat = np.ascontiguousarray(x, dtype=np.float32).reshape(len(x), -1)
    summary = [flat.mean(1), flat.std(1), flat.min(1), flat.max(1), (flat == 0).mean(1)]
    if flat.shape[1] > _MOST_FEATURES:
        generator = np.random.default_rng(rng.seed_from(seed, "blind baseline features"))
        flat = flat[:, np.sort(generator.choice(flat.shape[1], _MOST_FEATURES, replace=False))]
    label = (y[:, None] == np.unique(y)[None, :100]).astype(np.float32)
    return np.concatenate([flat, np.stack(summary, 1).astype(np.float32), label], axis=1)


def _fit_predict(train: Any, member: NDArray[np.bool_], test: Any, seed: int) -> NDArray[np.float64]:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import Ridge

    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    varies = spread > 1e-9 * (1 + np.abs(mean))
    scale = np.where(varies, spread, 1.0)
    a, b = ((part.astype(np.float64) - mean) / scale * varies for part in (train, test))
    # The penalty equals the sum of the variances: about as much shrinkage as signal, whatever the width.
    linear = Ridge(alpha=float(max(varies.sum(), 1))).fit(a, member.astype(np.float64)).predict(b)
    trees = ExtraTreesClassifier(
        n_estimators=100,
        max_depth=8,  # without: five times slower on images, and no better
        min_samples_leaf=3,
        class_weight="balanced",
        random_state=rng.seed_from(seed, "blind baseline trees") % 2**32,
    )
    vote = trees.fit(train, member).predict_proba(test)[:, 1]
    return _standard(linear) + _standard(np.asarray(vote, dtype=np.float64))


def _standard(score: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = score.std()
    return (score - score.mean()) / spread if spread > 0 else np.zeros_like(score)
