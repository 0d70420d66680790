"""A threshold rule: copy this file, rename it, and change what tau is fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from labelleaks.auditing.thresholds import Setting, Threshold, own_oracle, own_scores, rerun_cost, values
from labelleaks.core import Attack, Candidates, Knowledge, ShadowRows
from labelleaks.errors import NeedsError


@dataclass(frozen=True)
class Yours:
    """tau = the largest score of held-out shadow rows, which are non-members.

    Source: where it comes from.
    """

    name: ClassVar[str] = "yours"
    needs: ClassVar[frozenset[str]] = frozenset({"holdout"})  # "shadow", "distance"

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        """Rows of set-up that ``fit`` sends at most; refuse here what it cannot do."""
        if holdout is None or len(holdout) == 0:
            raise NeedsError("Yours needs held-out shadow rows: give shadow=(x, y)")
        labels = len(holdout) if holdout.y is None and not holdout.labelled else 0
        return labels + rerun_cost(attack, candidates, knowledge, budget, len(holdout))

    def fit(self, setting: Setting) -> Threshold:
        """Run the attack on rows of the rule's own; the candidates' scores have no part in it."""
        rows = setting.holdout
        assert rows is not None  # cost() refused
        y = rows.labels(own_oracle(setting, self.name, 0)) if rows.y is None else rows.y
        scores = values(own_scores(setting, own_oracle(setting, self.name, len(rows)), rows.x, y))
        return Threshold(float(scores.max()), objective="no false positive", source=f"{len(rows)} held-out shadow rows")

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}
