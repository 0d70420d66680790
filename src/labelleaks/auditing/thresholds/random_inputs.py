"""A threshold without any data: boundary distances of random inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from labelleaks.auditing.thresholds.base import Setting, Threshold, own_oracle, own_scores, rerun_cost, values
from labelleaks.core import rng
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.types import Candidates, Status
from labelleaks.errors import InputError, NeedsError

__all__ = ["RandomInputs"]


@dataclass(frozen=True)
class RandomInputs:
    """tau = a percentile of the boundary distances of random inputs. Needs no data at all.

    Inputs are uniform in the domain, their label is the target's own answer, and the same attack at the same budget
    moves them over the boundary. One without a start stays in, at its censored large distance.

    Args:
        percentile: 0 … 100, *ascending* as in ``numpy.percentile``: a larger one means a larger tau and fewer members.
            ("Top t %" in words would be the descending one; at 50 they agree.)
        n: number of random inputs, at least 1.

    Source: Li & Zhang 2007.15528, the perturbation-based attack's threshold without shadow data (they draw Gaussian
    images until 100 succeed and drop the others; here they are uniform in the domain and none is dropped).
    """

    percentile: float = 50.0
    n: int = 100

    name: ClassVar[str] = "random_inputs"
    needs: ClassVar[frozenset[str]] = frozenset({"distance"})

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise InputError(f"RandomInputs: percentile must be 0 to 100 (50 is the median), got {self.percentile}")
        if self.n < 1:
            raise InputError(f"RandomInputs: n must be at least 1, got {self.n}")

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        if not attack.is_distance:
            raise NeedsError(
                f"random inputs give a threshold to attacks whose score is a distance to the decision boundary; the "
                f"score of {attack.name!r} is not: use ShadowCalibrated(), HoldOut(members=..., nonmembers=...) or "
                "FixedFPR(fpr=...)"
            )
        return self.n + rerun_cost(attack, candidates, knowledge, budget, self.n)

    def fit(self, setting: Setting) -> Threshold:
        self.cost(setting.attack, setting.candidates, setting.knowledge, setting.budget)
        like = setting.candidates
        streams = rng.streams(torch.arange(self.n, device=like.device), setting.seed, "random inputs")
        uniform = rng.uniform(streams, like.width).reshape(self.n, *like.shape)
        x = like.domain.from_uniform(uniform)
        oracle = own_oracle(setting, self.name, self.n)
        owner = torch.full((self.n,), -1, dtype=torch.int64, device=like.device)
        y = oracle.query(x, owner, phase="label")
        scores = own_scores(setting, oracle, x, y)
        censored = int((scores.status == int(Status.NO_START)).sum())
        left = f"; {censored} of them had no start and count as farthest" if censored else ""
        return Threshold(
            tau=float(np.percentile(values(scores), self.percentile)),
            objective=f"percentile {self.percentile:g}",
            source=f"boundary distances of {self.n} random inputs, percentile {self.percentile:g}{left}",
            doubt=None if censored <= self.n * (1 - self.percentile / 100) else self._censored(censored),
        )

    def _censored(self, censored: int) -> str:
        return (
            f"{censored} of {self.n} random inputs had no start, so that the threshold is the distance at which a "
            "search gives up: no candidate can be farther. Give starts= (inputs of every class) or a smaller percentile"
        )

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "percentile": self.percentile, "n": self.n}
