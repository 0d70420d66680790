"""The types that everything else speaks: Candidates, Scores, Status, Knowledge, Attack, Cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from labelleaks.core import rng
from labelleaks.core.domains import Domain
from labelleaks.errors import InputError

if TYPE_CHECKING:
    from labelleaks.core.oracle.label_oracle import LabelOracle
    from labelleaks.engine import Engine

__all__ = [
    "CHECKPOINTS",
    "Attack",
    "Candidates",
    "Cost",
    "Knowledge",
    "Predict",
    "Scores",
    "ShadowRows",
    "Status",
    "Trajectory",
    "checkpoints_up_to",
]

Predict = Callable[[Tensor], Tensor]
"""(m, *shape) float32 in the domain's units, m >= 1 -> int64 (m,) predicted labels."""

CHECKPOINTS = tuple(m * 10**e for e in range(7) for m in (1, 2, 5))
"""Label counts at which an anytime attack notes its score: 1, 2, 5, 10, 20, 50, ..."""


def checkpoints_up_to(most: int) -> tuple[int, ...]:
    """Return the checkpoints below ``most``, then ``most`` itself."""
    return (*[c for c in CHECKPOINTS if c < most], most)


class Status(IntEnum):
    """How a candidate's attack ended."""

    DONE = 0
    """The attack ran to its end."""
    BUDGET = 1
    """The labels ran out; the score is the best so far (a distance is still an upper bound)."""
    NO_START = 2
    """No input with another label was found: the distance is censored, and large."""
    MISCLASSIFIED = 3
    """The target does not give the true label: ranked below every candidate that it gets right."""
    UNASKED = 4
    """The attack ran to its end on other inputs, without asking for the candidate, which may be misclassified."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows whose membership is in question. Which of them are members is not here, on purpose.

    Args:
        x: float32 (n, *shape), in the domain's units, inside the domain.
        y: int64 (n,), true labels, 0 … classes - 1.
        domain: the inputs that the target can be sent.
        classes: number of classes K.
        ids: (n,) names for people; never seeds.
    """

    x: Tensor
    y: Tensor
    domain: Domain
    classes: int
    ids: Sequence[str] = ()
    keys: Tensor = field(init=False, repr=False)
    """int64 (n,): hash of each row's content (x and y), the root of its random streams."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise InputError(f"candidates: {len(self.x)} rows but {len(self.y)} labels")
        object.__setattr__(self, "keys", rng.content_keys(self.x, self.y))
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(len(self.x))))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.x.shape[1:])

    @property
    def width(self) -> int:
        """Number of features of one row."""
        return int(np.prod(self.shape))

    @property
    def device(self) -> torch.device:
        return self.x.device

    def streams(self, seed: int, purpose: str) -> Tensor:
        """Return the int64 (n,) random streams of these candidates for ``purpose`` (see :mod:`labelleaks.core.rng`)."""
        return rng.streams(self.keys, seed, purpose)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The score of every candidate as it stood after so many labels."""

    checkpoints: tuple[int, ...]
    """Label counts, increasing."""
    value: Tensor
    """float64 (checkpoints, n); where a candidate ended earlier, its final score stays."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What an attack found. Row i belongs to candidate i; no row is ever dropped, no value is NaN or infinite."""

    value: Tensor
    """float64 (n,); higher = more likely a member."""
    status: Tensor
    """int64 (n,), values of :class:`Status`."""
    queries: Tensor
    """int64 (n,): labels that the attack needed, cached answers included."""
    trajectory: Trajectory | None = None
    details: Mapping[str, Tensor] = field(default_factory=dict)
    """Further arrays (n, ...) under names that the attack documents, e.g. ``distance_linf``, ``adversarial``."""


@dataclass(eq=False)
class ShadowRows:
    """Rows of the adversary's own, from the distribution of the target's training data.

    ``labels(setup)`` are the *target's* labels: asked for once, through the set-up oracle, then kept.
    """

    x: Tensor
    """float32 (s, *shape)"""
    y: Tensor | None = None
    """int64 (s,) true labels, where the adversary knows them."""
    _labels: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labelled(self) -> bool:
        """Whether the target's labels of these rows were bought already."""
        return self._labels is not None

    def as_labelled(self) -> ShadowRows:
        """Return these rows as if the target's labels were bought already: for planning costs, not for asking."""
        return ShadowRows(self.x, self.y, torch.zeros(len(self.x), dtype=torch.int64))

    def labels(self, setup: LabelOracle) -> Tensor:
        """Return the target's labels of these rows, int64 (s,). Billed to set-up, the first time only."""
        if self._labels is None:
            owner = torch.full((len(self.x),), -1, dtype=torch.int64, device=self.x.device)
            self._labels = setup.query(self.x, owner, phase="relabel")
        return self._labels


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What this adversary has. An attack names in ``needs`` the fields without which it refuses."""

    setup: LabelOracle
    """For queries that belong to no candidate: billed to owner -1, outside the budget per candidate."""
    shadow: ShadowRows | None = None
    starts: Tensor | None = None
    """float32 (p, *shape): a pool of inputs to start a boundary search from; never candidates."""
    family: Any = None
    """How to build a shadow model: a name, an ``nn.Module`` factory or a scikit-learn estimator; None: by shape."""
    references: int | None = None
    """How many reference models to train; None: the attack's own default."""
    store: MutableMapping[str, Any] = field(default_factory=dict)
    """Trained models by content key, shared by the attacks of one run."""
    references_dir: Path | None = None
    """A folder where trained torch models are kept between runs."""
    engine: Engine | None = None
    """Who trains the models; None: this machine."""


@dataclass(frozen=True)
class Cost:
    """What an attack will ask of the target, known before the first query."""

    least: int
    """Labels per candidate below which the attack cannot take one step: a smaller budget is refused."""
    most: int
    """Labels per candidate that it will not exceed at the given budget."""
    setup: int = 0
    """Labels billed to set-up."""


@runtime_checkable
class Attack(Protocol):
    """A label-only membership attack: a frozen dataclass of hyperparameters with one verb.

    ``score`` reaches the target through ``oracle`` only, returns a row for every candidate, and gives candidate i a
    score that depends on candidate i, the seed and the knowledge alone.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """Fields of Knowledge without which the attack refuses."""
    is_distance: ClassVar[bool]
    """Whether the score is a distance to the decision boundary (a threshold from random inputs makes sense)."""

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """Return the attack's cost for these candidates at ``budget`` labels each. Sends nothing."""
        ...

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Attack every candidate."""
        ...
