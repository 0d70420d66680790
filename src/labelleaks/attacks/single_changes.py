"""Single changes of a row: the other values of each feature, and how much one change alone raises an objective.

Which changes exist is one function, :meth:`SingleChanges.others`, with a branch for each kind of feature group. What a
change gains is another: :meth:`SingleChanges.first_order` predicts it by a gradient, and :meth:`SingleChanges.measured`
asks reference models for the changed rows, for families that have no gradient (trees).
:meth:`SingleChanges.best` joins the two. Nothing here asks the target, and all of it is row by row, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelleaks.attacks.words import Words
from labelleaks.core.attack import Knowledge
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.domains import Domain, Group
from labelleaks.core.types import Candidates
from labelleaks.errors import NeedsError
from labelleaks.models import architectures, reference_models
from labelleaks.models.shadow_model import Objective, ShadowModel

__all__ = ["MOST_FEATURES", "NUMBER_STEP", "SingleChanges", "need_directions", "slopes"]

MOST_FEATURES = 1024
"""Features of a row that can be changed one by one."""

NUMBER_STEP = 2.0
"""Step of a number, in its scale. One, two and four were alike on digits as a table."""

_VALUES_AT_A_TIME = 1 << 22
"""Features of changed rows that are held at a time (16 MB)."""

Gain = Callable[[Tensor], Tensor]
"""other values (m, d) -> (m, d): how much each of them alone, put into its row, raises an objective"""
RowObjective = Callable[[Tensor, Tensor], Tensor]
"""(rows (k, d), the places in z that they were made of (k,)) -> objective (k,), entry i made of row i alone"""


@dataclass(frozen=True, eq=False)
class SingleChanges:
    """Changes of one feature of flat rows z (m, d) at a time."""

    groups: tuple[Group, ...]
    scale: Tensor
    """float32 (d,): what the steps of numbers are measured in; a feature whose scale is 0 stays"""

    @classmethod
    def of(cls, domain: Domain, scale: Tensor) -> SingleChanges:
        """Those of a domain; ``scale`` is float32 (*shape)."""
        return cls(domain.groups(scale.shape), scale.flatten())

    def others(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return two values that each feature can take instead: (m, d) each, its own value where there are no more.

        A bit flips, a category of a one-hot group is chosen, a word is left out, a number goes ``NUMBER_STEP`` scales
        up or down.
        """
        first, second = z.clone(), z.clone()
        for group in self.groups:
            columns = group.columns
            block = z[:, columns]
            if group.kind == "one_hot":
                first[:, columns] = 1.0
            elif group.kind == "token":
                first[:, columns] = Words((group,)).each_left_out(z)[:, columns]
            elif group.kind == "binary":
                first[:, columns] = group.low + group.high - block
            else:
                first[:, columns], second[:, columns] = _moved(group, block, NUMBER_STEP * self.scale[columns])
        return first, second

    def best(self, z: Tensor, gain: Gain) -> tuple[Tensor, Tensor]:
        """Return each feature's value that gains most, and its gain: (m, d) each; -inf where no change exists."""
        value, most = z.clone(), torch.full_like(z, -math.inf)
        for other in self.others(z):
            here = torch.where(other != z, gain(other), -math.inf)
            value = torch.where(here > most, other, value)
            most = torch.maximum(most, here)
        return value, most

    def first_order(self, z: Tensor, slope: Tensor) -> Gain:
        """Return the gain that a gradient (m, d) at z predicts; -inf where a number would go against it."""
        slope = slope.clone()
        for columns in self._choices():
            hot = z[:, columns].argmax(1, keepdim=True)  # the category that is given up
            slope[:, columns] -= slope[:, columns].gather(1, hot)
        numbers = self._numbers()

        def gain(other: Tensor) -> Tensor:
            change = other - z
            return torch.where(numbers & (slope.sign() * change <= 0), -math.inf, slope * change)

        return gain

    def measured(self, z: Tensor, free: Tensor, ask: RowObjective) -> Gain:
        """Return the gain that the objective itself shows at each changed row.

        Args:
            free: bool (m, d): the features whose changes are asked for; the gain of others is -inf.
        """
        own = ask(z, torch.arange(len(z), device=z.device))
        most = max(1, _VALUES_AT_A_TIME // z.shape[1])

        def gain(other: Tensor) -> Tensor:
            gains = torch.full_like(z, -math.inf)
            rows, columns = (free & (self.scale > 0) & (other != z)).nonzero(as_tuple=True)
            for row, column in zip(rows.split(most), columns.split(most), strict=True):
                if len(row):
                    there = ask(self.made(z[row], column, other[row, column]), row)
                    gains[row, column] = (there - own[row]).to(z.dtype)
            return gains

        return gain

    def made(self, z: Tensor, column: Tensor, value: Tensor) -> Tensor:
        """Return rows z (k, d) with the feature ``column`` (k,) at ``value`` (k,); no other category stays set."""
        z = z.clone()
        for columns in self._choices():
            z[_inside(columns, column), columns] = 0.0
        z[torch.arange(len(z), device=z.device), column] = value
        return z

    def without(self, free: Tensor, column: Tensor) -> Tensor:
        """Return ``free`` (k, d) less the feature ``column`` (k,), and less its whole group where that is a choice."""
        free = free.scatter(1, column[:, None], False)
        for columns in self._choices():
            free[_inside(columns, column), columns] = False
        return free

    def slope(self, z: Tensor, ask: RowObjective) -> Tensor:
        """Return differences in place of a gradient, (m, d): :meth:`first_order` of them is what was measured.

        A feature's slope is the gain of its best change over the change's length: 0 where no change of a number gains,
        and of a category relative to the one that is set.
        """
        value, gain = self.best(z, self.measured(z, torch.ones_like(z, dtype=torch.bool), ask))
        usable = torch.isfinite(gain) & ~(self._numbers() & (gain <= 0))
        slope: Tensor = torch.where(usable, gain / torch.where(usable, value - z, 1.0), 0.0)
        return slope

    def _choices(self) -> list[slice]:
        return [group.columns for group in self.groups if group.kind == "one_hot"]

    def _numbers(self) -> Tensor:
        """Return where numbers stand, bool (d,)."""
        number = torch.zeros_like(self.scale, dtype=torch.bool)
        for group in self.groups:
            number[group.columns] = group.kind in ("continuous", "integer")
        return number


def _inside(columns: slice, column: Tensor) -> Tensor:
    inside: Tensor = (column >= columns.start) & (column < columns.stop)
    return inside


def _moved(group: Group, block: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return numbers a step up, and a step down, within their bounds."""
    low, high = (torch.as_tensor(end, dtype=block.dtype, device=block.device) for end in (group.low, group.high))
    if group.kind == "integer":
        step = step.round().clamp_min(1)
    up, down = (torch.minimum(torch.maximum(moved, low), high) for moved in (block + step, block - step))
    return up, down


def slopes(
    models: Sequence[ShadowModel], x: Tensor, y: Tensor, of: Objective, *, changes: SingleChanges, falling: bool = False
) -> Tensor:
    """Return d/dx of the mean over ``models`` of ``of``(logits, y): float32 (n, *shape).

    Where a model has no gradient these are differences (:meth:`SingleChanges.slope`), which hold in the direction in
    which ``of`` rises; where it falls, if ``falling``.
    """
    if all(model.differentiable for model in models):
        return reference_models.gradient(models, x, y, of)
    sign = -1 if falling else 1
    return sign * changes.slope(x.flatten(1), mean_objective(models, x, y, of, sign=sign)).reshape(x.shape)


def mean_objective(
    models: Sequence[ShadowModel], x: Tensor, y: Tensor, of: Objective, *, sign: int = 1
) -> RowObjective:
    """Return ``sign`` times the mean over ``models`` of ``of``(logits, y), for flat rows made of x (n, *shape)."""

    def ask(rows: Tensor, place: Tensor) -> Tensor:
        points, labels = rows.reshape(-1, *x.shape[1:]), y[place]
        return sign * mean_of([of(model.logits(points).to(torch.float64), labels) for model in models])

    return ask


def need_directions(attack: str, candidates: Candidates, knowledge: Knowledge) -> None:
    """Refuse references without gradients for rows too wide to be changed one feature at a time: before any label.

    Raises:
        NeedsError: naming the family and the width.
    """
    if candidates.width <= MOST_FEATURES or Words.of(candidates.domain, candidates.shape) is not None:
        return
    model = architectures.build(knowledge.family, candidates.shape, candidates.classes, seed=0)
    if not isinstance(model, nn.Module):
        raise NeedsError(
            f"{attack}: {type(model).__name__} has no gradient, so features are changed one at a time, "
            f"{MOST_FEATURES} at most, and rows have {candidates.width}: use a torch family, family='mlp', "
            "family='cnn' or a function that makes an nn.Module"
        )
