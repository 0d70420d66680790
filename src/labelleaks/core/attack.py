"""The contract of an attack: what the adversary knows, what an attack costs, and what it has to have."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from labelleaks.core.types import Candidates, Scores

if TYPE_CHECKING:
    from labelleaks.core.oracle.label_oracle import LabelOracle
    from labelleaks.engine import Engine

__all__ = ["Attack", "Cost", "Knowledge", "ShadowRows"]


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
