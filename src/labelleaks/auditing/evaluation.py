"""The one place where membership meets scores: what an attack's scores are worth, with intervals.

An attack hands over scores that know nothing of membership. :func:`evaluate` joins them with the truth; nothing here
asks the target anything. All arrays are numpy, rows = candidates in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labelleaks import metrics
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core import progress
from labelleaks.core.types import Status
from labelleaks.errors import InputError
from labelleaks.metrics import Estimate, Roc
from labelleaks.metrics.estimates import Bools, Floats, Ints

__all__ = [
    "FOLDS",
    "FPRS",
    "CurvePoint",
    "Decision",
    "Evaluation",
    "PairComparison",
    "Ranking",
    "Rates",
    "ScoresLike",
    "compare",
    "evaluate",
    "folds",
]

FPRS = (0.1, 0.01, 0.001)
"""False-positive rates at which every ranking is read."""

FOLDS = 5
"""Folds of the default decision."""


class ScoresLike(Protocol):
    """:class:`labelleaks.Scores`, or the same fields as numpy arrays."""

    @property
    def value(self) -> Any: ...
    @property
    def status(self) -> Any: ...
    @property
    def trajectory(self) -> Any: ...


@dataclass(frozen=True)
class Ranking:
    """Ranking of members above non-members by scores, whatever the threshold."""

    auc: Estimate
    tpr_at_fpr: dict[float, Estimate]
    """By false-positive rate, for each of :data:`FPRS`."""
    members: int
    nonmembers: int


@dataclass(frozen=True)
class Rates:
    """Error rates of decisions."""

    balanced_accuracy: Estimate
    advantage: Estimate
    """TPR - FPR."""
    precision: Estimate
    """Share of members among those called members; depends on the shares of the groups."""
    tpr: Estimate
    fpr: Estimate


@dataclass(frozen=True, eq=False)
class Decision:
    """Candidates called members by one threshold, and what that is worth."""

    threshold: Threshold
    member: Bools
    """(n,): called a member. For a cross-fitted threshold each fold has its own tau."""
    balanced_accuracy: Estimate
    advantage: Estimate
    precision: Estimate
    tpr: Estimate
    fpr: Estimate
    given_correct: Rates | None = None
    """The same decisions, counted on the candidates that the target classifies correctly."""


@dataclass(frozen=True)
class CurvePoint:
    """The ranking as it stood after ``labels`` labels per candidate."""

    labels: int
    ranking: Ranking


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that one attack's scores say about one set of candidates."""

    ranking: Ranking
    given_correct: Ranking
    """Without the candidates that the target misclassifies: what the attack knows beyond the accuracy gap."""
    decisions: tuple[Decision, ...]
    """The first is the reported one (cross-fitted on the audited data), then one for each threshold given."""
    roc: Roc
    curve: tuple[CurvePoint, ...]


_KNOWN = "that the target is known to classify correctly"


@dataclass(frozen=True)
class PairComparison:
    """Two attacks on the same candidates."""

    first: str
    second: str
    difference: Estimate
    """AUC of ``first`` minus AUC of ``second``, paired."""
    p_value: float
    p_holm: float
    """``p_value`` after Holm's correction for all pairs of the audit."""


def evaluate(scores: ScoresLike, member: Any, *, keys: Any, thresholds: Sequence[Threshold] = ()) -> Evaluation:
    """Join scores with the truth.

    Args:
        scores: value float (n,), status int (n,), and a trajectory or None; tensors or numpy arrays. Higher = member.
        member: bool (n,), at least one of each.
        keys: int64 (n,), ``Candidates.keys``: the folds of the default decision hang on content, never on position.
        thresholds: further thresholds to apply, fitted elsewhere.

    Returns:
        the evaluation; where a group is too small for a figure, its Estimate has no value and says why.

    Raises:
        InputError: arrays of different lengths, NaN or infinite scores, or an empty group.
    """
    value, status = _numpy(scores.value, np.float64), _numpy(scores.status, np.int64)
    truth, content = _numpy(member, np.bool_), _numpy(keys, np.int64)
    if not (value.shape == status.shape == truth.shape == content.shape) or value.ndim != 1:
        raise InputError(
            f"scores, status, member and keys must have one row a candidate: {value.shape}, {status.shape}, "
            f"{truth.shape}, {content.shape}"
        )
    roc = metrics.roc(value, truth)  # checks that scores are finite and both groups have rows
    correct = ~np.isin(status, (int(Status.MISCLASSIFIED), int(Status.UNASKED)))
    decisions = [_cross_fitted(value, truth, content, correct)]
    decisions += [_decide(threshold, value > threshold.tau, truth, correct) for threshold in thresholds]
    return Evaluation(
        ranking=_ranking(value, truth),
        given_correct=_ranking(value[correct], truth[correct], _KNOWN),
        decisions=tuple(decisions),
        roc=roc,
        curve=_curve(scores.trajectory, truth),
    )


def compare(values: Mapping[str, Any], member: Any) -> tuple[PairComparison, ...]:
    """Compare the AUC of all pairs of attacks, paired, with Holm's correction.

    Args:
        values: scores (n,) of each attack, by name.
        member: bool (n,), at least one of each.

    Returns:
        one comparison a pair, in the order of the names given.
    """
    truth = _numpy(member, np.bool_)
    arrays = {name: _numpy(value, np.float64) for name, value in values.items()}
    pairs = list(combinations(arrays, 2))
    found = [metrics.compare_auc(arrays[first], arrays[second], truth) for first, second in pairs]
    adjusted = metrics.holm([one.p_value for one in found])
    return tuple(
        PairComparison(first, second, one.difference, float(one.p_value), float(p_holm))
        for (first, second), one, p_holm in zip(pairs, found, adjusted, strict=True)
    )


def folds(keys: Any, member: Any, count: int = FOLDS) -> Ints:
    """Deal candidates into ``count`` folds of nearly equal size within each group.

    Args:
        keys: int64 (n,) content keys; equal content lands in one fold, on whichever side it is.
        member: bool (n,).

    Returns:
        int64 (n,), 0 … count - 1. Depends on the content of all rows and not on their order.
    """
    content, truth = _numpy(keys, np.int64), _numpy(member, np.bool_)
    inside = np.unique(content[truth])  # keys are hashes: their sorted order has nothing to do with the rows
    outside = np.setdiff1d(content[~truth], inside)
    shared = np.isin(content, inside)
    rank = np.where(shared, np.searchsorted(inside, content), np.searchsorted(outside, content))
    return (rank % count).astype(np.int64)


def _numpy(array: Any, dtype: Any) -> NDArray[Any]:
    if isinstance(array, Tensor):
        array = array.detach().cpu().numpy()
    return np.asarray(array, dtype=dtype)


def _ranking(value: Floats, truth: Bools, which: str = "") -> Ranking:
    progress.beat()
    members, nonmembers = int(truth.sum()), int((~truth).sum())
    if members == 0 or nonmembers == 0:
        nothing = _none(members, nonmembers, which)
        return Ranking(nothing, dict.fromkeys(FPRS, nothing), members, nonmembers)
    at = {fpr: metrics.tpr_at_fpr(value, truth, fpr) for fpr in FPRS}
    return Ranking(metrics.auc(value, truth), at, members, nonmembers)


def _none(members: int, nonmembers: int, which: str) -> Estimate:
    empty = "members" if members == 0 else "non-members"
    return Estimate(None, reason=f"there are no {empty} {which}".rstrip())


def _rates(decided: Bools, truth: Bools, which: str = "") -> Rates:
    members, nonmembers = int(truth.sum()), int((~truth).sum())
    if members == 0 or nonmembers == 0:
        nothing = _none(members, nonmembers, which)
        return Rates(nothing, nothing, nothing, nothing, nothing)
    return Rates(
        balanced_accuracy=metrics.balanced_accuracy(decided, truth),
        advantage=metrics.advantage(decided, truth),
        precision=metrics.precision(decided, truth),
        tpr=metrics.rate(int(decided[truth].sum()), members),
        fpr=metrics.rate(int(decided[~truth].sum()), nonmembers),
    )


def _decide(threshold: Threshold, decided: Bools, truth: Bools, correct: Bools) -> Decision:
    rates = _rates(decided, truth)
    return Decision(
        threshold=threshold,
        member=decided,
        **vars(rates),
        given_correct=_rates(decided[correct], truth[correct], _KNOWN),
    )


def _cross_fitted(value: Floats, truth: Bools, keys: Ints, correct: Bools) -> Decision:
    """Decide about each fold with the threshold of best balanced accuracy on the other folds."""
    count = min(FOLDS, len(np.unique(keys[truth])), len(np.unique(keys[~truth])))
    fold = folds(keys, truth, max(count, 1))
    rest = [(truth[fold != f].any(), (~truth[fold != f]).any()) for f in range(count)]
    if count < 2 or not all(inside and outside for inside, outside in rest):
        return _in_sample(value, truth)
    decided = np.zeros(len(value), dtype=np.bool_)
    taus = []
    for f in range(count):
        held_out = fold == f
        tau = metrics.best_threshold(value[~held_out], truth[~held_out])
        decided[held_out] = value[held_out] > tau
        taus.append(tau)
    threshold = Threshold(
        tau=float(np.median(taus)),
        objective="balanced accuracy",
        source=f"audited data, {count}-fold cross-fitted",
        upper_bound=True,
    )
    return _decide(threshold, decided, truth, correct)


def _in_sample(value: Floats, truth: Bools) -> Decision:
    """Too few rows to cross-fit: decide all the same, and give no figure that was fitted on its own data."""
    tau = float(metrics.best_threshold(value, truth))
    threshold = Threshold(tau, "balanced accuracy", "audited data, too few rows to cross-fit", upper_bound=True)
    nothing = Estimate(
        None,
        reason=f"{int(truth.sum())} members and {int((~truth).sum())} non-members are too few distinct rows to "
        "fit a threshold on some and judge it on others",
    )
    rates = Rates(nothing, nothing, nothing, nothing, nothing)
    return Decision(threshold, value > tau, **vars(rates), given_correct=rates)


def _curve(trajectory: Any, truth: Bools) -> tuple[CurvePoint, ...]:
    if trajectory is None:
        return ()
    rows = _numpy(trajectory.value, np.float64)
    return tuple(
        CurvePoint(int(labels), _ranking(row, truth)) for labels, row in zip(trajectory.checkpoints, rows, strict=True)
    )
