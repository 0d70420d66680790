"""Input and output of flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from labelleaks.auditing.evaluation import Evaluation, PairComparison
from labelleaks.core.attack import Knowledge
from labelleaks.core.types import Candidates
from labelleaks.metrics import Estimate

__all__ = ["AttackEvidence", "Evidence", "Flag", "Severity", "ShadowEvidence"]

Severity = Literal["info", "warning", "serious"]


@dataclass(frozen=True)
class Flag:
    """One reason to doubt, or to read with care."""

    name: str
    severity: Severity
    raised_because: str
    """What was found, with figures."""
    meaning: str
    what_to_do: str


class AttackEvidence(Protocol):
    """Members of an attack's result that flags read; :class:`labelleaks.AttackResult` has them."""

    @property
    def status(self) -> NDArray[np.int64]: ...
    @property
    def queries(self) -> NDArray[np.int64]: ...
    @property
    def evaluation(self) -> Evaluation: ...


@dataclass(frozen=True)
class ShadowEvidence:
    """Shadow rows of a run, as far as flags read them."""

    rows: int
    labels: int
    """How many different labels they have."""
    classes: int

    @classmethod
    def of(cls, knowledge: Knowledge, classes: int) -> ShadowEvidence | None:
        """Return what is known of them; None: there are none, or nobody asked for a label of theirs."""
        shadow = knowledge.shadow
        known = None if shadow is None else shadow.y if shadow._labels is None else shadow._labels
        return None if known is None else cls(len(known), len(known.unique()), classes)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A finished audit, as far as flags read it."""

    candidates: Candidates
    member: NDArray[np.bool_]
    attacks: Mapping[str, AttackEvidence]
    comparisons: Sequence[PairComparison] = ()
    class_names: Sequence[str] = ()
    probed: int = 0
    """Rows that the target was asked for twice before the run."""
    changed: int = 0
    """How many of them got another label the second time."""
    noise_asked: int = 0
    """Candidates whose noise was measured: each was sent twice."""
    noise_changed: int = 0
    """How many of them got two different labels."""
    one_label: bool = False
    """All rows of the probe got the same label."""
    seed: int = 0
    shadow: ShadowEvidence | None = None
    """Shadow rows that models were trained on; None: no attack of the run uses any."""

    def class_name(self, code: int) -> str:
        """The user's name of a class."""
        return str(self.class_names[code]) if code < len(self.class_names) else str(code)


def interval(estimate: Estimate) -> str:
    """Return value and interval for a sentence."""
    if estimate.value is None:
        return f"unknown ({estimate.reason})"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
