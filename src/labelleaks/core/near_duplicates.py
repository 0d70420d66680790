"""Near-duplicates: rows of the same record, rounded, re-encoded or with a little noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from labelleaks.core import rng
from labelleaks.core.domains import Domain, is_binary, token_columns
from labelleaks.core.similar_texts import nearest_alike

__all__ = ["NEAR", "nearly_equal", "texts_of"]

NEAR = 0.2
"""Nearly equal: closer than this fraction of the typical distance between neighbours."""

_TYPICAL_ROWS = 1000
_SCREEN = 64  # directions, found from
_SCREEN_ROWS = 256  # rows
_SLACK = 1e-6  # of the longest row; rounding of squares in float64 comes to some 1e-7 of it
_VALUES = 1 << 22  # numbers held at a time in comparisons: 32 MB of float64
_TABLE = 1 << 24  # the same for the rows that are all compared with each other


def nearly_equal(x: Tensor, others: Tensor, domain: Domain) -> Tensor:
    """Return whether rows of ``x`` are equal or nearly equal to a row of ``others``: bool (s,).

    With every feature divided by its span in the domain, two rows are nearly equal if their L2 distance is at most NEAR
    (0.2) times the typical distance of a row of ``x`` to the nearest row of ``x`` that differs from it: the median over
    at most 1,000 rows, chosen by content. Such a pair is far closer than two draws of the distribution are. The rule
    has no unit and fits itself to the number of features: a fixed tolerance per feature would call honest neighbours
    equal in a table with two columns, and miss a JPEG copy of a picture.

    Where all features are bits (``Binary``), and where ``x`` has no two different rows, only equal rows count: a record
    that differs in one bit is another record.

    Texts are compared by :func:`labelleaks.core.similar_texts.nearest_alike`; columns beside them have to be equal.

    Exact: the screen by a few principal directions only spares comparisons. Memory is bounded: a chunk of both, never
    all pairs.

    Args:
        x: float32 (s, *shape), in the domain's units.
        others: float32 (n, *shape).
        domain: for the span of each feature.
    """
    if len(x) == 0 or len(others) == 0:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    others = others.to(x.device)
    near = torch.isin(rng.content_keys(x + 0.0), rng.content_keys(others + 0.0))  # + 0.0: -0 equals 0
    if is_binary(domain, tuple(x.shape[1:])):
        return near
    if bool(token_columns(domain, x.shape[1:]).any()):
        return near | _alike(x, others, domain)
    span = domain.span(x.shape[1:]).reshape(-1).to(x.device, torch.float64)
    tolerance = _typical_distance(x, span) * NEAR
    left = (~near).nonzero().reshape(-1)
    near[left] = _within(x[left], others, span, tolerance)
    return near


def _alike(x: Tensor, others: Tensor, domain: Domain) -> Tensor:
    """Whether the texts of a row are nearly those of another, and everything else is equal: bool (s,)."""
    mine, theirs = texts_of(x, domain), texts_of(others, domain)
    place = nearest_alike(mine, theirs)
    near = torch.from_numpy(place >= 0).to(x.device)
    rest = ~token_columns(domain, x.shape[1:]).to(x.device)
    if bool(rest.any()):
        near = near & (x[:, rest] == others[torch.from_numpy(place).to(x.device)][:, rest]).all(1)
    return near


def texts_of(x: Tensor, domain: Domain) -> list[str]:
    """Return the texts of each row (n, *shape) of a domain that has some, those of several columns side by side."""
    x = x.flatten(1)
    groups = [group for group in domain.groups(x.shape[1:]) if group.vocabulary is not None]
    parts = [group.vocabulary.decode(x[:, group.columns].cpu().numpy()) for group in groups if group.vocabulary]
    return [" ".join(texts) for texts in zip(*parts, strict=True)]


def _typical_distance(x: Tensor, span: Tensor) -> float:
    """Median distance of a shadow row to the nearest that differs from it; 0 where all rows are equal."""
    keys = rng.content_keys(x + 0.0).cpu().numpy()
    first = np.unique(keys, return_index=True)[1]  # of equal rows the first, in the order of their hashes
    most = min(_TYPICAL_ROWS, max(2, _TABLE // len(span)))
    rows = _scaled(x[torch.from_numpy(first[:most]).to(x.device)], span)
    if len(rows) < 2:
        return 0.0
    squares = rows.square().sum(1)
    apart = squares[:, None] + squares[None, :] - 2 * rows @ rows.T
    apart.fill_diagonal_(float("inf"))
    nearest = apart.argmin(1)  # found quickly, then measured without the cancellation
    return float((rows - rows[nearest]).square().sum(1).sqrt().median())


def _within(x: Tensor, others: Tensor, span: Tensor, tolerance: float) -> Tensor:
    """Return whether rows of ``x`` lie within ``tolerance`` of a row of ``others``: bool (s,)."""
    near = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if tolerance == 0 or len(x) == 0:
        return near
    directions = _directions(others, span)
    cast = _cast(others, span, directions)
    longest = float(cast.norm(dim=1).max())
    rows_at_once = max(1, _VALUES // max(len(others), len(span)))
    for start in range(0, len(x), rows_at_once):
        rows = x[start : start + rows_at_once]
        own = _cast(rows, span, directions)
        # Distances along orthonormal directions are never larger than the whole distance. By a product of matrices they
        # are ten times as fast and off by their cancellation, which is below the slack.
        close = torch.cdist(own, cast, compute_mode="use_mm_for_euclid_dist")
        slack = _SLACK * max(longest, float(own.norm(dim=1).max()))
        pairs = (close <= tolerance + slack).nonzero()
        for part in pairs.split(max(1, _VALUES // len(span))):
            apart = (_scaled(rows[part[:, 0]], span) - _scaled(others[part[:, 1]], span)).square().sum(1).sqrt()
            near[start + part[apart <= tolerance, 0]] = True
    return near


def _directions(x: Tensor, span: Tensor) -> Tensor | None:
    """Orthonormal directions along which the rows differ most, float64 (width, 64); None: all of them."""
    if len(span) <= _SCREEN:
        return None
    rows = _scaled(x[:_SCREEN_ROWS], span)
    v: Tensor = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2]
    return v[:_SCREEN].T.contiguous()


def _cast(x: Tensor, span: Tensor, directions: Tensor | None) -> Tensor:
    if directions is None:
        return _scaled(x, span)
    return torch.cat([_scaled(part, span) @ directions for part in x.split(max(1, _VALUES // len(span)))])


def _scaled(x: Tensor, span: Tensor) -> Tensor:
    return x.flatten(1).to(torch.float64) / span
