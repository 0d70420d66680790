"""Class labels as people give them (numbers, strings, booleans) and the codes 0 … K - 1 that everything inside uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.errors import InputError

__all__ = ["Classes", "is_estimator", "is_target", "label_array", "named", "own_classes", "resolve_classes", "to_numpy"]

_SPARSE = 1000  # more classes than this, most of them never seen: the numbers are names, not codes


def to_numpy(values: Any) -> NDArray[Any]:
    """Return an array of whatever holds values: an array, a tensor on any device, a Series, a list.

    Raises:
        ValueError, TypeError, RuntimeError: no rectangular array can be made of it.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    array = np.asarray(values)
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
    found = named(array)
    if found is not None:
        return found
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

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise InputError(
                f"only {len(self.names)} class ({', '.join(map(repr, self.names))}): say which classes the target has, "
                "classes=10 or classes=['cat', 'dog']"
            )
        if len(set(self.names)) < len(self.names):
            twice = next(name for i, name in enumerate(self.names) if name in self.names[:i])
            raise InputError(f"classes: {twice!r} is named twice")

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
        return spelled | (digits or {code: code for code in range(len(self))})

    def codes(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the code of each label, -1 where it is none of the classes.

        A label may also be spelled otherwise: ``"7"`` for 7 and 7 for ``"7"``, or its code where all names are words.

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


def is_target(thing: Any) -> bool:
    """Whether ``thing`` is a :class:`labelleaks.targets.Target` already. Asks its class, and so computes nothing."""
    return all(hasattr(type(thing), member) for member in ("describe", "fingerprint", "__call__", "__enter__"))


def is_estimator(thing: Any) -> bool:
    """Whether ``thing`` is used as scikit-learn's estimators are."""
    return hasattr(thing, "fit") and hasattr(thing, "predict") and not isinstance(thing, (type, torch.nn.Module))


def own_classes(target: Any) -> Any:
    """Return the classes that a target lists itself, or None: a fitted classifier's ``classes_``.

    Raises:
        InputError: an estimator that lists none (not fitted, a regressor), or a list for each of several outputs.
    """
    if not is_estimator(target):
        return None
    found = getattr(target, "classes_", None)
    name = type(target).__name__
    if found is None:
        raise InputError(
            f"{name} has no classes_: fit it first if it is a classifier; otherwise give a function of rows that "
            "returns labels, for example lambda x: model.predict(x).argmax(1)"
        )
    if isinstance(found, list) and found and np.ndim(found[0]) > 0:
        raise InputError(f"{name} answers {len(found)} labels a row; give a function that returns one of them")
    return found


def resolve_classes(
    target: Any, given: int | Sequence[Any] | Classes | None, labels: Mapping[str, NDArray[Any] | None]
) -> Classes:
    """Decide which classes there are.

    ``given`` decides where it is there; else the target's own list; else the labels: K = largest label + 1 for whole
    numbers from 0, the sorted distinct labels where they are strings, negative, or numbers too sparse to be codes.

    Args:
        target: what the user brought: scikit-learn's ``classes_`` are its own list; recorded answers count as labels.
        given: the user's ``classes=``: a number K, or the names in the order of the target's outputs.
        labels: what :func:`label_array` made of each group's labels, None where a group has none.

    Raises:
        InputError: the target lists a class that ``given`` lacks, labels of two kinds, or fewer than two classes.
    """
    if is_target(target):
        known: Classes = target.classes
        return known
    own = own_classes(target)
    if hasattr(target, "recorded_labels"):
        labels = {**labels, "recorded answers": target.recorded_labels}
    listed = None if own is None else label_array(own, "the target's classes")
    if given is None:
        return _from_labels(labels) if listed is None else Classes(tuple(listed.tolist()))
    classes = _listed(given, "classes")
    missing = [] if listed is None else listed[classes.codes(listed) < 0].tolist()
    if missing:
        raise InputError(f"classes: the target also knows {missing[:5]}; name every class that it can answer")
    return classes


def _listed(given: Any, what: str) -> Classes:
    if isinstance(given, Classes):
        return given
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        if given < 2:
            raise InputError(f"{what}: {given} classes; at least 2 are needed")
        return Classes(tuple(range(int(given))))
    if isinstance(given, (str, float, bool)):
        raise InputError(f"{what}: {given!r} is neither a number of classes nor a list of their names")
    return Classes(tuple(label_array(given, what).tolist()))


def _from_labels(labels: Mapping[str, NDArray[Any] | None]) -> Classes:
    arrays = {what: array for what, array in labels.items() if array is not None}
    words = {what: array.dtype == object for what, array in arrays.items()}
    if len(set(words.values())) > 1:
        spelled = ", ".join(f"{what}: {'strings' if is_words else 'numbers'}" for what, is_words in words.items())
        raise InputError(f"labels are of two kinds ({spelled}); give all of them as the same kind")
    if not arrays:
        raise InputError("no labels were given: say which classes the target has, classes=10 or classes=['cat', 'dog']")
    seen = np.unique(np.concatenate(list(arrays.values()))).tolist()
    if any(words.values()) or seen[0] < 0 or seen[-1] >= max(_SPARSE, 10 * len(seen)):
        return Classes(tuple(seen))
    return Classes(tuple(range(int(seen[-1]) + 1)), open=True)
