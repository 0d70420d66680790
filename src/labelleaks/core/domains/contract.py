"""Whether an object keeps the contract of a domain, before anything is sent: what it lacks, and what it does wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from labelleaks.core.domains.base import Domain, Group
from labelleaks.core.domains.layout import check_word, image_layout
from labelleaks.errors import InputError

__all__ = ["MEMBERS", "faults", "need_domain", "need_fit"]

MEMBERS: dict[str, str] = {
    "continuous": "a bool",
    "layout": 'None, "chw", "hwc", "hw", "tc", "ct", "dhw", "dhwc", "cdhw", "dchw" or "none"',
    "bounds": "bounds(shape) -> (low, high)",
    "groups": "groups(shape) -> (Group(kind, columns, low, high), …)",
    "project": "project(x) -> x",
    "check": "check(x, what) -> None",
    "from_uniform": "from_uniform(u) -> x",
    "span": "span(shape) -> high - low",
    "diameter": "diameter(shape, norm) -> float",
    "describe": "describe() -> dict",
}
"""Of :class:`labelleaks.core.domains.base.Domain`, and what each is."""


def need_domain(domain: object) -> Domain:
    """Return ``domain`` where it has every member of :class:`labelleaks.Domain`.

    Raises:
        InputError: anything else; members that are missing are named.
    """
    if isinstance(domain, type):
        raise InputError(f"domain={domain.__name__} is a class: give an instance, {domain.__name__}(…)")
    missing = [name for name in MEMBERS if not hasattr(domain, name)]
    if len(missing) == len(MEMBERS):
        raise InputError(f"domain={domain!r} is not a domain: give Box(0, 1), Binary() or Mixed(...)")
    if missing:
        wanted = "; ".join(f"{name}: {MEMBERS[name]}" for name in missing)
        raise InputError(f"domain={_name(domain)} is not a whole domain, add what it lacks (docs/domains.md): {wanted}")
    return domain  # type: ignore[return-value]  # every member is there


def need_fit(domain: Domain, shape: Sequence[int]) -> None:
    """Check that ``domain`` keeps its contract for rows of ``shape``, as far as two rows can tell. Sends nothing.

    Raises:
        InputError: with what it does wrong, and what is expected.
    """
    try:
        fault = next(faults(domain, tuple(shape)), None)
    except InputError:
        raise
    except Exception as error:  # the domain may be the user's own: whatever it raises gets our name and its text
        raise InputError(f"domain={_name(domain)} fails for rows of shape {tuple(shape)}: {error}") from error
    if fault is not None:
        raise InputError(f"domain={_name(domain)} breaks its contract (docs/domains.md): {fault}")


def _name(domain: object) -> str:
    return type(domain).__name__


def faults(domain: Domain, shape: tuple[int, ...]) -> Iterator[str]:
    """Yield what ``domain`` does wrong for rows of ``shape``, one sentence each; later ones rely on earlier ones."""
    check_word(domain.layout, _name(domain))
    image_layout(shape, domain.layout)
    if not isinstance(domain.continuous, bool):
        yield f"continuous must be a bool, it is {domain.continuous!r}"
    yield from _description_faults(domain.describe())
    yield from _bound_faults(domain, shape)
    yield from _group_faults(domain, shape)
    yield from _row_faults(domain, shape)


def _description_faults(description: Any) -> Iterator[str]:
    if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
        yield f'describe() must return a dict with a name under "kind", it returned {description!r}'
        return
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"describe() must return what JSON can hold: {error}"


def _bound_faults(domain: Domain, shape: tuple[int, ...]) -> Iterator[str]:
    low, high = domain.bounds(shape)
    span = domain.span(shape)
    for name, end in (("bounds(shape)[0]", low), ("bounds(shape)[1]", high), ("span(shape)", span)):
        if not isinstance(end, Tensor) or tuple(end.shape) != shape or end.dtype != torch.float32:
            yield f"{name} must be float32 of shape {shape}, it is {_kind(end)}"
            return
    if not bool(torch.isfinite(torch.stack([low, high])).all() and (low < high).all()):
        yield "bounds(shape) must be finite, low below high in every feature"
    elif not torch.allclose(span, high - low, rtol=1e-4, atol=0):
        yield "span(shape) must be high - low"


def _group_faults(domain: Domain, shape: tuple[int, ...]) -> Iterator[str]:
    at = 0
    groups = domain.groups(shape)
    for group in groups:
        if not isinstance(group, Group):
            yield f"groups(shape) must be of labelleaks.core.domains.Group, one is {type(group).__name__}"
            return
        if group.columns.start != at or group.columns.stop <= at:
            yield f"groups(shape) must follow each other without a gap: {group.columns} comes where {at} is next"
            return
        if group.kind == "one_hot" and group.width < 2:
            yield f"a one_hot group needs two columns at least: {group.columns}"
        at = group.columns.stop
    if at != prod(shape):
        yield f"groups(shape) must hold all {prod(shape)} columns of a row, they hold {at}"
    kinds = {group.kind for group in groups} & {"binary", "one_hot"}
    if domain.continuous and kinds:
        yield f"continuous=True, but features of kind {' and '.join(sorted(kinds))} cannot move a little"


def _row_faults(domain: Domain, shape: tuple[int, ...]) -> Iterator[str]:
    u = torch.full((2, *shape), 0.5)
    steps: list[tuple[str, Callable[[], Tensor]]] = [
        ("from_uniform", lambda: domain.from_uniform(u)),
        ("project", lambda: domain.project(domain.from_uniform(u))),
    ]
    for name, made in steps:
        x = made()
        if not isinstance(x, Tensor) or x.shape != u.shape or x.dtype != torch.float32:
            yield f"{name} must return float32 of its input's shape {tuple(u.shape)}, it returned {_kind(x)}"
            return
        try:
            domain.check(x, name)
        except InputError as error:
            yield f"check must take what {name} makes: {error}"
            return
    x = domain.from_uniform(u)
    if not torch.allclose(domain.project(x), x):
        yield "project must leave what is in the domain as it is: it moved a row that from_uniform made"


def _kind(thing: object) -> str:
    return f"{thing.dtype} {tuple(thing.shape)}" if isinstance(thing, Tensor) else type(thing).__name__
