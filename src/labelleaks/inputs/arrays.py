"""Turn what users bring into tensors, once, and say in one line what is wrong with it.

Values keep their units: nothing is rescaled, normalised or transposed. 8-bit images become 0.0 … 255.0 and belong in
``Box(0, 255)``; a row's shape is the shape that the target gets, channels first or last
(:mod:`labelleaks.core.domains.layout` tells which). What comes out is always a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelleaks.core.classes import label_array
from labelleaks.core.domains import Domain, need_fit
from labelleaks.errors import InputError
from labelleaks.inputs.torch_datasets import read_dataset

__all__ = ["Given", "check", "take"]


@dataclass(frozen=True, eq=False)
class Given:
    """Rows as the core works with them."""

    x: Tensor
    """float32 (n, *shape), n >= 1, finite, in the units given; a copy; on the device of the tensor given, else CPU"""
    y: NDArray[Any] | None
    """(n,) labels, int64 or str (object), not yet codes; None where there were none"""
    what: str
    """What the rows are, for messages: ``"members"``"""
    numpy: bool
    """Whether they came as something other than torch tensors: a function as target then gets NumPy arrays."""
    ids: tuple[str, ...] | None = None
    """Names for people, where the rows brought some: a DataFrame's index, if it is more than a count."""

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.x.shape[1:])


def take(given: Any, what: str, *, labels: bool = True, device: torch.device | str | None = None) -> Given:
    """Read rows, and their labels where there are any.

    Args:
        given: ``(x, y)``, ``(x,)`` or ``x``, where x is an array, tensor, nested list, DataFrame of numeric columns,
            torch ``Dataset`` or ``DataLoader`` (of ``(x, y)`` items). A tuple is always (x, y); a list is rows. A
            shuffling loader of plain batches is read in its data set's own order.
        what: names the rows in messages.
        labels: whether there must be labels.
        device: where the rows go; None: a tensor stays where it is, all else is on the CPU.

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
    is_tensor = isinstance(x, Tensor) or (isinstance(x, (list, tuple)) and bool(x) and isinstance(x[0], Tensor))
    rows = _rows(x, what)
    if rows.dim() < 2:
        raise InputError(
            f"{what}: x has the shape {tuple(rows.shape)}; rows with at least one feature axis (n, *shape) are needed: "
            "x[None] for a single row, x.reshape(-1, 1) for a single feature"
        )
    if rows.numel() == 0:
        raise InputError(f"{what}: is empty (x has the shape {tuple(rows.shape)})")
    _check_finite(rows, what)
    names = None if y is None else label_array(y, what)
    if names is not None and len(names) != len(rows):
        raise InputError(f"{what}: {len(rows)} rows but {len(names)} labels; give one label for each row")
    return Given(rows if device is None else rows.to(device), names, what, not is_tensor, ids)


def check(groups: Sequence[Given], domain: Domain) -> None:
    """Check that groups fit each other and the domain.

    Raises:
        InputError: rows of different shapes, values outside the domain (how many rows, the worst value, where), or a
            domain of the user's own that is not what it says.
    """
    first = groups[0]
    for group in groups[1:]:
        if group.shape != first.shape:
            raise InputError(
                f"{group.what}: rows of shape {group.shape}, but {first.what} have {first.shape}; bring all to "
                "one shape"
            )
    for group in groups:
        domain.check(group.x, group.what)
    need_fit(domain, first.shape)


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


def _rows(x: Any, what: str) -> Tensor:
    """A float32 copy of whatever holds numbers."""
    if isinstance(x, Tensor):
        if x.is_complex():
            raise InputError(f"{what}: x holds {x.dtype}; real numbers are needed")
        return x.detach().to(torch.float32, copy=True).contiguous()
    if isinstance(x, (list, tuple)) and x and all(isinstance(row, Tensor) for row in x):
        shapes = {tuple(row.shape) for row in x}
        if len(shapes) > 1:
            raise InputError(f"{what}: rows of different shapes: {_some(shapes)}; bring all rows to one shape")
        return torch.stack([row.detach() for row in x]).to(torch.float32)
    if hasattr(x, "toarray"):
        raise InputError(f"{what}: x is a sparse {type(x).__name__}; give x.toarray()")
    if _is_pandas(x) and x.ndim == 2:
        wrong = [str(c) for c, dtype in x.dtypes.items() if getattr(dtype, "kind", "O") not in "biuf"]
        if wrong:
            raise InputError(
                f"{what}: columns that are not numeric: {', '.join(wrong[:5])}{', …' if len(wrong) > 5 else ''}; "
                "encode them first (pandas.get_dummies) or leave them out"
            )
        return torch.from_numpy(np.array(x.to_numpy(dtype=np.float32, na_value=np.nan), order="C", copy=True))
    return torch.from_numpy(_numbers(x, what))


def _numbers(x: Any, what: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{what}: x is not rows of one shape ({reason}); for labels give a tuple (x, y)") from None
    if array.dtype.kind not in "biufO" or (array.dtype.kind == "O" and array.ndim == 0):
        kind = f"a {type(x).__name__}" if array.ndim == 0 else f"an array of {array.dtype}"
        raise InputError(f"{what}: x is {kind}; an array, tensor, DataFrame, Dataset or DataLoader is needed")
    try:
        with np.errstate(over="ignore"):  # too large for float32: becomes infinite, and is reported as that
            return np.array(array, dtype=np.float32, order="C", copy=True)
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: x holds something that is not a number ({str(error).splitlines()[0]})") from None


def _check_finite(rows: Tensor, what: str) -> None:
    wrong = ~torch.isfinite(rows).reshape(len(rows), -1)
    if not bool(wrong.any()):
        return
    row, feature = divmod(int(wrong.reshape(-1).to(torch.uint8).argmax()), wrong.shape[1])
    value = rows.reshape(len(rows), -1)[row, feature].item()
    raise InputError(
        f"{what}: {int(wrong.any(1).sum())} of {len(rows)} rows hold NaN, infinity or numbers too large for float32; "
        f"the first is {value:g} at row {row}, feature {feature}: remove or fill them"
    )


def _some(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join(map(str, sorted(shapes)[:3]))
