"""Gradient-boosted trees as a family of shadow models: what most tables are served with.

scikit-learn's ``HistGradientBoostingClassifier``, each model on its own random part of the rows and splits, with one
thread, so that its bytes depend on rows, labels and seed alone. A model is a sum of one leaf of each tree, added up in
the same order for every row: a row's answer has the same bits in any company, and any number of rows is asked for at
once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelleaks.core import rng
from labelleaks.errors import NeedsError
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import LOG_FLOOR, Objective, log_posteriors, table

__all__ = ["BoostedTrees", "TreeEnsemble"]


@dataclass(frozen=True)
class BoostedTrees:
    """Untrained boosted trees; what a shadow family by the name of ``"trees"`` builds.

    Args:
        seed: decides rows and features.
        trees: a class (for two classes: in all).
        leaves: of a tree at most.
        rate: learning rate.
        least: rows of a leaf at least.
        rows: share of the rows that one model is trained on.
        features: share of the features that a split chooses from.
    """

    seed: int
    trees: int = 40
    leaves: int = 31
    rate: float = 0.1
    least: int = 20
    rows: float = 0.8
    features: float = 0.5

    def fit(self, x: Tensor, y: Tensor, classes: int) -> TreeEnsemble:
        """Train on (x, y), (n, *shape) and int64 (n,) of 0 … classes - 1, n >= 1."""
        from sklearn.ensemble import HistGradientBoostingClassifier  # scikit-learn is slow to import
        from threadpoolctl import threadpool_limits

        began = time.monotonic()
        generator = torch.Generator().manual_seed(rng.seed_from(self.seed, "boosted trees: rows"))
        some = torch.randperm(len(x), generator=generator)[: max(1, round(self.rows * len(x)))].sort().values
        features, labels = table(x)[some.numpy()], y.cpu().numpy()[some.numpy()]
        model: Any = None
        if (labels != labels[0]).any():
            model = HistGradientBoostingClassifier(
                max_iter=self.trees, max_leaf_nodes=self.leaves, learning_rate=self.rate, min_samples_leaf=self.least,
                max_features=self.features, early_stopping=False, random_state=self.seed % (1 << 32),
            )  # fmt: skip
            with threadpool_limits(1):  # threads add gradients up in any order
                model.fit(features, labels)
        seconds = round(time.monotonic() - began, 3)
        return TreeEnsemble(model, np.unique(labels).tolist(), classes, Training(len(some), 0, seconds))


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """Trained boosted trees; a :class:`labelleaks.models.shadow_model.ShadowModel`."""

    model: Any
    """None where all labels were one class"""
    seen: list[int]
    """the classes among its rows"""
    classes: int
    training: Training

    differentiable = False

    def logits(self, x: Tensor) -> Tensor:
        found = np.full((len(x), self.classes), LOG_FLOOR, np.float32)
        if self.model is None or len(x) == 0:
            found[:, self.seen] = 0.0
        else:
            raw = self.model.decision_function(table(x))
            found[:, self.seen] = np.stack([np.zeros_like(raw), raw], 1) if raw.ndim == 1 else raw
        return torch.from_numpy(found).to(x.device)

    def log_posteriors(self, x: Tensor) -> Tensor:
        return log_posteriors(self.logits(x))

    def labels(self, x: Tensor) -> Tensor:
        return self.logits(x).argmax(1)

    def gradient(self, x: Tensor, y: Tensor, of: Objective) -> Tensor:
        raise NeedsError("boosted trees have no gradient")
