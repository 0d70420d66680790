"""What a wrapped target is, and what the kinds of targets share."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from labelleaks.core.classes import Classes
from labelleaks.core.names import module_of

__all__ = ["Preprocess", "Target", "default_batch_rows", "plain_copy", "qualified_name", "scope"]

Preprocess = Callable[[Any], Any]
"""Applied to each batch just before the target, in the kind of array that the target gets."""


@runtime_checkable
class Target(Protocol):
    """Something that answers labels: a :data:`labelleaks.core.types.Predict` with a name.

    Called with (m, *shape) float32 in the domain's units, m >= 1, it returns int64 (m,) codes 0 … K - 1 and raises
    TargetError where the answer is not one label a row. It is given to a Gate; nothing else calls it.
    """

    @property
    def kind(self) -> str:
        """``"torch"``, ``"estimator"``, ``"callable"`` or ``"recorded"``."""
        ...

    @property
    def name(self) -> str:
        """Qualified name of what is wrapped; no memory addresses."""
        ...

    @property
    def classes(self) -> Classes: ...

    @property
    def batch_rows(self) -> int:
        """Rows to send in one call at most."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal targets, on every machine; a journal of answers belongs to one fingerprint."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a record says about the target: JSON types only, equal for equal targets."""
        ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def default_batch_rows(width: int, *, device: torch.device | None = None) -> int:
    """Return rows per call: 2¹⁸ features, as a power of two from 64 to 1,024 (eight times that off the CPU).

    Measured on one CPU core, time against the best size: a 64-256-256-10 MLP 1.13 at 128 rows a call, 1.00 at 512, 1.03
    at 1,024, 1.11 at 2,048 (and the ledger's work for a call wants many rows); a 28×28 CNN 1.04 at 256, 1.00 at 512,
    1.67 at 1,024; a 3×32×32 CNN is even from 16 to 128. The activations of these sizes still fit the cache. The factor
    off the CPU is not measured.
    """
    off_cpu = device is not None and device.type != "cpu"
    features, most = (1 << 21, 1 << 13) if off_cpu else (1 << 18, 1 << 10)
    rows = max(64, min(most, features // max(width, 1)))
    return 1 << (rows.bit_length() - 1)


def plain_copy(x: Tensor) -> Tensor:
    """Return a contiguous copy: the target's code is somebody else's and may work in place."""
    return x.detach().clone(memory_format=torch.contiguous_format)


def qualified_name(thing: Any) -> str:
    """Return ``module.name`` of a function, or of an object's class; never a memory address."""
    inner = getattr(thing, "func", None)  # functools.partial
    if inner is not None and callable(inner) and not hasattr(thing, "__qualname__"):
        return f"partial({qualified_name(inner)})"
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    if isinstance(thing, torch.jit.ScriptModule):
        return f"TorchScript({thing.original_name})"
    return f"{module_of(named)}.{named.__qualname__}"


def _told(preprocess: Preprocess) -> str:
    if isinstance(preprocess, nn.Module):
        return re.sub(r"\s+", " ", re.sub(r" at 0x[0-9a-fA-F]+", "", repr(preprocess)))
    return qualified_name(preprocess)


def scope(fingerprint: str, classes: Classes, preprocess: Preprocess | None) -> str:
    """Add to a target's own fingerprint what else decides the codes that it answers."""
    names = "" if classes.plain else f" classes={','.join(map(repr, classes.names))}"
    return fingerprint + names + ("" if preprocess is None else f" preprocess={_told(preprocess)}")
