"""One plain training loop, for shadow models and for targets of our own; and the augmentation of the paper's authors.

The same model, rows, recipe and seed give the same bytes on the same machine at the same number of threads. Nothing
global is left changed: shuffling and augmentation have generators of their own, dropout runs under a forked one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelleaks.core.progress import beat
from labelleaks.core.rng import seed_from
from labelleaks.errors import InputError, nearest
from labelleaks.models.architectures import seeded
from labelleaks.models.networks import Inputs

__all__ = ["Augment", "Epoch", "Label", "Recipe", "train"]

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(rows (m, *shape), a CPU generator) -> other rows of the same shape; asked for every batch of every epoch."""
Label = Callable[[Tensor], Tensor]
"""Rows (m, *shape) as they will be trained on -> int64 (m,) labels, in place of the given ones."""


@dataclass(frozen=True)
class Recipe:
    """Recipe of a training. Cross-entropy, fresh shuffle each epoch.

    Args:
        epochs: passes over the rows, at least 1.
        lr: learning rate, above 0.
        batch: rows per step, at least 2. Batches of one epoch differ by one row at most, so none is left with one row.
        optimizer: ``"adam"`` or ``"sgd"``.
        momentum: of SGD, 0 to below 1.
        weight_decay: L2 penalty, 0 or more.
        schedule: ``"constant"``, or ``"cosine"`` down to 0 over all steps.
        stop_at_interpolation: stop after the first epoch in which every row was classified right when it came by.

    Raises:
        InputError: a value out of its range.

    ``Recipe(epochs=200)`` is the schedule of Li & Zhang's code (Adam, 1e-3, batch 128, 200 epochs, constant).
    """

    epochs: int = 30
    lr: float = 1e-3
    batch: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    stop_at_interpolation: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"Recipe: epochs must be at least 1, got {self.epochs}")
        if self.batch < 2:
            raise InputError(f"Recipe: batch must be at least 2, got {self.batch}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"Recipe: lr must be positive and finite, got {self.lr}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"Recipe: weight_decay must be 0 or more and finite, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"Recipe: momentum must be 0 to below 1, got {self.momentum}")
        for name, value, choices in (
            ("optimizer", self.optimizer, ("adam", "sgd")),
            ("schedule", self.schedule, ("constant", "cosine")),
        ):
            if value not in choices:
                raise InputError(f"Recipe: unknown {name} {value!r}{nearest(str(value), choices)}")


@dataclass(frozen=True)
class Epoch:
    """Loss and accuracy of one pass over the rows; each row is judged before the step that it causes."""

    number: int
    """1 … epochs"""
    loss: float
    """Mean cross-entropy."""
    accuracy: float
    """Share of rows classified as labelled."""


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    recipe: Recipe | None = None,
    *,
    seed: int,
    augment: Augment | None = None,
    label: Label | None = None,
    progress: Callable[[Epoch], Any] | None = None,
) -> nn.Module:
    """Train ``model`` on (x, y) and return it in eval mode.

    Args:
        model: (m, *shape) -> logits (m, K). Moved to ``x``'s device and changed.
        x: float32 (n, *shape), n >= 1. Not changed.
        y: int64 (n,), 0 … K - 1; None only with ``label``.
        recipe: None: ``Recipe()``.
        seed: decides the shuffles, the augmentation and dropout; initial weights are the model's own.
        augment, label: called for each batch, in this order.
        progress: told after each epoch.

    Raises:
        InputError: no rows, labels that do not match, or a loss that is no longer finite.
    """
    recipe = recipe or Recipe()
    if len(x) == 0 or (y is None and label is None) or (y is not None and len(y) != len(x)):
        raise InputError(f"training: {len(x)} rows and {'no' if y is None else len(y)} labels")
    model.to(x.device).train()
    for layer in model.modules():
        if isinstance(layer, Inputs):
            layer.fit(x)
    shuffle = torch.Generator().manual_seed(seed_from(seed, "shuffle"))
    noise = torch.Generator().manual_seed(seed_from(seed, "augment"))
    count = math.ceil(len(x) / recipe.batch)
    optimizer, schedule = _optimizer(model, recipe, count * recipe.epochs)

    # An attack may run without gradients; a model is trained with them all the same.
    with seeded(seed_from(seed, "dropout")), torch.enable_grad():
        for number in range(1, recipe.epochs + 1):
            losses: list[Tensor] = []  # of the batches, and what is right in them: read once an epoch, not once a step,
            hits: list[Tensor] = []  # since a GPU stops for each number that it is asked for
            for rows in torch.randperm(len(x), generator=shuffle).to(x.device).tensor_split(count):
                xb = x[rows] if augment is None else augment(x[rows], noise)
                yb = label(xb) if label is not None else y[rows]  # type: ignore[index]
                loss, logits = _step(model, xb, yb, optimizer)
                schedule.step()
                losses.append(loss * len(rows))
                hits.append((logits.argmax(1) == yb).sum())
                beat()
            right = int(torch.stack(hits).sum())
            epoch = Epoch(number, sum(torch.stack(losses).tolist()) / len(x), right / len(x))
            if not math.isfinite(epoch.loss):
                raise InputError(
                    f"training diverged in epoch {number} (loss {epoch.loss}): lower the recipe's lr, now {recipe.lr:g}"
                )
            if progress is not None:
                progress(epoch)
            if recipe.stop_at_interpolation and right == len(x):
                break
    return model.eval()


def _step(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
    """Step down the loss of a batch; return the loss and the logits (m, K) from before the step."""
    m = len(x)
    if m == 1:  # batch norm needs two
        x, y = x.repeat(2, *[1] * (x.dim() - 1)), y.repeat(2)
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach(), logits.detach()[:m]


def _optimizer(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    parameters = list(model.parameters())
    if recipe.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )

    def factor(step: int) -> float:
        return 1.0 if recipe.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / steps))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
