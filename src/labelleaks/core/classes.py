"""Class labels as people give them (numbers, strings, booleans) and the codes 0 … K - 1 that everything inside uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.errors import InputError

__all__ = ["Classes", "label_array", "named", "to_numpy"]


def to_numpy(values: Any) -> NDArray[Any]:
    """Return an array of whatever holds values: an array, a tensor on any device, a Series, a list.

    Raises:
        ValueError, TypeError, RuntimeError: no rectangular array can be made of it.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        narrow = values.is_floating_point() and values.dtype not in (torch.float16, torch.float32, torch.float64)
        values = (values.float() if narrow else values).numpy()
    array = np.asarray(values)
    if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat", "float8")):  # of ml_dtypes, as JAX has them
        return array.astype(np.float32)
    if array.dtype.kind in "US" and isinstance(values, (list, tuple)) and not all(isinstance(v, str) for v in values):
        return np.array(values, dtype=object)  # NumPy would spell a number among strings as a string
    return array


def named(array: NDArray[Any]) -> NDArray[Any] | None:
    """Return labels as int64 or as an object array of str; None where they are neither whole numbers nor strings."""
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind in "US":
        return array.astype(str).astype(object)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        whole = bool(np.isfinite(array).all()) and bool((array == np.round(array)).all())
        return array.astype(np.int64) if whole and bool((np.abs(array) < 2**53).all()) else None
    if array.dtype.kind == "O":
        values = array.tolist()
        if all(isinstance(value, str) for value in values):
            return array.astype(str).astype(object)
        if all(isinstance(value, (int, float, np.number, np.bool_)) for value in values):
            return named(array.astype(np.float64))
    return None


def label_array(values: Any, what: str) -> NDArray[Any]:
    """Check labels and bring them to one form.

    Args:
        values: (n,) or (n, 1) whole numbers, booleans or strings.
        what: names the rows in messages.

    Returns:
        int64 (n,), or an object array (n,) of str.

    Raises:
        InputError: another shape (one-hot rows), NaN, fractions, or a mixture of kinds.
    """
    try:
        array = to_numpy(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{what}: labels cannot be read ({str(error).splitlines()[0]}); give one label a row"
        ) from None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"{what}: labels of shape {array.shape}; one label a row is needed (n,): for one-hot rows give y.argmax(1)"
        )
    classes = named(array)
    if classes is not None:
        return classes
    row = _first_bad(array)
    raise InputError(
        f"{what}: label {array.tolist()[row]!r} at row {row} is neither a whole number nor a string; class labels "
        "are needed"
    )


def _first_bad(array: NDArray[Any]) -> int:
    values = array.tolist()
    kind = type(values[0])
    for row, value in enumerate(values):
        if named(np.array([value], dtype=object)) is None or (isinstance(value, str) != issubclass(kind, str)):
            return row
    return 0


@dataclass(frozen=True)
class Classes:
    """The classes of a run; code ``k`` stands for ``names[k]``.

    Raises:
        InputError: fewer than two names, or one twice.
    """

    names: tuple[str | int, ...]
    open: bool = False
    """K was only inferred from the labels at hand: a target that knows further whole numbers may answer them."""
    ordered: bool = True
    """Whether the names stand in the order of the target's outputs; False: they were read off labels and sorted."""
    threshold: float | None = None
    """Of two classes: one number a row is the second class where it is above this (0.5: probabilities, 0: logits)"""

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise InputError(
                f"only {len(self.names)} class ({', '.join(map(repr, self.names))}): say which classes the target has, "
                "classes=10 or classes=['cat', 'dog']"
            )
        if len(set(self.names)) < len(self.names):
            twice = next(name for i, name in enumerate(self.names) if name in self.names[:i])
            raise InputError(f"classes: {twice!r} is named twice")
        if self.threshold is not None:
            _check_threshold(self)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str | int]:
        return iter(self.names)

    def __str__(self) -> str:
        if self.plain:
            return f"0 … {len(self) - 1}"
        shown = [repr(name) for name in self.names]
        return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-2:]])

    @cached_property
    def plain(self) -> bool:
        """Whether the names are the codes: 0 … K - 1."""
        return self.names == tuple(range(len(self.names)))

    @cached_property
    def _code(self) -> dict[str | int, int]:
        return {name: code for code, name in enumerate(self.names)}

    @cached_property
    def _spelled(self) -> dict[str | int, int]:
        spelled: dict[str | int, int] = {str(name): code for name, code in self._code.items()}
        digits: dict[str | int, int] = {
            int(name): code for name, code in self._code.items() if str(name).lstrip("-").isdecimal()
        }
        return spelled | (digits or {code: code for code in range(len(self)) if self.ordered})

    def above_threshold(self, numbers: Tensor) -> Tensor:
        """Return the codes of one number a row: int64 (m,), 1 where it is above the threshold."""
        assert self.threshold is not None
        return (numbers > self.threshold).to(torch.int64)

    def codes(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the code of each label, -1 where it is none of the classes.

        A label may also be spelled otherwise: ``"7"`` for 7 and 7 for ``"7"``, or its code where all names are words
        whose order is known.

        Args:
            labels: what :func:`label_array` or :func:`named` returns.
        """
        if self.plain and labels.dtype == np.int64:
            return np.where((labels >= 0) & ((labels < len(self)) | self.open), labels, -1)
        if labels.size == 0:
            return np.zeros(0, dtype=np.int64)
        values, place = np.unique(labels, return_inverse=True)
        codes = [self._code.get(value, self._spelled.get(value, -1)) for value in values.tolist()]
        return np.array(codes, dtype=np.int64)[place]

    def encode(self, values: Any, what: str) -> Tensor:
        """Return the codes of true labels: int64 (n,), on the CPU.

        Raises:
            InputError: no labels, or labels outside the classes; how many, which and where.
        """
        labels = label_array(values, what)
        codes = self.codes(labels)
        unknown = np.flatnonzero(codes < 0)
        if len(unknown):
            seen, counts = np.unique(labels[unknown], return_counts=True)
            shown = ", ".join(f"{v!r} ({c})" for v, c in list(zip(seen.tolist(), counts.tolist(), strict=True))[:5])
            more = ", …" if len(seen) > 5 else ""
            raise InputError(
                f"{what}: {len(unknown)} of {len(labels)} labels are outside the {len(self)} classes ({self}): "
                f"{shown}{more}, the first at row {unknown[0]}; correct them, or name all classes with classes="
            )
        return torch.from_numpy(codes)


def _check_threshold(classes: Classes) -> None:
    threshold = classes.threshold
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)) or not np.isfinite(threshold):
        raise InputError(f"threshold={threshold!r}: a number is needed, 0.5 of probabilities or 0 of logits")
    if len(classes) != 2:
        raise InputError(
            f"threshold={threshold:g} is for two classes, and there are {len(classes)} ({classes}): leave it out"
        )
    if not classes.ordered:
        raise InputError(
            f"threshold={threshold:g}: nothing says which of {classes} lies above it: name them, the upper one last: "
            f"classes={list(classes.names)!r} or classes={list(classes.names)[::-1]!r}"
        )
