"""The rows that every domain has to pass, yours included.

    from labelleaks.testing import check_domain
    check_domain(MyDomain(), (3, 32, 32))

Each row tries the domain on random rows and raises :class:`labelleaks.testing.NotConformant` with what was
expected and what was found. No test framework is needed.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor

from labelleaks.core.batch_invariant import distances
from labelleaks.core.domains import Domain, Norm, need_domain, token_columns
from labelleaks.core.domains.contract import faults
from labelleaks.errors import InputError
from labelleaks.testing.runner import NotConformant

__all__ = ["ROWS", "check_domain"]

_ROWS = 64


def check_domain(domain: Domain, shape: Sequence[int], *, seed: int = 0) -> None:
    """Run every row on inputs of ``shape``.

    Raises:
        NotConformant: with a line for each row that failed.
    """
    shape = tuple(shape)
    try:
        need_domain(domain)
        first = next(faults(domain, shape), None)
    except InputError as error:
        raise NotConformant(str(error)) from None
    broken = [] if first is None else [f"contract: {first}"]
    for name, row in ROWS.items() if first is None else ():  # the rows rely on it
        try:
            row(domain, _TestRows(domain, shape, seed))
        except NotConformant as error:
            broken.append(f"{name}: {error}")
    if broken:
        raise NotConformant("\n".join(f"{type(domain).__name__}, {line}" for line in broken))


class _TestRows:
    """Random inputs of a domain, and rows around it that are mostly outside."""

    def __init__(self, domain: Domain, shape: tuple[int, ...], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.shape = shape
        self.u = torch.rand(_ROWS, *shape, generator=generator)
        self.inside = domain.from_uniform(self.u)
        self.low, self.high = domain.bounds(shape)
        self.anything = self.low + (self.high - self.low) * (torch.rand(_ROWS, *shape, generator=generator) * 3 - 1)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotConformant(otherwise)


def _random(domain: Domain, rows: _TestRows) -> None:
    _inside(domain, rows.inside, "what from_uniform makes")
    different = (rows.inside != rows.inside[:1]).flatten(1).any(1)
    _expect(bool(different.any()), "from_uniform makes one row of whatever draws it gets")
    for share in (0.0, 1.0 - 2.0**-24):
        _inside(domain, domain.from_uniform(torch.full_like(rows.u[:1], share)), f"from_uniform of {share:g}")


def _projection(domain: Domain, rows: _TestRows) -> None:
    before = rows.anything.clone()
    sent = domain.project(rows.anything)
    _expect(torch.equal(before, rows.anything), "project must not change the rows that it gets")
    _inside(domain, sent, "what project returns")
    again = domain.project(sent)
    moved = _most(again, sent)
    _expect(moved == 0, f"project must leave its own rows as they are; it moved them by up to {moved:g}")
    moved = _most(domain.project(rows.inside), rows.inside)
    slack = 1e-5 * float((rows.high - rows.low).max())
    _expect(moved <= slack, f"project moved inputs of the domain by up to {moved:g}")


def _alone(domain: Domain, rows: _TestRows) -> None:
    sent = domain.project(rows.anything)
    order = torch.randperm(_ROWS, generator=torch.Generator().manual_seed(1))
    _expect(torch.equal(domain.project(rows.anything[order]), sent[order]), "project depends on the order of the rows")
    for i in (0, _ROWS - 1):
        one = domain.project(rows.anything[i : i + 1])
        _expect(torch.equal(one[0], sent[i]), "project of a row depends on the rows beside it")
        drawn = domain.from_uniform(rows.u[i : i + 1])
        _expect(torch.equal(drawn[0], rows.inside[i]), "from_uniform of a row depends on the rows beside it")


def _check(domain: Domain, rows: _TestRows) -> None:
    beyond = rows.inside.clone()
    beyond[1] = rows.high + (rows.high - rows.low)
    try:
        domain.check(beyond, "the rows")
    except InputError as error:
        _expect("the rows" in str(error), f"check must name the rows in its message: {error}")
        return
    raise NotConformant("check must refuse rows beyond the bounds with InputError")


def _kinds(domain: Domain, rows: _TestRows) -> None:
    flat = domain.project(rows.anything).flatten(1)
    for group in domain.groups(rows.shape):
        block = flat[:, group.columns]
        if group.kind == "integer" and group.step == 1:
            _expect(torch.equal(block, block.round()), f"columns {group.columns} are no whole numbers")
        if group.kind == "token":
            _expect(torch.equal(block, block.round()), f"columns {group.columns} are no codes of words")
        if group.kind in ("binary", "one_hot"):
            _expect(bool(((block == 0) | (block == 1)).all()), f"columns {group.columns} are not all 0 or 1")
        if group.kind == "one_hot":
            _expect(bool((block.sum(1) == 1).all()), f"not exactly one of the columns {group.columns} is 1")


def _distances(domain: Domain, rows: _TestRows) -> None:
    for norm in get_args(Norm):
        diameter = domain.diameter(rows.shape, norm)
        _expect(math.isfinite(diameter) and diameter > 0, f"diameter in {norm} must be above 0 and finite: {diameter}")
        inside = rows.inside.flatten(1)
        most = float(distances(inside[1:], inside[:-1], norm, token_columns(domain, rows.shape)).max())
        _expect(most <= diameter * (1 + 1e-5), f"two inputs are {most:g} apart in {norm}, the diameter is {diameter:g}")


def _pickled(domain: Domain, rows: _TestRows) -> None:
    try:
        again: Domain = pickle.loads(pickle.dumps(domain))
    except Exception as error:  # whatever an object's own pickling raises
        raise NotConformant(f"it must be pickled for work in other processes: {error}") from error
    same = torch.equal(again.project(rows.anything), domain.project(rows.anything))
    _expect(same, "its pickled copy projects otherwise")


def _inside(domain: Domain, x: Tensor, what: str) -> None:
    try:
        domain.check(x, what)
    except InputError as error:
        raise NotConformant(f"outside the domain: {error}") from None
    low, high = domain.bounds(tuple(x.shape[1:]))
    _expect(bool(((x >= low) & (x <= high)).all()), f"{what} lies beyond the bounds")


def _most(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


ROWS: dict[str, Callable[[Domain, _TestRows], None]] = {
    "random inputs": _random,
    "projection": _projection,
    "row by row": _alone,
    "check": _check,
    "kinds": _kinds,
    "distances": _distances,
    "pickled": _pickled,
}
"""The rows by name."""
