"""A threshold some standard deviations above what non-members score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from labelleaks.auditing.thresholds import Setting, Threshold, own_oracle, own_scores, rerun_cost, values
from labelleaks.core import Attack, Candidates, Knowledge, ShadowRows
from labelleaks.errors import InputError, NeedsError

__all__ = ["Deviations"]


@dataclass(frozen=True)
class Deviations:
    """tau = mean + ``count`` standard deviations of the attack's scores on held-out shadow rows.

    They are non-members: neither the target nor any reference model was trained on them.

    Args:
        count: how many standard deviations, any finite number.

    Source: this package; FixedFPR is the rule with a guarantee.
    """

    count: float = 2.0

    name: ClassVar[str] = "deviations"
    needs: ClassVar[frozenset[str]] = frozenset({"holdout"})

    def __post_init__(self) -> None:
        if not abs(self.count) < 100:
            raise InputError(f"Deviations: count={self.count}: a number between -100 and 100 is needed")

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        rows = self._enough(holdout)
        labels = len(rows) if rows.y is None and not rows.labelled else 0
        return labels + rerun_cost(attack, candidates, knowledge, budget, len(rows))

    def fit(self, setting: Setting) -> Threshold:
        rows = self._enough(setting.holdout)
        y = rows.labels(own_oracle(setting, self.name, 0)) if rows.y is None else rows.y
        scores = values(own_scores(setting, own_oracle(setting, self.name, len(rows)), rows.x, y))
        return Threshold(
            tau=float(scores.mean() + self.count * scores.std()),
            objective=f"mean + {self.count:g} standard deviations",
            source=f"{len(rows)} held-out shadow rows",
        )

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "count": self.count}

    def _enough(self, holdout: ShadowRows | None) -> ShadowRows:
        if holdout is None or len(holdout) < 2:
            raise NeedsError("Deviations needs at least 2 held-out shadow rows: give shadow=(x,) or more of it")
        return holdout
