"""A threshold without members: the percentile t of random inputs' distances, for every t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks import metrics
from labelleaks.core import rng
from labelleaks.core.attack import Knowledge, run
from labelleaks.core.domains import image_layout
from labelleaks.core.oracle.label_oracle import SETUP
from labelleaks.core.types import Candidates, Status
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.measures import attack_of
from labelleaks.experiments.studies.base import Interval, StudyInput, StudyResult, plain
from labelleaks.metrics import Estimate
from labelleaks.models.randaugment import RandAugment

__all__ = ["Called", "balanced_accuracy", "f1", "percentile"]

TRIES = 5
"""Random inputs that are tried, per one whose label could be changed, before that is given up."""
PERCENTILES = range(1, 100)


@dataclass(frozen=True)
class Called:
    """Candidates called members, among the members (``tp`` of ``m``) and the non-members (``fp`` of ``n``)."""

    tp: int
    fp: int
    m: int
    n: int


def percentile(task: StudyInput) -> StudyResult:
    """Attack random inputs as the candidates were attacked; hold the candidates' scores of the grid against the result.

    Random inputs are ``uniform`` in the domain, or ``fakedata``, the authors' images. Their label is the target's own.
    Those whose label could not be changed are replaced by others, as in the published code, at most 5 times as many.

    Head: for each kind of inputs how many were ``tried``, how many ``changed``, the ``labels`` that this cost, and
    ``spread``: the largest F1 of any t minus the smallest; the ``best`` threshold, chosen on the candidates, as tau, tp
    and fp. Points: for each kind and t the threshold tau and whom it calls a member: score > tau.

    Source: Li & Zhang 2007.15528, threshold of the boundary attack; t ascends as in ``numpy.percentile``.
    """
    scored = task.bench.store.scored(task.need)
    reading = next(one for one in scored.readings if one.variant == task.attacked.variant)
    value, member = reading.path[-1][reading.kept], scored.member[reading.kept]
    kinds, points = {}, []
    for kind in _kinds(task):
        distances, about = _random_distances(task, kind)
        rows: list[Row] = []
        if len(distances):
            taus = np.percentile(distances, PERCENTILES)
            rows = [
                {"inputs": kind, "t": t} | _counts(value, member, tau) for t, tau in zip(PERCENTILES, taus, strict=True)
            ]
            about["spread"] = _spread([called(row, member) for row in rows])
        kinds[kind] = about
        points += rows
    head = {
        "labels": task.attacked.labels,
        "n_members": int(member.sum()),
        "n_nonmembers": int((~member).sum()),
        "inputs": kinds,
        "best": _counts(value, member, metrics.best_threshold(value, member)),
    }
    return head, points


def _kinds(task: StudyInput) -> tuple[str, ...]:
    dataset = task.bench.dataset
    return ("uniform",) if image_layout(dataset.shape, dataset.domain.layout) is None else ("fakedata", "uniform")


def _counts(value: NDArray[np.float64], member: NDArray[np.bool_], tau: float) -> Row:
    above = value > tau
    return {"tau": round(float(tau), 6), "tp": int((above & member).sum()), "fp": int((above & ~member).sum())}


def called(row: Row, member: NDArray[np.bool_]) -> Called:
    """Return the decisions of a row as counts."""
    return Called(row["tp"], row["fp"], int(member.sum()), int((~member).sum()))


def _random_distances(task: StudyInput, kind: str) -> tuple[NDArray[np.float64], Row]:
    """Distances of random inputs whose label could be changed: as many as wanted, where there are."""
    wanted, bench, measure = task.study.inputs, task.bench, task.attacked
    attack = attack_of(measure)
    target = task.need.needs[0]
    gate = bench.gate(target)
    domain, classes = bench.dataset.domain, bench.dataset.classes
    distances: list[float] = []
    tried = 0
    while len(distances) < wanted and tried < TRIES * wanted:
        x = _draw(task, kind, tried, wanted - len(distances))
        tried += len(x)
        y = gate.setup_oracle("random inputs").query(x, torch.full((len(x),), SETUP), phase="label")
        oracle = gate.setup_oracle("random inputs", len(x), measure.labels)
        knowledge = Knowledge(setup=gate.setup_oracle("random inputs"))
        scores = run(attack, oracle, Candidates(x, y, domain, classes), knowledge, seed=bench.world.seed)
        distances += scores.value[scores.status != int(Status.NO_START)].tolist()
    about = {"tried": tried, "changed": len(distances), "labels": gate.ledger.setup_rows}
    return np.array(distances, dtype=np.float64), about


def _draw(task: StudyInput, kind: str, first: int, count: int) -> Tensor:
    """Random inputs number ``first`` and on."""
    dataset, seed = task.bench.dataset, task.bench.world.seed
    shape, domain = dataset.shape, dataset.domain
    streams = rng.streams(torch.arange(first, first + count), seed, f"random inputs {kind}")
    if kind == "uniform":
        width = int(np.prod(shape))
        return domain.from_uniform(rng.uniform(streams, width).reshape(count, *shape))
    augment = RandAugment.of(domain, shape)
    return torch.cat([domain.project(_fakedata(augment, int(stream))) for stream in streams])


def _fakedata(augment: RandAugment, stream: int) -> Tensor:
    """One image of the authors: torchvision's FakeData, then RandAugment."""
    generator = torch.Generator().manual_seed(stream)
    z = torch.randn(augment.span.shape, generator=generator)
    return augment(augment.low + augment.span * wrapped(z), generator)


def wrapped(z: Tensor) -> Tensor:
    """Return FakeData's pictures of standard normal numbers, in [0, 1]: bytes of 255 z, which wrap
    round, so that all values are about equally likely and nothing normal is left."""
    return torch.remainder((255 * z).trunc(), 256) / 255


def f1(of: Called, level: float = 0.95) -> Interval:
    """2 tp / (2 tp + fp + fn): of members called members, and members among those called so, the harmonic mean.

    Its interval is the range that it takes over the Clopper-Pearson intervals, each at half the error, of TPR and FPR:
    it grows with the one and falls with the other.
    """
    half = 1 - (1 - level) / 2
    tpr, fpr = metrics.rate(of.tp, of.m, level=half), metrics.rate(of.fp, of.n, level=half)

    def value(tpr: float, fpr: float) -> float:
        return 2 * tpr * of.m / (of.m * (1 + tpr) + of.n * fpr)

    return plain(value(of.tp / of.m, of.fp / of.n), value(_low(tpr), _high(fpr)), value(_high(tpr), _low(fpr)))


def balanced_accuracy(of: Called) -> Interval:
    """(TPR + 1 - FPR) / 2, with the interval of :func:`labelleaks.metrics.balanced_accuracy`."""
    member = np.arange(of.m + of.n) < of.m
    decided = np.concatenate([np.arange(of.m) < of.tp, np.arange(of.n) < of.fp])
    accuracy = metrics.balanced_accuracy(decided, member)
    assert accuracy.value is not None
    return plain(accuracy.value, _low(accuracy), _high(accuracy))


def _spread(decisions: list[Called]) -> Interval:
    """Largest minus smallest F1 of all t. The interval takes into account that both were looked for: all t's hold."""
    level = 1 - 0.05 / len(decisions)
    most, least = (end(decisions, key=lambda of: f1(of)["value"]) for end in (max, min))
    high, low = f1(most, level), f1(least, level)
    return plain(high["value"] - low["value"], max(0.0, high["low"] - low["high"]), high["high"] - low["low"])


def _low(of: Estimate) -> float:
    assert of.low is not None
    return of.low


def _high(of: Estimate) -> float:
    assert of.high is not None
    return of.high
