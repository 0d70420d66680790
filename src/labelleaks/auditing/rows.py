"""The rows of a run: everything that was given, read, encoded and checked together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks.auditing.options import AuditOptions
from labelleaks.core.attack import ShadowRows
from labelleaks.core.classes import Classes
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError
from labelleaks.inputs.arrays import Given, encode, take
from labelleaks.inputs.row_format import RowFormat
from labelleaks.targets import Recorded, resolve_classes, sendable, usable_device

__all__ = ["RunRows", "gather"]


@dataclass(frozen=True, eq=False)
class RunRows:
    """Tensors and codes of all rows of a run."""

    candidates: Candidates
    """All groups, one behind the other."""
    sizes: Mapping[str, int]
    """Rows of each group, by its name, in order."""
    form: RowFormat
    """How rows were encoded, and how queries become rows of the user's kind."""
    classes: Classes
    shadow: ShadowRows | None
    starts: Tensor | None


def gather(target: Any, groups: Mapping[str, Any], options: AuditOptions) -> RunRows:
    """Read everything that was given, check that it fits together, and turn labels into codes. Sends nothing.

    Args:
        target: as the user brought it.
        groups: name of the group -> (x, y), Dataset or DataLoader; the candidates are these rows in this order.

    Raises:
        InputError: whatever is wrong with the rows, their labels, ids or domain.
    """
    given = [take(rows, name) for name, rows in groups.items()]
    others = {"shadow": options.shadow, "starts": options.starts}
    more = [take(rows, name, labels=False) for name, rows in others.items() if rows is not None]
    if isinstance(target, Recorded):  # its rows are matched by what they hold
        more.append(Given(target.rows, None, "recorded answers"))
    encoded = encode([*given, *more], options.domain, device=_device(target, given[0], options))
    labels = {rows.what: rows.y for rows in (*given, *more) if rows.what in (*groups, "shadow")}
    classes = resolve_classes(target, options.classes, labels, threshold=options.threshold)
    x = torch.cat(encoded.x[: len(given)])
    y = torch.cat([classes.encode(rows.y, rows.what) for rows in given]).to(x.device)
    brought = {rows.what: (rows, tensor) for rows, tensor in zip(more, encoded.x[len(given) :], strict=True)}
    shadow = None
    if "shadow" in brought:
        rows, tensor = brought["shadow"]
        shadow = ShadowRows(tensor, None if rows.y is None else classes.encode(rows.y, "shadow").to(x.device))
    return RunRows(
        candidates=Candidates(x, y, sendable(target, encoded.domain), len(classes), _ids(options.ids, given)),
        sizes={rows.what: len(rows) for rows in given},
        form=encoded.form,
        classes=classes,
        shadow=shadow,
        starts=brought["starts"][1] if "starts" in brought else None,
    )


def _device(target: Any, first: Given, options: AuditOptions) -> torch.device | None:
    """Return the device of the rows: the user's, else that of a module's parameters, else that of the first rows."""
    if options.device is not None:
        return usable_device(options.device)
    parameters = target.parameters() if isinstance(target, nn.Module) else ()
    own = next((parameter.device for parameter in parameters), None)
    return first.rows.device if own is None and isinstance(first.rows, Tensor) else own


def _ids(wanted: Sequence[Any] | None, groups: Sequence[Given]) -> tuple[str, ...]:
    """Names of the candidates, each there once."""
    if wanted is not None:
        ids = [str(name) for name in wanted]
        n = sum(len(rows) for rows in groups)
        if len(ids) != n:
            raise InputError(f"ids: {len(ids)} names for {n} candidates; give one for each, or none")
    else:
        own = {rows.what.removesuffix("s"): rows.ids or _counted(rows) for rows in groups}
        ids = [name for names in own.values() for name in names]
        if len(set(ids)) < len(ids) and all(len(set(names)) == len(names) for names in own.values()):
            # Tables whose indices overlap: the group tells their rows apart.
            ids = [f"{what}-{name}" for what, names in own.items() for name in names]
    if len(set(ids)) < len(ids):
        twice = next(name for name, times in Counter(ids).items() if times > 1)
        raise InputError(f"ids: {twice!r} names more than one candidate; give each an id of its own, or give no ids")
    return tuple(ids)


def _counted(rows: Given) -> tuple[str, ...]:
    return tuple(f"{rows.what.removesuffix('s')}-{i}" for i in range(len(rows)))
