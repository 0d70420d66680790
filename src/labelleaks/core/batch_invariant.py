"""Arithmetic whose bits do not depend on the batch.

Libraries choose the order of a sum, and whether a product is rounded before it is added, by the shape of the whole
batch. A search that compares sums would then give a candidate another score beside other candidates. So here: sums
over a row go by halves, elementwise; products are rounded before they are added (one operation a line); and what is
summed by a matrix product is made of whole numbers below 2²⁴, whose sums are exact in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from labelleaks.core.domains import Norm

__all__ = ["distances", "mean_of", "reject", "row_max", "row_sums", "to_grid", "unit"]


def row_sums(terms: Tensor) -> Tensor:
    """Sum each row of (n, d), d >= 1, by halves: (n,), bits independent of n."""
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        paired = terms[:, :half] + terms[:, half : 2 * half]
        terms = paired if terms.shape[1] % 2 == 0 else torch.cat([paired, terms[:, -1:]], 1)
    return terms[:, 0]


def row_max(terms: Tensor) -> Tensor:
    """Largest of each row of (n, d): exact, whatever the order."""
    return terms.amax(1)


def mean_of(terms: Sequence[Tensor] | Tensor) -> Tensor:
    """Return the mean of several tensors of one shape, or of one over its first axis, added one after the other."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total / len(terms)


def distances(a: Tensor, b: Tensor, norm: Norm, counted: Tensor | None = None) -> Tensor:
    """As :func:`labelleaks.core.domains.distance`, for flat rows (n, d): float64 (n,), bits independent of n.

    ``counted``: bool (d,), features whose values are names: where they differ, they differ by 1. None: none of them.
    """
    difference = a.to(torch.float64) - b.to(torch.float64)
    if counted is not None:
        difference = torch.where(counted, (a != b).to(torch.float64), difference)
    if norm == "l0":
        return row_sums((difference != 0).to(torch.float64))
    if norm == "l1":
        return row_sums(difference.abs())
    if norm == "l2":
        return row_sums(difference.square()).sqrt()
    return row_max(difference.abs())


def unit(rows: Tensor) -> Tensor:
    """Scale each row of (n, d) to length 1; a row of zeros stays."""
    length = row_sums(rows.to(torch.float64).square()).sqrt()
    inverse = torch.where(length > 0, 1.0 / length.clamp_min(1e-300), 0.0)
    return (rows.to(torch.float64) * inverse[:, None]).to(rows.dtype)


def reject(rows: Tensor, axis: Tensor) -> Tensor:
    """Take from each row of (n, d) its part along the unit vector ``axis`` (n, d)."""
    along = row_sums(rows.to(torch.float64) * axis.to(torch.float64)).to(rows.dtype)
    part = along[:, None] * axis
    return rows - part


def to_grid(rows: Tensor, length: float) -> Tensor:
    """Round rows (n, d) of at most ``length`` (L2) so that sums of ± their entries are exact in float32.

    The entries become multiples of a power of two, and the sum of their absolute values, at most √d ``length``, stays
    below 2²³ multiples.
    """
    most = math.sqrt(rows.shape[1]) * max(length, 1e-30)
    scale = 2.0 ** math.floor(math.log2((1 << 23) / most))
    return torch.round(rows * scale) / scale
