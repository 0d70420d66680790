"""A trained shadow model: logits, posteriors, labels and gradients of rows, each with the same bits in any company.

Rows are evaluated in blocks of :data:`BLOCK`, the last one filled up: with a fixed shape a library chooses a fixed
order of summation, and what is left is the place in the block. Most kernels treat all places alike; those that do not
(MKL's, for matrices 5 or 7 wide) are found by a trial on rows that are moved about, and the model is then asked row by
row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labelleaks.core import progress
from labelleaks.errors import InputError, NeedsError
from labelleaks.models.checkpoints import Training

__all__ = ["BLOCK", "LOG_FLOOR", "Fitted", "Network", "Objective", "ShadowModel", "log_posteriors", "table"]

BLOCK = 64
"""Rows of one evaluation, always."""

LOG_FLOOR = -99.0
"""Lowest log-probability that is reported, so that no loss is infinite; the paper's code clips a loss at 100."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""(logits (m, K), labels int64 (m,)) -> (m,), entry i made of row i alone: what a gradient is taken of."""

_BATCH = 512
_MOVES = (9, 21)  # places by which the trial moves its rows: odd, so that lanes change; far, so that remainders do


class ShadowModel(Protocol):
    """A trained shadow model: all of its posteriors, since it is the adversary's own. n >= 0 rows, any device."""

    @property
    def differentiable(self) -> bool:
        """Whether it has gradients."""
        ...

    def logits(self, x: Tensor) -> Tensor:
        """Return float32 (n, K); the log-probabilities, where the model has no logits."""
        ...

    def log_posteriors(self, x: Tensor) -> Tensor:
        """Return log-probabilities of the classes: float64 (n, K), LOG_FLOOR … 0."""
        ...

    def labels(self, x: Tensor) -> Tensor:
        """Return the most likely class of each row, int64 (n,); in batches."""
        ...

    def gradient(self, x: Tensor, y: Tensor, of: Objective) -> Tensor:
        """Return d of(logits, y) / dx: float32 (n, *shape).

        Raises:
            NeedsError: the model has no gradient.
        """
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """A torch module in eval mode, with ``classes`` outputs, for rows of ``shape``."""

    module: nn.Module
    classes: int
    shape: tuple[int, ...]
    training: Training

    differentiable = True

    def logits(self, x: Tensor) -> Tensor:
        return _in_blocks(self._ask, self.block, x) if len(x) else x.new_empty(0, self.classes)

    def log_posteriors(self, x: Tensor) -> Tensor:
        return log_posteriors(self.logits(x))

    def labels(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([self._folded(part).argmax(1) for part in x.split(_BATCH)])

    def gradient(self, x: Tensor, y: Tensor, of: Objective) -> Tensor:
        return _in_blocks(lambda rows, labels: self._slope(rows, labels, of), self.block, x, y) if len(x) else x.clone()

    @cached_property
    def block(self) -> int:
        """Rows that are evaluated together: BLOCK, or 1 where a row's bits would depend on its place."""
        rows = torch.randn(BLOCK, *self.shape, generator=torch.Generator().manual_seed(0))
        rows = rows.to(next(self.module.parameters(), rows).device)
        zeros = torch.zeros(BLOCK, dtype=torch.int64, device=rows.device)
        steady = _steady(self._ask, rows) and _steady(lambda x: self._slope(x, zeros, _first), rows)
        return BLOCK if steady else 1

    @cached_property
    def _folded(self) -> nn.Module:
        """The module with its batch norms folded into the convolutions before them: a quarter off a gradient's time."""
        if type(self.module) is not nn.Sequential:
            return self.module
        layers: list[nn.Module] = []
        for layer in self.module:
            if type(layer) is nn.BatchNorm2d and layers and type(layers[-1]) is nn.Conv2d:
                with torch.inference_mode(False):
                    one = fuse_conv_bn_eval(layers[-1], layer).requires_grad_(False)
                layers[-1] = one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            else:
                layers.append(layer)
        return nn.Sequential(*layers).eval()

    def _ask(self, rows: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self._folded(rows)
        return logits.clone()  # an ordinary tensor

    def _slope(self, rows: Tensor, labels: Tensor, of: Objective) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            rows = rows.detach().clone().requires_grad_()
            of(self._folded(rows), labels.clone()).sum().backward(inputs=[rows])
        assert rows.grad is not None
        return rows.grad


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted scikit-learn classifier; ``rows`` are some that it was fitted on, (BLOCK, *shape)."""

    estimator: Any
    classes: int
    rows: Tensor
    training: Training

    differentiable = False

    def logits(self, x: Tensor) -> Tensor:
        return self.log_posteriors(x).to(torch.float32)

    def log_posteriors(self, x: Tensor) -> Tensor:
        if len(x) == 0:
            return torch.empty(0, self.classes, dtype=torch.float64, device=x.device)
        return _in_blocks(self._ask, self.block, x)

    def labels(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self._call("predict", x), dtype=torch.int64, device=x.device)

    def gradient(self, x: Tensor, y: Tensor, of: Objective) -> Tensor:
        raise NeedsError(
            f"shadow family {type(self.estimator).__name__} has no gradient: use a torch family, "
            "family='mlp', family='cnn' or a function that makes an nn.Module"
        )

    @cached_property
    def block(self) -> int:
        """As :attr:`Network.block`."""
        return BLOCK if _steady(self._ask, self.rows) else 1

    def _ask(self, rows: Tensor) -> Tensor:
        probabilities = self._call("predict_proba", rows)
        posteriors = np.full((len(rows), self.classes), np.exp(LOG_FLOOR))
        posteriors[:, self.estimator.classes_] = np.maximum(probabilities, np.exp(LOG_FLOOR))
        if not np.isfinite(posteriors).all():
            raise InputError(f"shadow family {type(self.estimator).__name__} gives probabilities that are not finite")
        return torch.from_numpy(np.log(np.minimum(posteriors, 1.0))).to(rows.device)

    def _call(self, verb: str, rows: Tensor) -> Any:
        try:
            return getattr(self.estimator, verb)(table(rows))
        except Exception as error:  # the classifier is the user's choice: whatever it raises gets our name and its text
            raise InputError(f"shadow family {type(self.estimator).__name__}: {verb} failed: {error}") from error


def log_posteriors(logits: Tensor) -> Tensor:
    """Return the log-softmax of ``logits`` (m, K): float64 (m, K), LOG_FLOOR … 0.

    The largest one is computed as -log1p(sum of the others), which keeps telling rows apart where a model is so sure
    that its probability rounds to 1.
    """
    z = logits.to(torch.float64)
    top = z.argmax(1, keepdim=True)
    z = z - z.gather(1, top)
    others = z.exp().scatter(1, top, 0.0).sum(1, keepdim=True)
    return (z - others.log1p()).clamp(LOG_FLOOR, 0.0)


def table(x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return rows as scikit-learn takes them: float64 (n, width)."""
    return x.detach().flatten(1).cpu().numpy().astype(np.float64)


def _in_blocks(ask: Callable[..., Tensor], size: int, *rows: Tensor) -> Tensor:
    """Ask for ``size`` rows at a time, the last time filled up with copies of a row; n >= 1.

    Each block is a fresh buffer: where a row starts in memory may decide how a library sums it up.
    """
    parts = []
    for start in range(0, len(rows[0]), size):
        count = min(size, len(rows[0]) - start)
        places = torch.arange(start, start + size, device=rows[0].device).clamp_max(start + count - 1)
        parts.append(ask(*[part[places] for part in rows])[:count])
        progress.beat()
    return torch.cat(parts)


def _steady(ask: Callable[[Tensor], Tensor], rows: Tensor) -> bool:
    """Whether each row's answer keeps its bits at another place of the block and beside other rows."""

    def asked(x: Tensor) -> Tensor:
        progress.beat()
        return ask(x)

    answers = asked(rows)
    beside_others = torch.cat([rows[: BLOCK // 2], rows[:1].expand_as(rows[BLOCK // 2 :])])
    return torch.equal(asked(beside_others)[: BLOCK // 2], answers[: BLOCK // 2]) and all(
        torch.equal(asked(rows.roll(move, 0)), answers.roll(move, 0)) for move in _MOVES
    )


def _first(logits: Tensor, _: Tensor) -> Tensor:
    return logits.logsumexp(1) - logits[:, 0]
