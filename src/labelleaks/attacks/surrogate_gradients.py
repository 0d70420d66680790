"""Inputs crafted with reference models: losses of an ensemble, gradients that transfer, steps inside a domain.

Nothing here asks the target. All of it is row by row, bit for bit: sums over a row go by
:func:`labelleaks.core.batch_invariant.row_sums`, everything else is elementwise or a reference model's block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from labelleaks.core import rng
from labelleaks.core.batch_invariant import row_max, row_sums
from labelleaks.core.domains import Domain, image_layout
from labelleaks.core.types import Candidates
from labelleaks.models import reference_models
from labelleaks.models.shadow_model import ShadowModel

__all__ = [
    "Gradient",
    "Moves",
    "confidence",
    "cross_entropy",
    "ensemble_gradient",
    "mean_logits",
    "nats",
    "smoothed",
    "softmax",
    "transferable",
]

Gradient = Callable[[Tensor, Tensor], Tensor]
"""inputs (k, *shape), labels (k,) -> gradient of a loss (k, *shape)."""

_SHRUNK = 0.9  # the smallest side of a diverse input, as a part of the whole
_DRAWS = 4  # uniform numbers for one diverse input


def mean_logits(ensemble: Sequence[ShadowModel], x: Tensor) -> Tensor:
    """Return the mean of the models' logits: float64 (k, K). The models have the same classes."""
    total: Tensor | float = 0.0
    for model in ensemble:
        total = total + reference_models.logits(model, x).to(torch.float64)
    assert isinstance(total, Tensor)
    return total / len(ensemble)


def softmax(logits: Tensor) -> Tensor:
    """Softmax of each row: float64 (k, K), bits independent of k."""
    shifted = (logits.to(torch.float64) - row_max(logits.to(torch.float64))[:, None]).exp()
    return shifted / row_sums(shifted)[:, None]


def confidence(ensemble: Sequence[ShadowModel], x: Tensor, y: Tensor) -> Tensor:
    """Return the posterior of y under the softmax of the models' mean logits: float64 (k,), 0 … 1."""
    return softmax(mean_logits(ensemble, x)).gather(1, y[:, None])[:, 0]


def nats(model: ShadowModel, x: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of one model's posteriors and y: float64 (k,), 0 or more."""
    z = reference_models.logits(model, x).to(torch.float64)
    z = z - row_max(z)[:, None]
    return row_sums(z.exp()).log() - z.gather(1, y[:, None])[:, 0]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each row, (k,), in nats: an ``of`` for :func:`labelleaks.models.reference_models.gradient`."""
    return F.cross_entropy(logits, y, reduction="none")


def ensemble_gradient(ensemble: Sequence[ShadowModel], x: Tensor, y: Tensor) -> Tensor:
    """Return d/dx of the cross-entropy of the models' *mean logits* and y: float32 (k, *shape).

    It is the mean of the gradients of w · logits_m, with w = softmax(mean logits) - onehot(y) held fixed.
    """
    weight = softmax(mean_logits(ensemble, x))
    weight.scatter_add_(1, y[:, None], weight.new_full((len(y), 1), -1.0))
    weight = weight.to(torch.float32)

    def pull(logits: Tensor, rows: Tensor) -> Tensor:
        return (logits * weight[rows]).sum(1)

    return reference_models.gradient(ensemble, x, torch.arange(len(x), device=x.device), pull)


@dataclass(frozen=True, eq=False)
class Moves:
    """Steps inside a domain. A position z is a relaxed input; what is sent is its projection.

    Where features are continuous a step goes by the sign of the direction and stays within ``radius`` (L∞, in spans) of
    x. Elsewhere nothing can move a little: the one feature that the direction pulls most, of those that can still go
    there, moves by ``step`` spans, and it flips when its z has come halfway.

    Args:
        domain: of the inputs.
        shape: of one row.
    """

    domain: Domain
    shape: tuple[int, ...]

    @classmethod
    def of(cls, candidates: Candidates) -> Moves:
        """In the domain of the candidates."""
        return cls(candidates.domain, candidates.shape)

    @property
    def gradual(self) -> bool:
        """Whether an input can move a little."""
        return self.domain.continuous

    def span(self, device: torch.device) -> Tensor:
        """float32 (1, *shape)"""
        return self.domain.span(self.shape)[None].to(device)

    def within(self, x: Tensor, z: Tensor, radius: float) -> Tensor:
        """Return z moved to at most ``radius`` spans from x, and where gradual to the bounds (not to levels)."""
        reach = radius * self.span(x.device)
        z = torch.minimum(torch.maximum(z, x - reach), x + reach)
        if not self.gradual:
            return z
        low, high = (end.to(x.device) for end in self.domain.bounds(self.shape))
        return torch.minimum(torch.maximum(z, low), high)

    def signed(self, x: Tensor, z: Tensor, direction: Tensor, *, step: float, radius: float) -> Tensor:
        """Take one step of ``step`` spans from z along ``direction`` (k, *shape); see the class."""
        span = self.span(x.device)
        if self.gradual:
            return self.within(x, z + step * span * direction.sign(), radius)
        favour = (direction * span).flatten(1)
        low, high = (end.reshape(1, -1).to(x.device) for end in self._ends())
        flat = z.flatten(1)
        room = torch.where(favour > 0, high - flat, flat - low) > 1e-3 * span.flatten(1)
        top = (favour.abs() * room).argmax(1, keepdim=True)
        way = step * span.flatten(1).expand_as(flat).gather(1, top) * favour.gather(1, top).sign()
        moved = flat.scatter_add(1, top, way)
        return torch.minimum(torch.maximum(moved, low), high).reshape(z.shape)

    def _ends(self) -> tuple[Tensor, Tensor]:
        """Return the bounds of relaxed features, float32 (width,) each; a category may overtake the one that is set."""
        low, high = (end.flatten().clone() for end in self.domain.bounds(self.shape))
        for group in self.domain.groups(self.shape):
            if group.kind == "one_hot":
                high[group.columns] = 1.5
        return low, high


def transferable(
    gradient: Gradient,
    domain: Domain,
    shape: tuple[int, ...],
    *,
    diversity: float,
    smooth: bool,
) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """Make a gradient that transfers better: (inputs, labels, streams (k,), draw number) -> gradient.

    Images only, elsewhere it is ``gradient`` itself:

    * diverse inputs (DI, Xie et al. 2019): with probability ``diversity`` the gradient is taken at the picture shrunk
      to a random 0.9 … 1 of its side and put at a random place, low values around it, and carried back through that;
    * smoothing (TI, Dong et al. 2019): the gradient is convolved with a Gaussian, 7 pixels to each side of its middle
      for 299 pixels, 2 at least: see :func:`smoothed`.
    """
    layout = image_layout(shape, domain.layout) if domain.continuous else None
    if layout is None:
        return lambda x, y, streams, number: gradient(x, y)
    low = domain.bounds(shape)[0][None]

    def made(x: Tensor, y: Tensor, streams: Tensor, number: int) -> Tensor:
        if diversity > 0:
            draws = rng.uniform(streams, _DRAWS, first=_DRAWS * number)
            floor = low.to(x.device)
            with torch.enable_grad():
                free = x.detach().clone().requires_grad_()
                seen = _from_pictures(_shrunk(_pictures(free - floor, layout), draws, diversity), layout, shape) + floor
            (found,) = torch.autograd.grad(seen, free, gradient(seen.detach(), y))
        else:
            found = gradient(x, y)
        return smoothed(found, domain, 7 / 299, least=2) if smooth else found

    return made


def _pictures(x: Tensor, layout: str) -> Tensor:
    """Rows as (k, C, H, W)."""
    if layout == "hw":
        return x[:, None]
    return x.permute(0, 3, 1, 2).contiguous() if layout == "hwc" else x


def _from_pictures(pictures: Tensor, layout: str, shape: tuple[int, ...]) -> Tensor:
    if layout == "hwc":
        pictures = pictures.permute(0, 2, 3, 1)
    return pictures.reshape(-1, *shape).contiguous()


def _shrunk(pictures: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Shrink and move the pictures whose first draw is below ``probability``; zeros come in from outside."""
    side = _SHRUNK + (1 - _SHRUNK) * draws[:, 1]
    side = torch.where(draws[:, 0] < probability, side, 1.0)
    height, width = pictures.shape[2:]
    axes = []
    for length, place in ((height, draws[:, 2]), (width, draws[:, 3])):
        middle = (1 - side) * (2 * place - 1)  # of the shrunk picture, in coordinates from -1 to 1
        here = (2 * torch.arange(length, device=pictures.device) + 1).to(torch.float32) / length - 1
        axes.append((here[None, :] - middle[:, None]) / side[:, None])
    down, right = axes
    grid = torch.stack(torch.broadcast_tensors(right[:, None, :], down[:, :, None]), 3).contiguous()
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def smoothed(x: Tensor, domain: Domain, share: float, *, least: int = 0) -> Tensor:
    """Convolve continuous pictures with a separable Gaussian, term by term; zeros outside. Other rows stay as they are.

    Args:
        x: float32 (k, *shape).
        share: three standard deviations, as a part of each side.
        least: the same in pixels, at least.
    """
    shape = tuple(x.shape[1:])
    layout = image_layout(shape, domain.layout) if domain.continuous else None
    if layout is None:
        return x
    pictures = _pictures(x, layout)
    for axis in (2, 3):
        reach = max(least, round(share * pictures.shape[axis]))
        if reach == 0:
            continue
        weights = [math.exp(-0.5 * (3 * i / reach) ** 2) for i in range(-reach, reach + 1)]
        padding = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
        padded = F.pad(pictures, padding)
        total = torch.zeros_like(pictures)
        for i, weight in enumerate(weights):
            term = padded.narrow(axis, i, pictures.shape[axis]) * (weight / sum(weights))
            total = total + term
        pictures = total
    return _from_pictures(pictures, layout, shape)
