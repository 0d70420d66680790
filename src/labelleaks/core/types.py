"""Input and output of an attack: candidates, scores with a status, trajectories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from labelleaks.core import rng
from labelleaks.core.domains import Domain, Layout, image_layout
from labelleaks.errors import InputError

if TYPE_CHECKING:
    pass

__all__ = [
    "CHECKPOINTS",
    "Candidates",
    "Predict",
    "Scores",
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
    """End of a candidate's attack."""

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
    def layout(self) -> Layout | None:
        """Image layout of a row; None where it is no picture, or where neither its shape nor the user tells."""
        return image_layout(self.shape, self.domain.layout)

    @property
    def device(self) -> torch.device:
        """Device of the rows."""
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
    """Scores of an attack. Row i belongs to candidate i; no row is ever dropped, no value is NaN or infinite."""

    value: Tensor
    """float64 (n,); higher = more likely a member."""
    status: Tensor
    """int64 (n,), values of :class:`Status`."""
    queries: Tensor
    """int64 (n,): labels that the attack needed, cached answers included."""
    trajectory: Trajectory | None = None
    details: Mapping[str, Tensor] = field(default_factory=dict)
    """Further arrays (n, ...) under names that the attack documents, e.g. ``distance_linf``, ``adversarial``."""
