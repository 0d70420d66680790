"""Metrics of scores and decisions against membership: pure functions with intervals that hold.

Everything hangs on the order of the scores alone, so that scores may be huge, tiny or mostly equal. A tie group moves
as a whole. Intervals are two-sided, 95 % unless ``level`` says otherwise, and speak about this target and the
population that the candidates were drawn from. How each is made, and its measured coverage: ``docs/statistics.md``.

Throughout: ``scores`` (n,) real, finite, higher = more likely a member; ``member`` (n,) bool; ``decided`` (n,) bool,
True = called a member. Every function raises :class:`~labelleaks.errors.InputError` for NaN or infinite scores, arrays
that do not match, and an empty group. No result depends on the order of the rows, bit for bit.
"""

from __future__ import annotations

from labelleaks.metrics.decisions import (
    advantage,
    balanced_accuracy,
    best_threshold,
    called_at_fdr,
    conformal_p_values,
    conformal_threshold,
    precision,
    precision_at_prior,
    rate,
)
from labelleaks.metrics.epsilon import (
    CorrectedGuesses,
    EpsilonBound,
    FixedGuesses,
    SplitGuesses,
    epsilon_many_runs,
    epsilon_of_scores,
    epsilon_one_run,
)
from labelleaks.metrics.estimates import Comparison, Estimate, Roc
from labelleaks.metrics.operating_point import tpr_at_fpr
from labelleaks.metrics.ranking import auc, compare_auc, holm, roc

__all__ = [
    "Comparison",
    "CorrectedGuesses",
    "EpsilonBound",
    "Estimate",
    "FixedGuesses",
    "Roc",
    "SplitGuesses",
    "advantage",
    "auc",
    "balanced_accuracy",
    "best_threshold",
    "called_at_fdr",
    "compare_auc",
    "conformal_p_values",
    "conformal_threshold",
    "epsilon_many_runs",
    "epsilon_of_scores",
    "epsilon_one_run",
    "holm",
    "precision",
    "precision_at_prior",
    "rate",
    "roc",
    "tpr_at_fpr",
]
