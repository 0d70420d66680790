"""A threshold from rows of known membership that are not audited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from labelleaks import metrics
from labelleaks.auditing.thresholds.base import Setting, Threshold, own_oracle, own_scores, rerun_cost, values
from labelleaks.core import rng
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError

__all__ = ["HoldOut"]


@dataclass(frozen=True, eq=False)
class HoldOut:
    """tau of best balanced accuracy on rows of known membership that are not audited.

    Args:
        members: (x, y), rows that the target was trained on.
        nonmembers: (x, y), rows that it was not. Arrays or tensors in the domain's units; labels as the user has them.

    Rows that are candidates too make the threshold an upper bound, and its source says so.

    Source: Choquette-Choo et al. 2007.14321 choose tau so; with every cut between two scores instead of a grid.
    """

    members: tuple[Any, Any]
    nonmembers: tuple[Any, Any]

    name: ClassVar[str] = "hold_out"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for side, pair in (("members", self.members), ("nonmembers", self.nonmembers)):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputError(f"HoldOut: {side} must be a pair (x, y), got {type(pair).__name__}")
            if len(pair[0]) != len(pair[1]) or len(pair[0]) == 0:
                raise InputError(f"HoldOut: {side} has {len(pair[0])} rows and {len(pair[1])} labels")

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        return rerun_cost(attack, candidates, knowledge, budget, len(self._rows(candidates)))

    def fit(self, setting: Setting) -> Threshold:
        x = self._rows(setting.candidates)
        y = torch.cat([_labels(pair[1], setting) for pair in (self.members, self.nonmembers)])
        member = np.arange(len(x)) < len(self.members[0])
        scores = values(own_scores(setting, own_oracle(setting, self.name, len(x)), x, y))
        tau = float(metrics.best_threshold(scores, member))
        audited = int(torch.isin(rng.content_keys(x, y), setting.candidates.keys).sum())
        also = f"; {audited} of them are candidates too" if audited else ""
        return Threshold(
            tau=tau,
            objective="balanced accuracy",
            source=f"hold-out of {int(member.sum())} known members and {int((~member).sum())} known non-members{also}",
            upper_bound=audited > 0,
            expected_fpr=metrics.rate(int((scores[~member] > tau).sum()), int((~member).sum())),
            nonmember_scores=None if audited else tuple(scores[~member].tolist()),
        )

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "members": len(self.members[0]), "nonmembers": len(self.nonmembers[0])}

    def _rows(self, like: Candidates) -> Tensor:
        parts = []
        for side, (x, _) in (("members", self.members), ("nonmembers", self.nonmembers)):
            rows = _tensor(x, like).to(torch.float32)
            if tuple(rows.shape[1:]) != like.shape:
                raise InputError(
                    f"HoldOut: {side} have rows of shape {tuple(rows.shape[1:])}, the candidates {like.shape}"
                )
            if not bool(torch.isfinite(rows).all()):
                raise InputError(f"HoldOut: {side} hold NaN or infinity: remove those rows")
            like.domain.check(rows, f"HoldOut {side}")
            parts.append(rows)
        return torch.cat(parts)


def _tensor(array: Any, like: Candidates) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().to(like.device)
    copied = np.array(array)  # it may be read-only
    if copied.dtype.kind not in "biuf":
        raise InputError(f"HoldOut: rows and labels must be numbers, got {copied.dtype}")
    return torch.from_numpy(copied).to(like.device)


def _labels(y: Any, setting: Setting) -> Tensor:
    if setting.encode is not None:
        return setting.encode(y).to(setting.candidates.device)
    labels = _tensor(y, setting.candidates)
    classes = setting.candidates.classes
    if labels.dtype.is_floating_point or labels.dim() != 1 or bool(((labels < 0) | (labels >= classes)).any()):
        raise InputError(f"HoldOut: labels must be whole numbers 0 to {classes - 1}, one a row")
    return labels.to(torch.int64)
