"""Protocol of targets, and what their kinds share."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from labelleaks.core.classes import Classes
from labelleaks.core.names import module_of
from labelleaks.errors import InputError, LabelLeaksError, TargetError
from labelleaks.inputs.row_format import RowFormat

__all__ = [
    "Preprocess",
    "Target",
    "default_batch_rows",
    "gets",
    "hash_module",
    "is_identified",
    "is_nearly_target",
    "is_target",
    "lacking",
    "opened",
    "plain_copy",
    "qualified_name",
    "says_all",
    "scope",
]

Preprocess = Callable[[Any], Any]
"""Applied to each batch just before the target, in the kind of array that the target gets."""


class Target(Protocol):
    """Something that answers labels: a :data:`labelleaks.core.types.Predict` that says what it is.

    Called with (m, *shape) float32 in the domain's units, m >= 1, it returns int64 (m,) codes 0 … K - 1 and raises
    TargetError where the answer is not one label a row. It is asked through the oracle and by nothing else, and only
    while it is open. A run opens it once and closes it at its end; it may be opened again afterwards. An engine that
    attacks shards on other machines pickles it, open or not, and opens the copy there.
    """

    @property
    def name(self) -> str:
        """Qualified name of what answers; no memory addresses."""
        ...

    @property
    def classes(self) -> Classes:
        """The classes that it answers. Known before it is opened."""
        ...

    @property
    def batch_rows(self) -> int:
        """Rows to send in one call at most."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal targets, on every machine, and known before the first label is asked for.

        A journal of answers belongs to one fingerprint.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a record says about the target: JSON types only, equal for equal targets."""
        ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


_MEMBERS = ("name", "classes", "batch_rows", "fingerprint", "describe", "__call__", "__enter__", "__exit__")
_MARKS = ("fingerprint", "describe", "__call__", "__enter__")
_MISSING = object()


def is_target(thing: Any) -> bool:
    """Whether ``thing`` is a :class:`Target`: it has every member, on its class or its own. Computes none of them."""
    return not inspect.isclass(thing) and not lacking(thing)


def lacking(thing: Any) -> list[str]:
    """Return the members of :class:`Target` that ``thing`` does not have. Computes none of them."""
    return [member for member in _MEMBERS if not _has(thing, member)]


def is_nearly_target(thing: Any) -> bool:
    """Whether ``thing`` was meant for a :class:`Target`: it has the members that nothing else has, and lacks others."""
    return not inspect.isclass(thing) and all(_has(thing, mark) for mark in _MARKS) and bool(lacking(thing))


def _has(thing: Any, member: str) -> bool:
    where = type(thing) if member.startswith("__") else thing
    return inspect.getattr_static(where, member, _MISSING) is not _MISSING


@contextmanager
def opened(target: Target, *, check: bool = False) -> Iterator[Target]:
    """Open a target, and close it on leaving.

    Args:
        check: hold it to what :class:`Target` says of its members, as one of the user's own is not known to keep it.

    Raises:
        TargetError: it cannot be opened, or a member of it raises.
        InputError: a member is not what it should be.
    """
    with ExitStack() as stack:
        _asked("could not be opened", stack.enter_context, target)
        if check:
            _check(target)
        yield target


def _check(target: Target) -> None:
    rows = _asked("has batch_rows that raised", getattr, target, "batch_rows")
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise InputError(f"the target's batch_rows is {rows!r}, a whole number of at least 1 is needed")
    mark = _asked("has a fingerprint that raised", getattr, target, "fingerprint")
    if not isinstance(mark, str) or not mark:
        raise InputError(
            f"the target's fingerprint is {mark!r}, a text is needed that is equal for equal targets, for example the "
            "model's version"
        )
    description = _asked("has a describe() that raised", target.describe)
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the target's describe() must return JSON types only: {error}") from None
    if not isinstance(description, dict):
        raise InputError(f"the target's describe() must return a dictionary, not {description!r}")


def _asked(what: str, ask: Callable[..., Any], *given: Any) -> Any:
    """Ask somebody else's code: whatever it raises gets our name and its text."""
    try:
        return ask(*given)
    except LabelLeaksError:
        raise
    except Exception as error:
        raise TargetError(f"the target {what}: {type(error).__name__}: {error}") from error


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


def hash_module(module: nn.Module) -> str:
    """Return a hash of a module's printed structure and of every parameter and buffer."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module)).encode())
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def says_all(module: nn.Module) -> bool:
    """Whether a module's structure and weights say what it computes: no code but that of torch, or code in a file."""
    compiled = isinstance(module, torch.jit.ScriptModule) or hasattr(module, "program")
    return compiled or all(type(part).__module__.startswith("torch.nn.") for part in module.modules())


def is_identified(preprocess: Preprocess | None) -> bool:
    """Whether the fingerprint says all that ``preprocess`` does: of a function it says the name only."""
    if preprocess is None or hasattr(preprocess, "to_json_string"):
        return True
    return isinstance(preprocess, nn.Module) and says_all(preprocess)


def _name_of(preprocess: Preprocess) -> str:
    if isinstance(preprocess, nn.Module):
        printed = re.sub(r"\s+", " ", re.sub(r" at 0x[0-9a-fA-F]+", "", repr(preprocess)))
        held = any(True for _ in itertools.chain(preprocess.parameters(), preprocess.buffers()))
        return f"{printed} {hash_module(preprocess)}" if held else printed
    settings = getattr(preprocess, "to_json_string", None)  # an image processor of transformers
    if callable(settings):
        return f"{qualified_name(preprocess)} {hashlib.blake2b(settings().encode(), digest_size=16).hexdigest()}"
    return qualified_name(preprocess)


def gets(form: RowFormat) -> str:
    """Return what a record says of the rows that a target gets: ``numpy``, ``torch float64``, ``texts``, …"""
    described = form.describe()
    if described["kind"] == "text":
        return "texts"
    kind = str(described.get("library", described["kind"]))
    return kind if form.plain or "dtype" not in described else f"{kind} {described['dtype']}"


def scope(fingerprint: str, classes: Classes, preprocess: Preprocess | None, form: RowFormat | None = None) -> str:
    """Add to a target's own fingerprint what else decides the codes that it answers."""
    names = "" if classes.plain else f" classes={','.join(map(repr, classes.names))}"
    names += "" if classes.threshold is None else f" threshold={float(classes.threshold)!r}"
    names += "" if form is None or form.plain else f" rows={form.digest()}"
    return fingerprint + names + ("" if preprocess is None else f" preprocess={_name_of(preprocess)}")
