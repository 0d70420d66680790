"""A threshold for a stated false-positive rate: a conformal quantile of held-out shadow rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from labelleaks import metrics
from labelleaks.auditing.thresholds.base import Setting, Threshold, own_oracle, own_scores, rerun_cost, values
from labelleaks.core import rng
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError, NeedsError

__all__ = ["FixedFPR"]


@dataclass(frozen=True)
class FixedFPR:
    """tau that calls a non-member a member with probability ``fpr`` at most: a conformal quantile.

    Held-out shadow rows are non-members: neither the target nor any reference model was trained on them. With n of
    them, P(score of a fresh non-member > tau) <= fpr over the draw of both, for any n and any distribution, provided
    that they come from the distribution of the non-members.

    Args:
        fpr: false-positive rate, above 0 and below 1. Needs 1/fpr - 1 rows (99 for 1 %).
        n: how many held-out rows to score, chosen by content; None: all.

    Where the true labels of the held-out rows are not known the target's own are used. No row is then misclassified,
    tau can only be higher, and the guarantee holds with room to spare.

    Source: split conformal prediction (Vovk et al. 2005; the finite-sample quantile of Lei et al. 1604.04173).
    """

    fpr: float = 0.01
    n: int | None = None

    name: ClassVar[str] = "fixed_fpr"
    needs: ClassVar[frozenset[str]] = frozenset({"holdout"})

    def __post_init__(self) -> None:
        if not 0 < self.fpr < 1:
            raise InputError(f"FixedFPR: fpr must be above 0 and below 1 (0.01 is 1 %), got {self.fpr}")
        if self.n is not None and self.n < self.least:
            raise InputError(f"FixedFPR: fpr={self.fpr:g} needs at least {self.least} rows, got n={self.n}")

    @property
    def least(self) -> int:
        """Number of non-members below which no finite tau can promise this FPR."""
        return max(1, math.ceil(1 / self.fpr - 1 - 1e-9))

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        rows = self._count(holdout)
        assert holdout is not None
        relabelled = len(holdout) if holdout.y is None and not holdout.labelled else 0
        return relabelled + rerun_cost(attack, candidates, knowledge, budget, rows)

    def fit(self, setting: Setting) -> Threshold:
        held, rows = setting.holdout, self._count(setting.holdout)
        assert held is not None
        y = held.labels(own_oracle(setting, self.name, 0)) if held.y is None else held.y
        streams = rng.streams(rng.content_keys(held.x), setting.seed, "fixed fpr")
        chosen = torch.argsort(streams, stable=True)[:rows]
        oracle = own_oracle(setting, self.name, rows)
        scores = values(own_scores(setting, oracle, held.x[chosen], y[chosen]))
        whose = "the target's own" if held.y is None else "their true"
        tau = float(metrics.conformal_threshold(scores, self.fpr))
        return Threshold(
            tau=tau,
            objective=f"FPR of at most {self.fpr:.4g}",
            source=f"conformal quantile of {rows} held-out shadow rows with {whose} labels",
            expected_fpr=metrics.Estimate(float((scores > tau).mean()), 0.0, self.fpr),
            doubt=self._too_coarse(scores),
            nonmember_scores=tuple(scores.tolist()),
        )

    def _too_coarse(self, scores: NDArray[np.float64]) -> str | None:
        """Return a doubt where more rows than may pass share the highest score."""
        tied = int((scores == scores.max()).sum())
        if tied <= self.fpr * (len(scores) + 1):
            return None
        enough = min(math.ceil(100 * (tied + 1) / (len(scores) + 1)) / 100, 0.99)
        return (
            f"{tied} of {len(scores)} held-out rows share the highest score, {scores.max():g}, and no more than "
            f"{self.fpr:.4g} of them may pass: a candidate has to score above it, which this attack may never give. "
            f"Use fpr={enough:g} or more, more labels, or an attack with finer scores"
        )

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "fpr": self.fpr, "n": self.n}

    def _count(self, holdout: ShadowRows | None) -> int:
        rows = 0 if holdout is None else len(holdout)
        if rows < self.least:
            raise NeedsError(
                f"FixedFPR(fpr={self.fpr:g}) needs at least {self.least} held-out shadow rows, there are {rows}: give "
                f"more shadow rows or a larger fpr{f' (at least {1 / (rows + 1):.2g})' if rows else ''}"
            )
        return rows if self.n is None else min(rows, self.n)
