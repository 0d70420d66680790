"""The contract of a domain: which inputs exist, how they may move, and how far apart they are.

A domain speaks of inputs of shape (n, *shape), float32, in the *domain's units*: the units in which the candidates
are given and the distances are reported. Every query of every attack goes through :meth:`Domain.project`. An attack
asks a domain what it may do (``continuous``, ``bounds``, ``groups``), never which class it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from labelleaks.core.domains.layout import Word
from labelleaks.errors import InputError

if TYPE_CHECKING:
    from labelleaks.core.domains.text import Vocabulary

__all__ = ["Domain", "Group", "Kind", "Norm", "check_range", "diameter_of", "distance", "is_binary", "token_columns"]

Norm = Literal["l0", "l1", "l2", "linf"]
Kind = Literal["continuous", "integer", "binary", "one_hot", "token"]
_TOLERANCE = 1e-6  # of the range: what float32 arithmetic on the client's side may have added


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbouring features of one kind, and how they move.

    Features of a ``"continuous"``, ``"integer"`` or ``"binary"`` group move one by one; of a ``"one_hot"`` group
    exactly one is 1 and the others are 0, so they move together. Those of a ``"token"`` group are positions of a text,
    each with the code of a word or none: a word stays or is taken out, and no other moves into its place.
    """

    kind: Kind
    columns: slice
    """Of the flattened row, with start and stop."""
    low: float | Tensor = 0.0
    high: float | Tensor = 1.0
    """Bounds of the group's features: a number for all, or float32 (features,)."""
    step: float = 0.0
    """The largest distance between neighbouring values, 0 where any float32 is allowed; 1 unless said of integers."""
    vocabulary: Vocabulary | None = None
    """Of a ``"token"`` group: the words that codes stand for."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"Group: kind={self.kind!r}: one of {', '.join(get_args(Kind))} is needed")
        if not (isinstance(self.columns.start, int) and isinstance(self.columns.stop, int)):
            raise InputError(f"Group: columns={self.columns}: a slice with start and stop is needed")
        if self.kind == "integer" and self.step == 0:
            object.__setattr__(self, "step", 1.0)
        if (self.kind == "token") != (self.vocabulary is not None):
            raise InputError(f"Group: kind={self.kind!r}: a vocabulary belongs to a token group, and to no other")

    @property
    def width(self) -> int:
        """Number of features."""
        found: int = self.columns.stop - self.columns.start
        return found


@runtime_checkable
class Domain(Protocol):
    """The set of inputs that a target can be sent. ``docs/domains.md`` shows how to write one."""

    @property
    def continuous(self) -> bool:
        """Whether every feature can move a little, so that points on a line between inputs are, nearly, inputs.

        Attacks search such a domain along straight lines and smooth curves, and project what they send. In any other
        they change groups of features one at a time.
        """
        ...

    @property
    def layout(self) -> Word | None:
        """The user's word on how a row is a picture, sequence or volume (:data:`layout.Word`); None: by its shape.

        Read by :func:`labelleaks.core.domains.layout.image_layout` alone.
        """
        ...

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value of each feature that can be sent: float32 of ``shape`` each."""
        ...

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        """Return the groups of features, in order, which together are all columns of a flattened row."""
        ...

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest input of the domain, feature by feature: same shape, dtype, device; a new tensor.

        Finite rows beyond the bounds are brought in. Row i of the result depends on row i alone.
        """
        ...

    def check(self, x: Tensor, what: str) -> None:
        """Raise InputError where rows of ``x`` lie outside the domain; ``what`` names them in the message."""
        ...

    def from_uniform(self, u: Tensor) -> Tensor:
        """Turn uniform draws in [0, 1), (n, *shape), into uniformly random inputs of the domain."""
        ...

    def span(self, shape: Sequence[int]) -> Tensor:
        """Return high - low for each feature: float32 of ``shape``."""
        ...

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        """Return the largest distance between two inputs: the value of a censored distance."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a record needs to say about this domain: ``"kind"``, its name, and settings; JSON types only."""
        ...


def is_binary(domain: Domain, shape: Sequence[int]) -> bool:
    """Whether every feature is 0 or 1, each on its own."""
    return all(group.kind == "binary" for group in domain.groups(shape))


def token_columns(domain: Domain, shape: Sequence[int]) -> Tensor:
    """Return which features of a flattened row are positions of a text: bool (features,)."""
    groups = domain.groups(shape)
    found = torch.zeros(groups[-1].columns.stop, dtype=torch.bool)
    for group in groups:
        found[group.columns] = group.kind == "token"
    return found


def distance(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """Distance of each row of ``a`` to the same row of ``b``: float64 (n,), in the domain's units.

    L0 counts the features that differ. Source: the plain Lp norms of the flattened difference, as the paper uses
    them (Li & Zhang, perturbation-based attack).
    """
    difference = (a.to(torch.float64) - b.to(torch.float64)).reshape(len(a), -1)
    if norm == "l0":
        return (difference != 0).sum(1).to(torch.float64)
    if norm == "l1":
        return difference.abs().sum(1)
    if norm == "l2":
        return difference.square().sum(1).sqrt()
    return difference.abs().amax(1)


def diameter_of(span: Tensor, norm: Norm) -> float:
    """Return the distance of two inputs that differ by ``span``, float32 of a row's shape."""
    zero = torch.zeros_like(span)[None]
    return float(distance(span[None], zero, norm)[0])


def check_range(x: Tensor, low: Tensor, high: Tensor, what: str) -> None:
    """Check rows ``x`` (n, *shape) against bounds that broadcast to them.

    Raises:
        InputError: with the worst value and where it is.
    """
    slack = _TOLERANCE * (high - low)
    outside = (x < low - slack) | (x > high + slack)
    if not bool(outside.any()):
        return
    excess = torch.maximum(low - x, x - high)
    worst = int(excess.reshape(-1).argmax())
    rows = int(outside.reshape(len(x), -1).any(1).sum())
    row, feature = divmod(worst, x[0].numel())
    raise InputError(
        f"{what}: {rows} of {len(x)} rows have values outside the domain; the worst is "
        f"{x.reshape(-1)[worst].item():g} at row {row}, feature {feature}, allowed "
        f"[{low.expand_as(x).reshape(-1)[worst].item():g}, {high.expand_as(x).reshape(-1)[worst].item():g}]: "
        "give the right domain (for example Box(0, 255)) or rescale the data"
    )
