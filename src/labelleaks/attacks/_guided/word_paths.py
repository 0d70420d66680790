"""Ways of the guided attack through texts: words left out one after the other, those first that matter most.

The directing models say which words matter: by how much their log-odds fall where a word alone is left out. These
orders cost no label and are found once for a candidate. The measuring models say how far each text on the way has come:
the largest drop so far (a later word may bring some back), so a question is placed by its drop, not by its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks.words import Words
from labelleaks.core.batch_invariant import mean_of

if TYPE_CHECKING:
    from labelleaks.attacks._guided.directions import Split, StartPoints

__all__ = ["leave_one_out", "some_words", "without_words"]

_VALUES_AT_A_TIME = 1 << 23
"""Codes of shortened texts that are held at a time (32 MB)."""


def some_words(x: Tensor, words: Words, draws: Tensor) -> Tensor:
    """Return the words that one way may leave out, a random half of each text's: bool (n, d), from draws (n, d)."""
    there = words.there(x)
    keys = torch.where(there, draws, 2.0)
    rank = torch.argsort(torch.argsort(keys, dim=1, stable=True), dim=1, stable=True)
    count = torch.ceil(there.sum(1) * TUNING.word_share)
    return there & (rank < count[:, None])


def leave_one_out(start: StartPoints, words: Words) -> Tensor:
    """Return how far each model's log-odds fall where one word alone is left out: float64 (R, n, d), 0 elsewhere."""
    x = start.x.flatten(1)
    falls = torch.zeros(len(start.models), *x.shape, dtype=torch.float64, device=x.device)
    rows, places = words.there(x).nonzero(as_tuple=True)
    for part in torch.arange(len(rows), device=x.device).split(max(1, _VALUES_AT_A_TIME // x.shape[1])):
        row, place = rows[part], places[part]
        out = torch.zeros(len(part), x.shape[1], dtype=torch.bool, device=x.device)
        out[torch.arange(len(part), device=x.device), place] = True
        there = start.ask(words.without(x[row], out), start.y[row])
        falls[:, row, place] = start.log_odds[:, row] - there
    return falls


def without_words(
    start: StartPoints, words: Words, split: Split, rows: Tensor, drop: Tensor, *, sign: int, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """Leave out allowed words, bool (k, d), until the wanted drop: as :func:`directions.perturb_to`."""
    points, reached = start.x[rows].flatten(1).clone(), torch.zeros_like(drop)
    most = max(1, _VALUES_AT_A_TIME // (points.shape[1] * TUNING.most_changes))
    for part in torch.arange(len(rows), device=rows.device).split(most):
        points[part], reached[part] = _shortened(start, words, split, rows[part], drop[part], sign, allowed[part])
    return points.reshape(start.x[rows].shape), reached


def _shortened(
    start: StartPoints, words: Words, split: Split, rows: Tensor, drop: Tensor, sign: int, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    x = start.x[rows].flatten(1)
    falls = mean_of([start.falls[j, rows] for j in split.directing])
    keys = torch.where(allowed, -sign * falls, -torch.inf)
    rank = torch.argsort(torch.argsort(keys, dim=1, descending=True, stable=True), dim=1, stable=True)
    lengths = _lengths(x.shape[1])
    ends = lengths[None, :].expand(len(rows), -1) <= allowed.sum(1)[:, None]
    row, step = ends.nonzero(as_tuple=True)
    if len(row) == 0:
        return x, torch.zeros_like(drop)
    texts = words.without(x[row], (rank[row] < lengths[step, None]) & allowed[row])
    level = torch.full(ends.shape, -torch.inf, dtype=torch.float64, device=x.device)
    level[row, step] = start.drop(split, rows[row], texts.reshape(-1, *start.x.shape[1:]), sign)
    place = torch.full(ends.shape, -1, dtype=torch.int64, device=x.device)
    place[row, step] = torch.arange(len(row), device=x.device)
    enough = level >= drop[:, None]
    best = torch.where(enough.any(1), enough.to(torch.int8).argmax(1), level.argmax(1))
    each = torch.arange(len(rows), device=x.device)
    reached = level[each, best]
    gains = reached > 0
    points = torch.where(gains[:, None], texts[place[each, best].clamp_min(0)], x)
    return points, torch.where(gains, reached, 0.0)


def _lengths(most: int) -> Tensor:
    """Return the numbers of words left out that are looked at: every one at first, of long texts fewer and fewer."""
    if most <= TUNING.most_changes:
        return torch.arange(1, most + 1)
    every = TUNING.most_changes // 3
    steps = torch.logspace(0, 1, TUNING.most_changes - every, base=most / every, dtype=torch.float64) * every
    lengths: Tensor = torch.cat([torch.arange(1, every + 1), steps.round().to(torch.int64)]).unique()
    return lengths
