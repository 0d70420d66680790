"""Spaces of a search's probes: the whole space, or the smooth images of QEBA's resize and DCT subspaces.

Source: Li et al., "QEBA: Query-Efficient Boundary-Based Blackbox Attack", CVPR 2020 (arXiv 2005.14137), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from labelleaks.core.domains import Word, image_layout, image_size, why_no_layout
from labelleaks.errors import InputError

__all__ = ["Smooth", "Space", "Subspace", "Whole", "space"]

Subspace = Literal["resize", "dct"]
_GRID = 2.0**11  # the maps' entries are multiples of 1 / _GRID, so that their sums are exact in float64


class Space(Protocol):
    """A linear map from (n, width) coordinates to rows (n, d); exact, so the bits of a row do not depend on n."""

    width: int
    """Number of coordinates."""
    length: float
    """Root mean square length of a lifted vector of ±1."""
    norm: float
    """The most by which the map stretches a vector."""

    def lift(self, coordinates: Tensor) -> Tensor:
        """Map whole-number coordinates, float32 (n, width), to rows: float32 (n, d)."""
        ...

    def lower(self, rows: Tensor) -> Tensor:
        """Return the transposed map of rows on a grid (``batch_invariant.to_grid``): float32 (n, width)."""
        ...


class Whole:
    """All of the input space."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.length = math.sqrt(width)
        self.norm = 1.0

    def lift(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def lower(self, rows: Tensor) -> Tensor:
        return rows


class Smooth:
    """Images made from fewer coordinates by one matrix along the height and one along the width, for each channel.

    Args:
        channels: C.
        high, wide: float64 (H, h) and (W, w).
        last: whether a pixel's channels are neighbours in a row, as in (H, W, C).
    """

    def __init__(self, channels: int, high: Tensor, wide: Tensor, *, last: bool) -> None:
        self._channels, self._last = channels, last
        self._high, self._wide = (torch.round(m * _GRID) / _GRID for m in (high, wide))
        self.width = self._channels * self._high.shape[1] * self._wide.shape[1]
        self.length = math.sqrt(self._channels) * float(self._high.norm() * self._wide.norm())
        self.norm = float(torch.linalg.matrix_norm(self._high, 2) * torch.linalg.matrix_norm(self._wide, 2))

    def lift(self, coordinates: Tensor) -> Tensor:
        rows = self._apply(coordinates, self._high, self._wide)
        return rows.reshape(len(rows), self._channels, -1).mT.flatten(1) if self._last else rows

    def lower(self, rows: Tensor) -> Tensor:
        if self._last:
            rows = rows.reshape(len(rows), -1, self._channels).mT.flatten(1)
        return self._apply(rows, self._high.T, self._wide.T)

    def _apply(self, rows: Tensor, high: Tensor, wide: Tensor) -> Tensor:
        high, wide = high.to(rows.device), wide.to(rows.device)
        planes = rows.to(torch.float64).reshape(-1, high.shape[1], wide.shape[1])
        return (high @ (planes @ wide.T)).reshape(len(rows), -1).to(torch.float32)


def _bilinear(size: int, factor: int) -> Tensor:
    """(size, ⌈size / factor⌉): linear interpolation between the centres of ``factor`` cells, flat at the ends."""
    small = -(-size // factor)
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) / factor - 0.5).clamp(0, small - 1)
    left = at.floor().to(torch.int64).clamp(max=max(small - 2, 0))
    share = at - left
    made = torch.zeros(size, small, dtype=torch.float64)
    rows = torch.arange(size)
    made[rows, left] += 1 - share
    made[rows, (left + 1).clamp(max=small - 1)] += share
    return made


def _cosines(size: int, factor: int) -> Tensor:
    """(size, ⌈size / factor⌉): the lowest frequencies of the orthonormal DCT."""
    small = -(-size // factor)
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    waves = torch.cos(math.pi * place[:, None] * torch.arange(small, dtype=torch.float64)[None, :])
    waves[:, 0] /= math.sqrt(2.0)
    return waves * math.sqrt(2.0 / size)


def space(shape: Sequence[int], subspace: Subspace | None, factor: int, word: Word | None = None) -> Space:
    """Return the space in which a search probes rows of ``shape``.

    Args:
        shape: of a row; an image for a subspace.
        subspace: ``"resize"`` (bilinear), ``"dct"``, or None for the whole space.
        factor: by how much height and width shrink; QEBA and Li & Zhang use 2 on 32×32 images.
        word: the user's, on how a row is an image.

    Raises:
        InputError: a subspace was asked for and the rows are not images of at least ``factor`` rows and columns.
    """
    if subspace is None:
        return Whole(math.prod(shape))
    layout = image_layout(shape, word)
    if layout is None:
        raise InputError(
            f"boundary: subspace={subspace!r} needs images: {why_no_layout(shape, word)}; or leave subspace out"
        )
    channels, height, width = image_size(shape, layout)
    if min(height, width) < factor:
        raise InputError(
            f"boundary: subspace={subspace!r} needs images with sides of at least {factor}, got rows of shape "
            f"{tuple(shape)}: leave subspace out"
        )
    make = _bilinear if subspace == "resize" else _cosines
    return Smooth(channels, make(height, factor), make(width, factor), last=layout == "hwc")
