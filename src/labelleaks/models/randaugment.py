"""The random augmentation of Li & Zhang's shadow images, on batches: six operations in a row, drawn for each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from labelleaks.core.domains import Domain, Layout, image_layout, why_no_layout
from labelleaks.errors import InputError

__all__ = ["RandAugment"]

_GREY = 128 / 255
_IN_A_ROW = 6  # of 13 operations: 13 // 2
_LEVELS = 10
_FACTOR = 0.9
_SHEAR = 0.3
_TRANSLATE = 150 / 331
_LUMA = (0.299, 0.587, 0.114)

Operation = Callable[[Tensor, Tensor], Tensor]
"""pictures (k, C, H, W) in [0, 1], strength (k, 1, 1, 1) in [-1, 1] -> pictures."""


@dataclass(frozen=True, eq=False)
class RandAugment:
    """Call it with rows and a CPU generator; it returns new rows of the same shape, in the domain's units.

    Each image passes through 6 operations drawn with replacement from 13, each at one of ten levels and with a random
    sign: autocontrast, equalize (does nothing in the authors' code, so here), rotate (up to 360 degrees), solarize,
    color, posterize, contrast, brightness, sharpness, shear x and y, translate x and y; uncovered pixels become grey.

    Args:
        layout: how a row is an image.
        low: lowest value of each feature, (1, *shape); span: high - low, (1, *shape).

    Source: authors' code of Li & Zhang 2007.15528 (shadow data only). The largest strengths, where their code is not
    known: those of Cubuk et al. 1805.09501, on which theirs is modelled.
    """

    layout: Layout
    low: Tensor
    span: Tensor

    @classmethod
    def of(cls, domain: Domain, shape: Sequence[int]) -> RandAugment:
        """For images of ``shape`` in ``domain``. Raises InputError where rows of this shape are not images."""
        layout = image_layout(shape, domain.layout)
        if layout is None:
            raise InputError(f"{why_no_layout(shape, domain.layout)}; as they are they cannot be augmented")
        return cls(layout, domain.from_uniform(torch.zeros(1, *shape)), domain.span(shape)[None])

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        low, span = self.low.to(x.device), self.span.to(x.device)
        pictures = self._channels_first((x - low) / span).clamp(0, 1)
        for _ in range(_IN_A_ROW):
            which = torch.randint(len(_OPERATIONS), (len(x),), generator=generator).to(x.device)
            level = torch.randint(_LEVELS, (len(x),), generator=generator)
            sign = 1 - 2 * torch.randint(2, (len(x),), generator=generator)
            strength = (sign * level / (_LEVELS - 1)).to(x.device, x.dtype)[:, None, None, None]
            changed = pictures.clone()
            for number, operation in enumerate(_OPERATIONS):
                rows = (which == number).nonzero().reshape(-1)
                if len(rows):
                    changed[rows] = operation(pictures[rows], strength[rows])
            pictures = changed.clamp(0, 1)
        return self._as_given(pictures) * span + low

    def _channels_first(self, x: Tensor) -> Tensor:
        if self.layout == "hw":
            return x[:, None]
        return x.permute(0, 3, 1, 2) if self.layout == "hwc" else x

    def _as_given(self, pictures: Tensor) -> Tensor:
        if self.layout == "hw":
            return pictures[:, 0]
        return pictures.permute(0, 2, 3, 1) if self.layout == "hwc" else pictures


def _identity(p: Tensor, strength: Tensor) -> Tensor:
    return p


def _autocontrast(p: Tensor, strength: Tensor) -> Tensor:
    low, high = p.amin((2, 3), keepdim=True), p.amax((2, 3), keepdim=True)
    reach = high - low
    return torch.where(reach > 0, (p - low) / torch.where(reach > 0, reach, torch.ones_like(reach)), p)


def _solarize(p: Tensor, strength: Tensor) -> Tensor:
    return torch.where(p > 1 - strength.abs(), 1 - p, p)


def _posterize(p: Tensor, strength: Tensor) -> Tensor:
    step = torch.exp2(torch.round(4 * strength.abs()))  # 8 bits down to 4
    return torch.floor(torch.round(p * 255) / step) * step / 255


def _blend(base: Tensor, p: Tensor, strength: Tensor) -> Tensor:
    return base + (1 + _FACTOR * strength) * (p - base)


def _grey(p: Tensor) -> Tensor:
    if p.shape[1] != len(_LUMA):
        return p.mean(1, keepdim=True)
    return (p * p.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)


def _color(p: Tensor, strength: Tensor) -> Tensor:
    return _blend(_grey(p).expand_as(p), p, strength)


def _contrast(p: Tensor, strength: Tensor) -> Tensor:
    return _blend(_grey(p).mean((2, 3), keepdim=True).expand_as(p), p, strength)


def _brightness(p: Tensor, strength: Tensor) -> Tensor:
    return _blend(torch.zeros_like(p), p, strength)


def _sharpness(p: Tensor, strength: Tensor) -> Tensor:
    kernel = p.new_ones(3, 3)
    kernel[1, 1] = 5
    kernel = (kernel / kernel.sum()).expand(p.shape[1], 1, 3, 3)
    smooth = F.conv2d(F.pad(p, (1, 1, 1, 1), mode="replicate"), kernel, groups=p.shape[1])
    return _blend(smooth, p, strength)


def _warp(p: Tensor, matrix: tuple[tuple[Tensor | float, ...], ...]) -> Tensor:
    """Sample p where ``matrix`` (2 x 3, in coordinates from -1 to 1) points; grey outside."""
    theta = torch.zeros(len(p), 2, 3, dtype=p.dtype, device=p.device)
    for i, line in enumerate(matrix):
        for j, entry in enumerate(line):
            theta[:, i, j] = entry if isinstance(entry, float) else entry.reshape(-1)
    grid = F.affine_grid(theta, list(p.shape), align_corners=False)
    return F.grid_sample(p - _GREY, grid, mode="nearest", padding_mode="zeros", align_corners=False) + _GREY


def _rotate(p: Tensor, strength: Tensor) -> Tensor:
    angle = 2 * math.pi * strength
    ratio = p.shape[2] / p.shape[3]
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _warp(p, ((cos, -sin * ratio, 0.0), (sin / ratio, cos, 0.0)))


def _shear_x(p: Tensor, strength: Tensor) -> Tensor:
    return _warp(p, ((1.0, _SHEAR * strength, 0.0), (0.0, 1.0, 0.0)))


def _shear_y(p: Tensor, strength: Tensor) -> Tensor:
    return _warp(p, ((1.0, 0.0, 0.0), (_SHEAR * strength, 1.0, 0.0)))


def _translate_x(p: Tensor, strength: Tensor) -> Tensor:
    return _warp(p, ((1.0, 0.0, 2 * _TRANSLATE * strength), (0.0, 1.0, 0.0)))


def _translate_y(p: Tensor, strength: Tensor) -> Tensor:
    return _warp(p, ((1.0, 0.0, 0.0), (0.0, 1.0, 2 * _TRANSLATE * strength)))


_OPERATIONS: tuple[Operation, ...] = (
    _autocontrast,
    _identity,  # equalize
    _rotate,
    _solarize,
    _color,
    _posterize,
    _contrast,
    _brightness,
    _sharpness,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
