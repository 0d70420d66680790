"""Turn what users bring into tensors, once, and say in one line what is wrong with it.

Values keep their units: nothing is rescaled, normalised or transposed. 8-bit images are 0 … 255 and belong in
``Box(0, 255, levels=256)``; a row's shape is the shape that the target gets, channels first or last
(:mod:`labelleaks.core.domains.layout` tells which). What comes out is always a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelleaks.core.classes import label_array
from labelleaks.core.domains import Box, Domain, need_fit
from labelleaks.errors import InputError
from labelleaks.inputs.row_format import FrameFormat, RowFormat, Table, is_frame, learn
from labelleaks.inputs.torch_datasets import read_dataset

__all__ = ["Encoded", "Given", "count", "encode", "take"]


@dataclass(frozen=True, eq=False)
class Given:
    """Rows as a user brought them, read but not yet encoded."""

    rows: Any
    """n rows of the user's own kind and dtype: array, tensor, sparse matrix, table with named columns, dict"""
    y: NDArray[Any] | None
    """(n,) labels, int64 or str (object), not yet codes; None where there were none"""
    what: str
    """What the rows are, for messages: ``"members"``"""
    ids: tuple[str, ...] | None = None
    """Names for people, where the rows brought some: a DataFrame's index, if it is more than a count."""

    def __len__(self) -> int:
        return count(self.rows)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Groups of rows as the core works with them."""

    form: RowFormat
    """How they were encoded, and how queries become rows of the user's kind."""
    domain: Domain
    x: tuple[Tensor, ...]
    """Of each group: float32 (n, *shape), n >= 1, finite; a copy; on the device of the tensor given, else the CPU"""


def take(given: Any, what: str, *, labels: bool = True) -> Given:
    """Read rows, and their labels where there are any.

    Args:
        given: ``(x, y)``, ``(x,)`` or ``x``, where x is an array, tensor, nested list, SciPy sparse matrix, table with
            named columns (pandas, polars, pyarrow), dict of arrays, torch ``Dataset`` or ``DataLoader`` (of ``(x, y)``
            items). A tuple is always (x, y); a list is rows. A shuffling loader of plain batches is read in its data
            set's own order.
        what: names the rows in messages.
        labels: whether there must be labels.

    Raises:
        InputError: no rows, another kind of thing, non-numeric values, NaN or infinity, a wrong number of labels, or
            labels that are no class labels.
    """
    x, y = _pair(given, what)
    if isinstance(x, (Dataset, DataLoader)):
        x, read = read_dataset(x, what)
        y = read if y is None else y
    if y is None and labels:
        raise InputError(f"{what}: rows without labels; give (x, y)")
    ids = _ids(x)
    _same_index(x, y, what)
    rows = _rows(x, what)
    names = None if y is None else label_array(y, what)
    if names is not None and len(names) != count(rows):
        raise InputError(f"{what}: {count(rows)} rows but {len(names)} labels; give one label for each row")
    return Given(rows, names, what, ids)


def encode(
    groups: Sequence[Given], domain: Domain | Table | None = None, *, device: torch.device | str | None = None
) -> Encoded:
    """Learn the format of rows that belong together, encode them, and check them against the domain.

    Args:
        groups: the rows; the first group's kind, dtype and order of columns count.
        domain: which inputs exist; None: ``Box(0, 1)``, and of a table what its columns hold. A :class:`Table` says of
            some columns what they may hold. Any other goes by position: a table's columns are then numbers.
        device: where the rows go; None: a tensor stays where it is, all else is on the CPU.

    Raises:
        InputError: rows that do not fit each other or the domain (how many, the worst value, where), a value that
            cannot be carried exactly, or a domain of the user's own that is not what it says.
    """
    declared = domain.columns if isinstance(domain, Table) else None
    form = learn(
        {group.what: group.rows for group in groups},
        declared=declared,
        positional=domain is not None and not isinstance(domain, Table),
    )
    found = form.domain() if isinstance(form, FrameFormat) else Box(0, 1)
    exists = found if domain is None or isinstance(domain, Table) else domain
    x = tuple(form.encode(group.rows, group.what) for group in groups)
    if device is not None:
        x = tuple(rows.to(device) for rows in x)
    for group, rows in zip(groups, x, strict=True):
        exists.check(rows, group.what)
    need_fit(exists, x[0].shape[1:])
    return Encoded(form, exists, x)


def count(rows: Any) -> int:
    """Return how many rows there are, whatever their kind."""
    if isinstance(rows, Mapping):
        return count(next(iter(rows.values())))
    return int(rows.shape[0])


def _pair(given: Any, what: str) -> tuple[Any, Any]:
    if given is None:
        raise InputError(f"{what}: nothing was given; (x, y) is needed")
    if not isinstance(given, tuple):
        return given, None
    if len(given) not in (1, 2):
        raise InputError(f"{what}: a tuple of {len(given)}; (x, y) or (x,) is needed")
    return given[0], given[1] if len(given) == 2 else None


def _is_pandas(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] == "pandas"


def _ids(x: Any) -> tuple[str, ...] | None:
    if not _is_pandas(x) or type(x.index).__name__ == "RangeIndex":
        return None
    return tuple(str(name) for name in x.index)


def _same_index(x: Any, y: Any, what: str) -> None:
    if _is_pandas(x) and _is_pandas(y) and len(x) == len(y) and not x.index.equals(y.index):
        raise InputError(f"{what}: the index of x and the index of y differ; align them first: y = y.loc[x.index]")


def _rows(x: Any, what: str) -> Any:
    """Rows of a kind that a format can be learnt of; arrays and tensors checked to be finite numbers."""
    if is_frame(x):
        if x.shape[0] == 0 or x.shape[1] == 0:
            raise InputError(f"{what}: is empty (x has the shape {tuple(x.shape)})")
        return x
    if isinstance(x, Mapping):
        return _dict(x, what)
    rows: Any = _tensor(x, what) if _is_tensor(x) else x.copy() if hasattr(x, "toarray") else _numbers(x, what)
    if len(rows.shape) < 2:
        raise InputError(
            f"{what}: x has the shape {tuple(rows.shape)}; rows with at least one feature axis (n, *shape) are needed: "
            "x[None] for a single row, x.reshape(-1, 1) for a single feature"
        )
    if 0 in rows.shape:
        raise InputError(f"{what}: is empty (x has the shape {tuple(rows.shape)})")
    _check_finite(rows, what)
    return rows


def _dict(x: Mapping[Any, Any], what: str) -> dict[str, Any]:
    if not x:
        raise InputError(f"{what}: x is an empty dict; arrays by name are needed, {{'pixel_values': ...}}")
    rows = {str(key): _rows(value, f"{what}[{key!r}]") for key, value in x.items()}
    counts = {key: count(value) for key, value in rows.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{what}: as many rows are needed in each array; there are {counts}")
    return rows


def _is_tensor(x: Any) -> bool:
    listed = isinstance(x, (list, tuple)) and bool(x) and all(isinstance(row, Tensor) for row in x)
    return isinstance(x, Tensor) or listed


def _tensor(x: Any, what: str) -> Tensor:
    """A copy of a tensor, or of a list of tensors of one shape."""
    if not isinstance(x, Tensor):
        shapes = {tuple(row.shape) for row in x}
        if len(shapes) > 1:
            raise InputError(f"{what}: rows of different shapes: {_some(shapes)}; bring all rows to one shape")
        x = torch.stack([row.detach() for row in x])
    if x.is_nested:
        raise InputError(f"{what}: x is a nested tensor; rows of one shape are needed: torch.nested.to_padded_tensor")
    if x.layout != torch.strided:
        raise InputError(f"{what}: x is a sparse tensor; give x.to_dense()")
    if x.is_quantized:
        raise InputError(f"{what}: x is a quantised tensor; give x.dequantize()")
    if x.is_meta:
        raise InputError(f"{what}: x is a meta tensor, which has a shape and no values; give the values")
    if x.is_complex():
        raise InputError(f"{what}: x holds {x.dtype}; real numbers are needed")
    copied: Tensor = x.detach().clone(memory_format=torch.contiguous_format)
    return copied


def _numbers(x: Any, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{what}: x is not rows of one shape ({reason}); for labels give a tuple (x, y)") from None
    if array.dtype.kind not in "biufO" or (array.dtype.kind == "O" and array.ndim == 0):
        kind = f"a {type(x).__name__}" if array.ndim == 0 else f"an array of {array.dtype}"
        raise InputError(f"{what}: x is {kind}; an array, tensor, DataFrame, Dataset or DataLoader is needed")
    try:
        if array.dtype.kind == "O":
            array = np.array(array.tolist())
            if array.dtype.kind not in "biuf":
                array = array.astype(np.float64)
        return np.array(array, order="C", copy=True)
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: x holds something that is not a number ({str(error).splitlines()[0]})") from None


def _check_finite(rows: Any, what: str) -> None:
    """Refuse NaN, infinity and what float32 cannot reach."""
    values = rows.data if hasattr(rows, "toarray") else rows
    if isinstance(values, Tensor):
        if not values.is_floating_point():
            return
        wrong = ~torch.isfinite(values.to(torch.float32))
        wrong_rows, flat = wrong.flatten(1).cpu().numpy(), values.flatten(1)
    else:
        if values.dtype.kind != "f":
            return
        with np.errstate(over="ignore"):
            found = ~np.isfinite(values.astype(np.float32))
        wrong_rows, flat = found.reshape(len(values), -1), values.reshape(len(values), -1)
    if not wrong_rows.any():
        return
    row, feature = divmod(int(wrong_rows.reshape(-1).argmax()), wrong_rows.shape[1])
    raise InputError(
        f"{what}: {int(wrong_rows.any(1).sum())} of {len(wrong_rows)} rows hold NaN, infinity or numbers too large for "
        f"float32; the first is {float(flat[row, feature]):g} at row {row}, feature {feature}: remove or fill them, or "
        "give a DataFrame, whose columns may have missing values"
    )


def _some(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join(map(str, sorted(shapes)[:3]))
