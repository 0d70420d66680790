"""A picture in two dimensions: where members and non-members lie among what the target makes of its inputs."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.studies.base import StudyInput, StudyResult

__all__ = ["regions"]

TOP = 9
"""Outputs that are looked at, largest first."""
NEIGHBOURS = 10
"""Nearest points that decide what the background says."""
GRID = 100
"""Cells of the background along each side (1,000 in the authors' code)."""


def regions(task: StudyInput) -> StudyResult:
    """Place candidates in a plane by t-SNE of the target's log-posteriors, starting at their PCA; twice.

    ``sorted``: the 9 largest, in order, as in the authors' code, where the classes are lost and what is left is how
    sure the target is. ``all``: all of them, where each class has its region.

    A picture for the model's owner: no attack sees posteriors. Head: ``right``, [members, non-members] that the target
    classifies correctly. Points: for each of the two ``by``, one a candidate, ``x`` and ``y`` from 0 to 1, its class
    ``said`` by the target, whether it is a ``member``; then the background, ``row`` from the lowest y up, ``classes``
    from left to right, one character a cell (0-9, a-z, A-Z): the class of most of the 10 nearest points.

    Source: Li & Zhang 2007.15528, ``reduce_dimension_2d`` in the history of the authors' code.
    """
    candidates, member = task.bench.candidates(task.study.candidates)
    log_p = task.bench.target(task.need).log_posteriors(candidates.x)
    labels = log_p.argmax(1)
    right = (labels == candidates.y).numpy()
    features = {"sorted": log_p.sort(1, descending=True).values[:, :TOP], "all": log_p}
    points: list[Row] = []
    for by, rows in features.items():
        plane = _embedded(rows.numpy(), task.bench.world.seed)
        points += [
            {"by": by, "x": round(float(x), 3), "y": round(float(y), 3), "said": int(c), "member": bool(m)}
            for (x, y), c, m in zip(plane, labels, member, strict=True)
        ]
        points += [{"by": by, **row} for row in _background(plane, labels)]
    head = {
        "n_members": int(member.sum()),
        "n_nonmembers": int((~member).sum()),
        "right": [int((right & side).sum()) for side in (member, ~member)],
    }
    return head, points


def _embedded(features: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(n, 2), each axis from 0 to 1."""
    from sklearn.manifold import TSNE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        tsne = TSNE(init="pca", method="exact", random_state=seed, perplexity=min(30, (len(features) - 1) / 3))
        plane = tsne.fit_transform(features.astype(np.float64)).astype(np.float64)
    low, high = plane.min(0), plane.max(0)
    return np.asarray((plane - low) / np.maximum(high - low, 1e-12), dtype=np.float64)


def _background(plane: NDArray[np.float64], labels: torch.Tensor) -> list[Row]:
    from sklearn.neighbors import KNeighborsClassifier

    near = KNeighborsClassifier(min(NEIGHBOURS, len(plane))).fit(plane, labels.numpy())
    middle = (np.arange(GRID) + 0.5) / GRID
    return [
        {"row": i, "classes": "".join(map(_letter, near.predict(np.stack([middle, np.full(GRID, y)], 1))))}
        for i, y in enumerate(middle)
    ]


def _letter(code: int) -> str:
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[code % len(letters)]
