"""Contract of threshold rules: the threshold, what a rule may use, how it runs the attack on rows of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.serialization import OMIT_NONE
from labelleaks.core.types import Candidates, Scores
from labelleaks.errors import InputError
from labelleaks.metrics import Estimate

__all__ = ["Setting", "Threshold", "ThresholdRule", "own_oracle", "own_scores", "rerun_cost", "values"]


@dataclass(frozen=True)
class Threshold:
    """Member iff score > ``tau``."""

    tau: float
    objective: str
    """What tau was chosen for, e.g. ``"balanced accuracy"``."""
    source: str
    """What tau was fitted on, for people."""
    upper_bound: bool = False
    """Fitted on the audited candidates: an attacker without their membership cannot do it."""
    expected_fpr: Estimate | None = field(default=None, metadata=OMIT_NONE)
    """The share of non-members that it calls members, as the rule measured or promises it; None: it knows no
    non-members."""
    doubt: str | None = field(default=None, metadata=OMIT_NONE)
    """Why it may serve for nothing, as far as the rule can see."""
    nonmember_scores: tuple[float, ...] | None = field(default=None, repr=False, metadata=OMIT_NONE)
    """Scores of the known non-members that the rule scored, none of them a candidate; None: it scored none. A record
    leaves them out."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.tau):
            raise InputError(f"a threshold must be finite, got {self.tau} from {self.source}")
        object.__setattr__(self, "tau", float(self.tau) + 0.0)  # never -0.0, which prints as "-0"


@dataclass(frozen=True, eq=False)
class Setting:
    """All that a rule may use."""

    attack: Attack
    name: str
    """Of the attack in this run: what the rule sends is billed under it."""
    gate: Gate
    candidates: Candidates
    """For shape, domain, classes and device. Their keys tell whether a row is audited; nothing is fitted on them."""
    knowledge: Knowledge
    """What the attack knows before its set-up: for a rule that sets it up anew, against another target."""
    prepared: Knowledge
    """What it knows after: its set-up was done once, for the candidates and for every rule."""
    holdout: ShadowRows | None
    """Shadow rows that no shadow or reference model trained on."""
    budget: int
    """Labels per row, as for the candidates."""
    seed: int
    encode: Callable[[Any], Tensor] | None = None
    """Turns the user's labels into 0 … K - 1, int64; None: they are that already."""


@runtime_checkable
class ThresholdRule(Protocol):
    """A way to choose tau: a frozen dataclass with two verbs."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """``"shadow"`` and ``"holdout"``: what the run must have put aside for it; ``"distance"``: it makes sense only for
    attacks whose score is a distance, and is left out for the others."""

    def cost(
        self,
        attack: Attack,
        candidates: Candidates,
        knowledge: Knowledge,
        budget: int,
        holdout: ShadowRows | None = None,
    ) -> int:
        """Return the set-up rows that ``fit`` sends at most. Sends nothing.

        Raises:
            NeedsError, InputError: whatever would keep ``fit`` from working and can be known before.
        """
        ...

    def fit(self, setting: Setting) -> Threshold:
        """Choose tau. Depends on the setting and its seed alone."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return name and hyperparameters (JSON types only)."""
        ...


def rerun_cost(attack: Attack, candidates: Candidates, knowledge: Knowledge, budget: int, rows: int) -> int:
    """Rows that one more run of the attack, on ``rows`` rows, sends at most; it is set up by then."""
    return rows * attack.cost(candidates, knowledge, budget).most


def own_oracle(setting: Setting, rule: str, rows: int) -> LabelOracle:
    """A view billed to set-up, with an account of the full budget for each of the rule's own rows."""
    return setting.gate.setup_oracle(f"{setting.name}.{rule}", rows, setting.budget)


def own_scores(setting: Setting, oracle: LabelOracle, x: Tensor, y: Tensor) -> Scores:
    """The same attack on rows of the rule's own."""
    rows = Candidates(x=x, y=y, domain=setting.candidates.domain, classes=setting.candidates.classes)
    return setting.attack.score(oracle, rows, setting.prepared, seed=setting.seed)


def values(scores: Scores) -> NDArray[np.float64]:
    """float64 (n,): the scores, for :mod:`labelleaks.metrics`."""
    return scores.value.detach().cpu().numpy().astype(np.float64)
