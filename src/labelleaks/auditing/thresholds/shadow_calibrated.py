"""A threshold from a simulation on shadow rows: the whole attack on a stand-in target."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from labelleaks import metrics
from labelleaks.auditing.thresholds.base import Setting, Threshold, own_oracle, own_scores, values
from labelleaks.core import rng
from labelleaks.core.attack import Attack, Knowledge, ShadowRows, prepared
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import shadow_training
from labelleaks.models.training import Recipe

_LEAST_SHADOW = 50  # rows below which a simulated target, its members and its non-members mean nothing

__all__ = ["ShadowCalibrated"]


@dataclass(frozen=True)
class ShadowCalibrated:
    """tau of best balanced accuracy in a simulation: the whole attack, on a stand-in target with known members.

    Shadow rows are dealt by content into three parts: the stand-in target is trained on A, so A's rows are members and
    B's are not; C is what the simulated attacker knows. An attack that needs no shadow rows leaves C to A and B.
    Labels are the true ones where they are known, since the target learned such, and else the target's, bought once a
    run; everything else happens here and costs nothing. The stand-in should overfit as the target does: say how many
    rows that was trained on, and how, where it is known.

    Args:
        train_rows: rows to train the stand-in on, at most; None: all of A.
        recipe: how it is trained (torch families); None: ``Recipe()``.
        most: rows that are scored on each side, at most. Which rows: chosen by content.

    Source: calibration on one's own shadow model, as in Choquette-Choo et al. 2007.14321 and Salem et al. 1806.01246.
    """

    train_rows: int | None = None
    recipe: Recipe | None = None
    most: int = 300

    name: ClassVar[str] = "shadow_calibrated"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    _SHARE_ATTACKER: ClassVar[float] = 0.4
    _SHARE_NONMEMBERS: ClassVar[float] = 1 / 3
    """Of what is left to A and B."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise InputError(f"ShadowCalibrated: most must be at least 1, got {self.most}")
        if self.train_rows is not None and self.train_rows < 5:
            raise InputError(f"ShadowCalibrated: train_rows must be at least 5, got {self.train_rows}")

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        rows = 0 if knowledge.shadow is None else len(knowledge.shadow)
        if knowledge.shadow is None or rows < _LEAST_SHADOW:
            raise NeedsError(
                f"ShadowCalibrated needs at least {_LEAST_SHADOW} shadow rows to train a stand-in target, got {rows}: "
                "give shadow=(x,), or use RandomInputs (distances only) or HoldOut"
            )
        return 0 if knowledge.shadow.y is not None or knowledge.shadow.labelled else rows

    def fit(self, setting: Setting) -> Threshold:
        knowledge = setting.knowledge
        self.cost(setting.attack, setting.candidates, knowledge, setting.budget)
        shadow = knowledge.shadow
        assert shadow is not None
        x = shadow.x
        y = shadow.labels(own_oracle(setting, self.name, 0)) if shadow.y is None else shadow.y
        a, b, c = self._parts(x, setting)
        if min(len(a), len(b)) < 5:
            raise NeedsError(
                f"ShadowCalibrated: {len(x)} shadow rows hold too few distinct ones to part members from non-members: "
                "remove repeated rows or give more"
            )
        a = a[: self.train_rows]
        classes, seed = setting.candidates.classes, setting.seed
        gate = Gate(shadow_training.stand_in(x[a], y[a], classes, knowledge, seed=seed, recipe=self.recipe))
        simulated = replace(
            knowledge,
            setup=gate.setup_oracle(setting.name),
            shadow=ShadowRows(x[c]) if len(c) else None,
        )
        scored = torch.cat([a[: self.most], b[: self.most]])
        member = np.arange(len(scored)) < min(len(a), self.most)
        like, attack = setting.candidates, setting.attack
        ready = prepared(attack, simulated, like, seed=seed)
        there = replace(setting, gate=gate, knowledge=simulated, prepared=ready, holdout=None)
        scores = values(own_scores(there, own_oracle(there, self.name, len(scored)), x[scored], y[scored]))
        tau = float(metrics.best_threshold(scores, member))
        whose = "the target's" if shadow.y is None else "their true"
        return Threshold(
            tau=tau,
            objective="balanced accuracy",
            source=f"a simulated target trained on {len(a)} shadow rows with {whose} labels; "
            f"{int(member.sum())} of its members and {int((~member).sum())} non-members scored",
            expected_fpr=metrics.rate(int((scores[~member] > tau).sum()), int((~member).sum())),
        )

    def describe(self) -> dict[str, Any]:
        recipe = None if self.recipe is None else asdict(self.recipe)
        return {"name": self.name, "train_rows": self.train_rows, "recipe": recipe, "most": self.most}

    def _parts(self, x: Tensor, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of parts A, B, C, each in the order of a hash of the rows' content."""
        streams = rng.streams(rng.content_keys(x), setting.seed, "shadow calibrated")
        where = rng.uniform(streams, 1)[:, 0]  # by content: equal rows share a part
        attacker = self._SHARE_ATTACKER if "shadow" in setting.attack.needs else 0.0
        outside = (1 - attacker) * self._SHARE_NONMEMBERS
        order = torch.argsort(streams, stable=True)
        where = where[order]
        c, b = where < attacker, (where >= attacker) & (where < attacker + outside)
        return order[~(b | c)], order[b], order[c]
