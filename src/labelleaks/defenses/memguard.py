"""MemGuard, as far as it can go: posteriors say which class, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MemGuard", "memguard"]

MARGIN = 0.001
"""What the predicted class has above its equal share."""


class MemGuard(nn.Module):
    """Stands before a classifier and changes every posterior, never the label.

    The predicted class gets 1 / K + 0.001, the others share the rest equally. So whoever sees posteriors learns the
    label alone, and whoever sees labels alone notices nothing. (The original adds the least noise that fools an attack
    model of the defender's and keeps the label; this is the limit of it, without a bound on the noise.)

    Args:
        model: (m, *shape) -> (m, K) outputs of which the largest is the label, K >= 2.

    Called with (m, *shape) it returns (m, K): logarithms of the posteriors, so that both argmax and softmax of them are
    right.

    Source: Jia et al., CCS 2019 (1909.10594), and the idealised form in the code of Li & Zhang 2007.15528.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x)
        return memguard(outputs)


def memguard(outputs: Tensor) -> Tensor:
    """Return what :class:`MemGuard` makes of outputs (m, K), K >= 2: log-posteriors of the same shape and dtype."""
    classes = outputs.shape[1]
    most = 1 / classes + MARGIN
    even = torch.full_like(outputs, (1 - most) / (classes - 1))
    return even.scatter(1, outputs.argmax(1, keepdim=True), most).log()
