"""Result of one attack in a record: scores, statuses, labels, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks import metrics
from labelleaks.auditing.evaluation import CurvePoint, Evaluation, Ranking
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.attack import About
from labelleaks.core.serialization import OMIT_NONE
from labelleaks.errors import InputError
from labelleaks.metrics import Estimate, Roc
from labelleaks.metrics.estimates import Bools, Floats, Ints

__all__ = ["AttackResult", "short"]


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Scores of one attack and their evaluation. Rows = candidates: members as given, then non-members as given."""

    name: str
    spec: Mapping[str, Any]
    """Hyperparameters, JSON types."""
    scores: Floats
    """(n,); higher = more likely a member. Finite."""
    status: Ints
    """(n,), values of :class:`labelleaks.Status`."""
    queries: Ints
    """(n,): labels that the attack needed, cached answers included."""
    evaluation: Evaluation
    checkpoints: tuple[int, ...] = ()
    trajectory: Floats | None = None
    """(checkpoints, n): the score as it stood after so many labels."""
    details: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further arrays (n, ...) that the attack documents, e.g. ``distance_linf``, ``adversarial``."""
    about: About | None = field(default=None, metadata=OMIT_NONE)
    """What the attack says of itself, for a report; None: the record was made before attacks did."""

    @property
    def auc(self) -> Estimate:
        """Area under the ROC curve, of all candidates."""
        return self.evaluation.ranking.auc

    @property
    def tpr_at_fpr(self) -> dict[float, Estimate]:
        """By false-positive rate: 0.1, 0.01 and 0.001 are kept, any other is read off the curve when asked for.

        Raises:
            KeyError: what was asked for is no fraction between 0 and 1.
        """
        return _Rates(self.evaluation)

    def __repr__(self) -> str:
        rates = ", ".join(f"TPR@{fpr * 100:g}% {short(rate)}" for fpr, rate in self.tpr_at_fpr.items())
        n, most = len(self.scores), int(self.queries.max(initial=0))
        return f"AttackResult({self.name}: AUC {short(self.auc)}, {rates}; {n} rows, at most {most} labels)"

    @property
    def given_correct(self) -> Ranking:
        """The ranking of the candidates that the target classifies correctly."""
        return self.evaluation.given_correct

    @property
    def balanced_accuracy(self) -> Estimate:
        """Of the reported decision."""
        return self.evaluation.decisions[0].balanced_accuracy

    @property
    def advantage(self) -> Estimate:
        """TPR - FPR of the reported decision."""
        return self.evaluation.decisions[0].advantage

    @property
    def precision(self) -> Estimate:
        """Of the reported decision."""
        return self.evaluation.decisions[0].precision

    @property
    def threshold(self) -> Threshold:
        """Of the reported decision, with its source."""
        return self.evaluation.decisions[0].threshold

    @property
    def decided(self) -> Bools:
        """(n,): called a member by the reported decision."""
        return self.evaluation.decisions[0].member

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The ranking after 1, 2, 5, 10, … labels."""
        return self.evaluation.curve

    @property
    def roc(self) -> Roc:
        """ROC curve of all candidates."""
        return self.evaluation.roc


class _Rates(dict[float, Estimate]):
    """Rates by false-positive rate: those that were evaluated, and any other, read off the curve when asked for."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__(evaluation.ranking.tpr_at_fpr)
        self._evaluation = evaluation

    def __missing__(self, fpr: float) -> Estimate:
        ranking = self._evaluation.ranking
        if ranking.auc.value is None:  # one group is empty: no rate has a value, for the reason that the AUC has none
            return ranking.auc
        try:
            return metrics.tpr_at_fpr(*_ranked(self._evaluation.roc, ranking), fpr)
        except (InputError, TypeError):
            raise KeyError(
                f"no TPR at a false-positive rate of {fpr!r}: a fraction between 0 and 1 is needed, 0.05 for 5 %"
            ) from None


def _ranked(roc: Roc, ranking: Ranking) -> tuple[Ints, Bools]:
    """Scores and membership of candidates that are ranked as the curve says: all that a rate hangs on."""
    members = np.rint(np.diff(roc.tpr) * ranking.members).astype(np.int64)
    nonmembers = np.rint(np.diff(roc.fpr) * ranking.nonmembers).astype(np.int64)
    group = -np.arange(len(members))
    scores = np.concatenate([np.repeat(group, members), np.repeat(group, nonmembers)])
    return scores, np.arange(len(scores)) < ranking.members


def short(estimate: Estimate) -> str:
    """Return three digits, or a dash where there is no value."""
    return "–" if estimate.value is None else f"{estimate.value:.3f}"
