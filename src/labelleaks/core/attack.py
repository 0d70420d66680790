"""The contract of an attack: what the adversary knows, what an attack costs, and what it has to have."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from labelleaks.core.types import Candidates, Scores
from labelleaks.errors import LabelLeaksError

if TYPE_CHECKING:
    from labelleaks.core.oracle.label_oracle import LabelOracle
    from labelleaks.engine import Engine

__all__ = ["About", "Attack", "Cost", "Knowledge", "ShadowRows", "missing_members", "prepared", "run"]


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
    """The adversary's knowledge. An attack names in ``needs`` the fields without which it refuses."""

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
    prepared: Mapping[str, Any] = field(default_factory=dict)
    """What the attack's ``prepare`` made for its ``score``, by names of its choice; empty before. Shards are sent it:
    tensors, models, whatever can be pickled."""


@dataclass(frozen=True)
class Cost:
    """Queries of an attack, known before the first."""

    least: int
    """Labels per candidate below which the attack cannot take one step: a smaller budget is refused."""
    most: int
    """Labels per candidate that it will not exceed at the given budget."""
    setup: int = 0
    """Labels billed to set-up."""


@dataclass(frozen=True)
class About:
    """Explanation of an attack for the readers of a report."""

    summary: str
    """One sentence: what it asks, and what tells members from others. Empty: nothing is said."""
    axis: str
    """What the score is, in a few words, for the axis of a chart."""
    relabels: bool = False
    """Whether its set-up buys the target's labels of the shadow rows, which attacks share: who comes first pays."""


@runtime_checkable
class Attack(Protocol):
    """A label-only membership attack: a frozen dataclass of hyperparameters with three verbs.

    A run calls ``cost`` as often as it likes, then ``prepare`` once, then ``score`` once for each part of the
    candidates, here or in another process. ``score`` reaches the target through ``oracle`` only, returns a row for
    every candidate, and gives candidate i a score that depends on candidate i, the seed and the knowledge alone.

    Every member is required. :mod:`labelleaks.testing.conformance` checks what they promise.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """Fields of Knowledge without which the attack refuses."""
    is_distance: ClassVar[bool]
    """Whether the score is a distance to the decision boundary (a threshold from random inputs makes sense)."""
    anytime: ClassVar[bool]
    """Whether a smaller budget cuts the same questions short; False: other questions, so a ladder runs it once a
    budget."""
    whole: ClassVar[bool]
    """Whether all candidates have to be scored by one call: then it is never cut into shards."""
    revision: ClassVar[int]
    """1, 2, …: raised when a change of the code changes scores."""
    about: ClassVar[About]
    """What a report says of it."""

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """Return the attack's cost for these candidates at ``budget`` labels each. Sends nothing.

        Raises:
            NeedsError, InputError: whatever would keep the attack from working and can be known before a query.
        """
        ...

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Return knowledge whose set-up is complete: ``score`` finds its set-up oracle closed.

        Buys labels of shadow rows, starts or inputs of the attack's own from ``knowledge.setup``, as many as
        ``cost(...).setup`` says, and trains models. Labels of shadow rows stay with them
        (:meth:`ShadowRows.labels`), models in ``knowledge.store``, everything else in ``knowledge.prepared``. What is
        prepared already is not bought again. An attack without set-up returns ``knowledge``.

        Args:
            candidates: for their domain, shape, classes and device. There may be none.
        """
        ...

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Attack every candidate.

        Args:
            knowledge: as ``prepare`` returned it.
        """
        ...


MEMBERS: Mapping[str, str] = {
    "name": 'name: ClassVar[str] = "yours"',
    "needs": "needs: ClassVar[frozenset[str]] = frozenset()",
    "is_distance": "is_distance: ClassVar[bool] = False",
    "anytime": "anytime: ClassVar[bool] = True",
    "whole": "whole: ClassVar[bool] = False",
    "revision": "revision: ClassVar[int] = 1",
    "about": 'about: ClassVar[About] = About("One sentence.", "what the score is")',
    "cost": "def cost(self, candidates, knowledge, budget) -> Cost",
    "prepare": "def prepare(self, knowledge, candidates, *, seed) -> Knowledge: return knowledge",
    "score": "def score(self, oracle, candidates, knowledge, *, seed) -> Scores",
}
"""The members of an attack, and what to write where one is missing."""


def missing_members(attack: object) -> tuple[str, ...]:
    """Return the members of :class:`Attack` that an object lacks, by name."""
    return tuple(member for member in MEMBERS if not hasattr(attack, member))


def prepared(attack: Attack, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
    """Return knowledge with the attack's set-up done and the set-up oracle closed behind it.

    Raises:
        LabelLeaksError: ``prepare`` returned no knowledge. What ``prepare`` raises.
    """
    ready = attack.prepare(knowledge, candidates, seed=seed)
    if not isinstance(ready, Knowledge):
        raise LabelLeaksError(
            f"{attack.name}: prepare() returned {type(ready).__name__}: return the knowledge that score() is to have"
        )
    return replace(ready, setup=ready.setup.closed(attack.name))


def run(attack: Attack, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
    """Set the attack up and score all candidates: ``prepare``, then ``score`` with a closed set-up oracle."""
    return attack.score(oracle, candidates, prepared(attack, knowledge, candidates, seed=seed), seed=seed)
