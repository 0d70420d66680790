"""The options that `audit`, `infer` and `forecast` share, as one frozen value; and settings as JSON for records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelleaks.auditing.thresholds import ThresholdRule
from labelleaks.core.attack import Attack
from labelleaks.core.domains import Domain, Text, need_domain
from labelleaks.core.names import module_of
from labelleaks.engine import Engine
from labelleaks.errors import InputError
from labelleaks.inputs.row_format import Table

__all__ = ["AuditOptions", "describe", "name_of", "shared_options"]

_COUNTS = ("budget", "budget_total", "references", "batch_rows", "shard_rows")


@dataclass(frozen=True, eq=False, kw_only=True)
class AuditOptions:
    """Options of an audit: all but the target and the rows. Each option is explained at :func:`labelleaks.audit`.

    Raises:
        InputError: a number that is none or too small, or a domain that is none.
    """

    attacks: Sequence[str | Attack] | None = None
    thresholds: Sequence[str | ThresholdRule] | None = None
    shadow: Any = None
    starts: Any = None
    domain: Domain | Table | Text | None = None
    budget: int = 500
    budget_total: int | None = None
    seed: int = 0
    family: Any = None
    references: int | None = None
    references_dir: str | Path | None = None
    classes: int | Sequence[Any] | None = None
    threshold: float | None = None
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

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is None and name != "budget":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r}: a whole number of at least 1 is needed")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed={self.seed!r}: a whole number is needed")
        if self.domain is not None and not isinstance(self.domain, (Table, Text)):
            need_domain(self.domain)


def shared_options(arguments: Mapping[str, Any]) -> AuditOptions:
    """Return the options among a function's arguments (its ``locals()``); those that it does not have at defaults."""
    return AuditOptions(**{f.name: arguments[f.name] for f in fields(AuditOptions) if f.name in arguments})


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
    """Return a name without a memory address."""
    if value is None or isinstance(value, str):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{module_of(named)}.{named.__qualname__}"
