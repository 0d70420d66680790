"""Checks of a target of one's own.

    from labelleaks.testing.targets import check_target
    check_target(lambda: MyTarget("model.bin"), rows)

No test framework is needed. The target is asked some six times ``len(rows)`` rows.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from labelleaks.errors import LabelLeaksError
from labelleaks.targets import Target, is_target, lacking, opened
from labelleaks.testing.conformance import NotConformant

__all__ = ["check_target"]


def check_target(make: Callable[[], Any], rows: Tensor, *, steady: bool = True, portable: bool = True) -> None:
    """Check a target against :class:`labelleaks.targets.Target`.

    Args:
        make: builds the target; called twice, for equal ones.
        rows: float32 (m, *shape), m >= 2, inputs of its domain.
        steady: a row's label is always the same, whatever rows are beside it; False for one that randomises.
        portable: it can be pickled while it is open, as shards on a cluster need it.

    Raises:
        NotConformant: with a line for each thing that does not hold.
    """
    one, other = make(), make()
    if not is_target(one):
        raise NotConformant(f"{type(one).__name__} lacks {', '.join(lacking(one))} of labelleaks.targets.Target")
    try:
        faults = [*_identity(one, other), *_answers(one, rows, steady=steady)]
        if portable and not faults:
            faults += _copy(one, rows, steady=steady)
    except LabelLeaksError as error:
        raise NotConformant(f"{one.name}: {error}") from error
    if faults:
        raise NotConformant("\n".join(f"{one.name}: {fault}" for fault in faults))


def _identity(one: Target, other: Target) -> Iterator[str]:
    with opened(one, check=True):
        description = one.describe()
    with opened(other, check=True):
        if one.fingerprint != other.fingerprint:
            yield f"two that are made alike have two fingerprints, {one.fingerprint!r} and {other.fingerprint!r}"
        if json.dumps(description, sort_keys=True) != json.dumps(other.describe(), sort_keys=True):
            yield f"two that are made alike describe themselves as {description} and as {other.describe()}"
    for key in ("kind", "fingerprint"):
        if not isinstance(description.get(key), str):
            yield f"describe() has no {key!r}: {description}"
    if description.get("fingerprint", one.fingerprint) != one.fingerprint:
        yield f"describe() has the fingerprint {description['fingerprint']!r}, the target has {one.fingerprint!r}"


def _answers(target: Target, rows: Tensor, *, steady: bool) -> Iterator[str]:
    given = rows.clone()
    with opened(target):
        labels = target(rows)
        if labels.dtype != torch.int64 or labels.shape != (len(rows),):
            yield f"it answered {tuple(labels.shape)} {labels.dtype} to {len(rows)} rows: int64, one a row, is needed"
            return
        if not bool(((labels >= 0) & (labels < len(target.classes))).all()):
            yield f"it answered {labels.min()} … {labels.max()}: codes 0 … {len(target.classes) - 1} are needed"
        if not torch.equal(rows, given):
            yield "it changed the rows that it was asked"
        if steady:
            alone = torch.cat([target(rows[i : i + 1]) for i in range(len(rows))])
            if not torch.equal(alone, labels):
                yield f"{int((alone != labels).sum())} of {len(rows)} rows get another label alone than among others"
            if not torch.equal(target(rows.flip(0)).flip(0), labels):
                yield "rows get another label in another order"
    with opened(target):
        again = target(rows)
    if steady and not torch.equal(again, labels):
        yield "it answers otherwise when it is opened a second time"


def _copy(target: Target, rows: Tensor, *, steady: bool) -> Iterator[str]:
    with opened(target):
        labels = target(rows)
        try:
            copy: Target = pickle.loads(pickle.dumps(target))
        except Exception as error:  # whatever pickling somebody's object raises
            yield f"it cannot be pickled while it is open: {type(error).__name__}: {error}"
            return
    with opened(copy, check=True):
        if copy.fingerprint != target.fingerprint:
            yield f"a pickled copy has the fingerprint {copy.fingerprint!r}, not {target.fingerprint!r}"
        if steady and not torch.equal(copy(rows), labels):
            yield "a pickled copy answers otherwise"
