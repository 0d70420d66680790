"""Turn what users bring into tensors, once, and say in one line what is wrong with it.

Values keep their units: nothing is rescaled, normalised or transposed. 8-bit images are 0 … 255 and belong in
``Box(0, 255, levels=256)``; a row's shape is the shape that the target gets, channels first or last
(:mod:`labelleaks.core.domains.layout` tells which). What comes out is always a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelleaks.core.classes import label_array
from labelleaks.core.domains import Domain, Text, need_fit
from labelleaks.errors import InputError
from labelleaks.inputs.plain_arrays import check_finite, is_sparse, plain_array
from labelleaks.inputs.row_format import DictOfColumns, Pictures, RowFormat, Table, is_frame, is_texts, learn
from labelleaks.inputs.row_format.array_tables import is_flat
from labelleaks.inputs.row_format.pictures import is_pictures
from labelleaks.inputs.torch_datasets import read_dataset

__all__ = ["Encoded", "Given", "count", "encode", "take"]


@dataclass(frozen=True, eq=False)
class Given:
    """Rows as a user brought them, read but not yet encoded."""

    rows: Any
    """n rows of the user's own kind and dtype: array, tensor, sparse matrix, table with named columns, dict, texts"""
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
        given: ``(x, y)``, ``(x,)`` or ``x``, where x is an array, tensor, nested list, SciPy sparse matrix, list of
            strings, table with named columns (pandas, polars, pyarrow), dict of arrays, torch ``Dataset`` or
            ``DataLoader`` (of ``(x, y)`` items). A tuple is always (x, y); a list is rows. A shuffling loader of plain
            batches is read in its data set's own order.
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
    groups: Sequence[Given], domain: Domain | Table | Text | None = None, *, device: torch.device | str | None = None
) -> Encoded:
    """Learn the format of rows that belong together, encode them, and check them against the domain.

    Args:
        groups: the rows; the first group's kind, dtype and order of columns count.
        domain: which inputs exist; None: ``Box(0, 1)``, and of a table what its columns hold. A :class:`Table` says of
            some columns what they may hold, a :class:`Text` how texts are taken apart. Any other goes by position: a
            table's columns are then numbers.
        device: where the rows go; None: a tensor stays where it is, all else is on the CPU.

    Raises:
        InputError: rows that do not fit each other or the domain (how many, the worst value, where), a value that
            cannot be carried exactly, or a domain of the user's own that is not what it says.
    """
    declared = domain.columns if isinstance(domain, Table) else None
    form = learn(
        {group.what: group.rows for group in groups},
        declared=declared,
        positional=domain is not None and not isinstance(domain, (Table, Text)),
        text=domain if isinstance(domain, Text) else None,
    )
    exists = form.domain() if domain is None or isinstance(domain, (Table, Text)) else domain
    x = tuple(form.encode(group.rows, group.what) for group in groups)
    if device is not None:
        x = tuple(rows.to(device) for rows in x)
    for group, rows in zip(groups, x, strict=True):
        exists.check(rows, group.what)
    need_fit(exists, x[0].shape[1:])
    return Encoded(form, exists, x)


def count(rows: Any) -> int:
    """Return how many rows there are, whatever their kind."""
    if isinstance(rows, Mapping) and not is_sparse(rows):
        return count(next(iter(rows.values())))
    return int(rows.shape[0]) if hasattr(rows, "shape") else len(rows)


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
    """Rows of a kind that a format can be learnt of; arrays and tensors checked to be within float32's reach."""
    if is_frame(x):
        if x.shape[0] == 0 or x.shape[1] == 0:
            raise InputError(f"{what}: is empty (x has the shape {tuple(x.shape)})")
        return x
    if isinstance(x, Mapping) and not is_sparse(x):
        return _dict(x, what)
    if is_pictures(x):
        return Pictures.read(x, what)
    if isinstance(x, memoryview):
        raise InputError(f"{what}: x is a view of memory; give np.asarray(x)")
    if is_texts(x):
        return x.copy() if hasattr(x, "copy") else list(x)
    rows = _array(x, what)
    if len(rows.shape) < 2:
        raise InputError(
            f"{what}: x has the shape {tuple(rows.shape)}; rows with at least one feature axis (n, *shape) are needed: "
            "x[None] for a single row, x.reshape(-1, 1) for a single feature"
        )
    if 0 in rows.shape:
        raise InputError(f"{what}: is empty (x has the shape {tuple(rows.shape)})")
    check_finite(rows, what, gaps=is_flat(rows))
    return rows


def _array(x: Any, what: str) -> Any:
    if _is_tensor(x):
        return _tensor(x, what)
    return x.copy() if is_sparse(x) else plain_array(x, what)


def _dict(x: Mapping[Any, Any], what: str) -> Any:
    """Rows of a dict: a table of columns (n,), or arrays (n, *shape) by name."""
    if not x:
        raise InputError(f"{what}: x is an empty dict; arrays by name are needed, {{'pixel_values': ...}}")
    odd = [key for key in x if not isinstance(key, str)]
    if odd:
        raise InputError(
            f"{what}: x is a dict with the key {odd[0]!r}; arrays are called by names: {{str({odd[0]!r}): ...}}"
        )
    rows = {key: _array(value, f"{what}[{key!r}]") for key, value in x.items()}
    counts = {key: int(value.shape[0]) if value.shape else 0 for key, value in rows.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(f"{what}: as many rows are needed in each array, one at least; there are {counts}")
    if all(len(value.shape) == 1 and not isinstance(value, Tensor) for value in rows.values()):
        return DictOfColumns(rows)
    for key, value in rows.items():
        place = f"{what}[{key!r}]"
        if not isinstance(value, Tensor) and value.dtype.kind not in "biuf":
            raise InputError(f"{place}: is an array of {value.dtype}; numbers are needed beside arrays of several axes")
        check_finite(value, place, gaps=False)
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
        raise InputError(f"{what}: x is a sparse tensor ({x.layout}); give x.to_dense()")
    if x.is_quantized:
        raise InputError(f"{what}: x is a quantised tensor; give x.dequantize()")
    if x.is_meta:
        raise InputError(f"{what}: x is a meta tensor, which has a shape and no values; give the values")
    if x.is_complex():
        raise InputError(f"{what}: x holds {x.dtype}; real numbers are needed")
    copied: Tensor = x.detach().clone(memory_format=torch.contiguous_format)
    return copied


def _some(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join(map(str, sorted(shapes)[:3]))
