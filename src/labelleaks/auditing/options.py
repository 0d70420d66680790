"""What a user asked for, read and checked: one frozen request, its rows as tensors, its labels as codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks.auditing.thresholds import ThresholdRule
from labelleaks.core.attack import Attack, ShadowRows
from labelleaks.core.classes import Classes
from labelleaks.core.domains import Domain
from labelleaks.core.names import module_of
from labelleaks.engine import Engine
from labelleaks.errors import InputError
from labelleaks.inputs.arrays import Given, check, take
from labelleaks.targets import resolve_classes, usable_device

__all__ = ["Request", "Rows", "check_numbers", "describe", "gather", "name_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """What a user asked for, as given. The arguments are those of :func:`labelleaks.audit`."""

    target: Any
    groups: Mapping[str, Any]
    """Name of the group -> (x, y), Dataset or DataLoader; the candidates are these rows in this order."""
    attacks: Sequence[str | Attack] | None = None
    thresholds: Sequence[str | ThresholdRule] | None = None
    shadow: Any = None
    starts: Any = None
    domain: Domain | None = None
    budget: int = 500
    budget_total: int | None = None
    seed: int = 0
    family: Any = None
    references: int | None = None
    references_dir: str | Path | None = None
    classes: int | Sequence[Any] | None = None
    preprocess: Callable[[Any], Any] | None = None
    device: str | torch.device | None = None
    batch_rows: int | None = None
    ids: Sequence[Any] | None = None
    journal: str | Path | None = None
    allow_noisy: bool = False
    replay_only: bool = False
    accept_changed: bool = False
    engine: str | Engine | None = None
    shard_rows: int | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """What was given, read and checked: tensors and codes."""

    x: Tensor
    """float32 (n, *shape), all groups one behind the other"""
    y: Tensor
    """int64 (n,), codes"""
    sizes: tuple[int, ...]
    """Rows of each group."""
    numpy: bool
    """Whether the candidates came as something other than torch tensors."""
    classes: Classes
    ids: tuple[str, ...]
    shadow: ShadowRows | None
    starts: Tensor | None


def check_numbers(request: Request) -> None:
    for name, value, least in (
        ("budget", request.budget, 1),
        ("budget_total", request.budget_total, 1),
        ("references", request.references, 1),
        ("batch_rows", request.batch_rows, 1),
        ("shard_rows", request.shard_rows, 1),
    ):
        if value is None and name != "budget":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r}: a whole number of at least {least} is needed")
    if isinstance(request.seed, bool) or not isinstance(request.seed, int):
        raise InputError(f"seed={request.seed!r}: a whole number is needed")


def gather(request: Request, domain: Domain) -> Rows:
    """Read everything that was given, check that it fits together, and turn labels into codes."""
    device = None if request.device is None else usable_device(request.device)
    if device is None and isinstance(request.target, nn.Module):
        device = next((p.device for p in request.target.parameters()), None)
    groups = [take(given, name, device=device) for name, given in request.groups.items()]
    shadow = None if request.shadow is None else take(request.shadow, "shadow", labels=False, device=groups[0].x.device)
    starts = None if request.starts is None else take(request.starts, "starts", labels=False, device=groups[0].x.device)
    check([*groups, *[given for given in (shadow, starts) if given is not None]], domain)
    labels = {given.what: given.y for given in (*groups, *([shadow] if shadow else []))}
    classes = resolve_classes(request.target, request.classes, labels)
    x = torch.cat([given.x for given in groups])
    return Rows(
        x=x,
        y=torch.cat([classes.encode(given.y, given.what) for given in groups]).to(x.device),
        sizes=tuple(len(given) for given in groups),
        numpy=groups[0].numpy,
        classes=classes,
        ids=_ids(request, groups),
        shadow=None
        if shadow is None
        else ShadowRows(shadow.x, None if shadow.y is None else classes.encode(shadow.y, "shadow").to(x.device)),
        starts=None if starts is None else starts.x,
    )


def _ids(request: Request, groups: Sequence[Given]) -> tuple[str, ...]:
    if request.ids is not None:
        ids = tuple(str(name) for name in request.ids)
        n = sum(len(given) for given in groups)
        if len(ids) != n:
            raise InputError(f"ids: {len(ids)} names for {n} candidates; give one for each, or none")
        return ids
    return tuple(
        name
        for given in groups
        for name in (given.ids or (f"{given.what.removesuffix('s')}-{i}" for i in range(len(given))))
    )


def describe(settings: Any) -> dict[str, Any]:
    """Return a dataclass' fields as JSON types (nested dataclasses too)."""
    return {f.name: _plain(getattr(settings, f.name)) for f in fields(settings)} if is_dataclass(settings) else {}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape)}
    return {"type": type(value).__name__, **describe(value)} if is_dataclass(value) else name_of(value)


def name_of(value: Any) -> str | None:
    """A name without a memory address."""
    if value is None or isinstance(value, str):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{module_of(named)}.{named.__qualname__}"
