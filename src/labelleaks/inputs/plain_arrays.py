"""Arrays as users bring them: which are taken as they are, and what is said of those that would change on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from labelleaks.errors import InputError
from labelleaks.inputs.row_format.arrays import is_jax

__all__ = ["check_finite", "is_sparse", "plain_array"]

_NEEDED = "an array, tensor, DataFrame, Dataset or DataLoader is needed"
_MENDS = {
    "V": "give pd.DataFrame(x), whose columns have names and types",
    "M": "give a DataFrame, whose columns may be dates, or numbers: x.astype('int64')",
    "m": "give a DataFrame, whose columns may be spans of time, or numbers: x.astype('int64')",
    "c": "give real numbers: np.stack([x.real, x.imag], -1)",
    "T": "give x.astype(str)",
}
"""By kind of dtype."""


def plain_array(x: Any, what: str) -> Any:
    """Return a C-ordered copy of an array (n, ...), of numbers, text or objects; an array of JAX as it is.

    Raises:
        InputError: a kind of array that would arrive at the target as another one, or none at all; says how to turn it.
    """
    if is_jax(x):
        return _jax(x, what)
    _refuse_other_kinds(x, what)
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{what}: x is not rows of one shape ({reason}); for labels give a tuple (x, y)") from None
    if isinstance(x, (list, tuple)) and array.dtype.kind in "US" and array.ndim == 2:
        array = np.array(x, dtype=object)  # NumPy would spell numbers among words as words
        if all(isinstance(value, str) for value in array.reshape(-1).tolist()):
            array = array.astype(str)
    if array.ndim == 0:
        raise InputError(f"{what}: x is a {type(x).__name__}; {_NEEDED}")
    if array.dtype.kind in _MENDS:
        raise InputError(f"{what}: x is an array of {array.dtype}; {_MENDS[array.dtype.kind]}")
    if array.dtype.kind in "OUS" and array.ndim > 2:
        raise InputError(f"{what}: x is an array of {array.dtype} in {array.ndim} axes; give numbers: x.astype(float)")
    if array.dtype.kind not in "biufOUS":
        raise InputError(f"{what}: x is an array of {array.dtype}; {_NEEDED}")
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        raise InputError(f"{what}: x is an array of {array.dtype}; give x.astype(np.float64)")
    return np.array(array, order="C", copy=True)


def _jax(x: Any, what: str) -> Any:
    if x.dtype.kind not in "biuf":  # of ml_dtypes, which NumPy has not
        raise InputError(f"{what}: x is an array of {x.dtype}; give x.astype('float32'), and cast in the target")
    return x


def _refuse_other_kinds(x: Any, what: str) -> None:
    """Refuse kinds of arrays that NumPy would turn into its own, with other arithmetic or without their gaps."""
    if isinstance(x, np.ma.MaskedArray):
        raise InputError(
            f"{what}: x is a masked array; give x.astype(float).filled(np.nan): missing values are carried"
        )
    kind = type(x)
    if isinstance(x, np.ndarray) and kind not in (np.ndarray, np.memmap) and x.dtype.kind != "V":
        raise InputError(f"{what}: x is a {kind.__name__}, whose rows would be a plain array; give np.asarray(x)")
    known = isinstance(x, (np.ndarray, list, tuple)) or kind.__module__.partition(".")[0] == "pandas"
    if not known and hasattr(x, "__array__"):
        raise InputError(
            f"{what}: x is a {kind.__module__.partition('.')[0]} {kind.__name__}; give np.asarray(x), and a target "
            "that takes arrays of NumPy"
        )


def is_sparse(rows: Any) -> bool:
    """Whether rows are a SciPy sparse matrix or array. Imports nothing."""
    return hasattr(rows, "toarray")


def check_finite(rows: Any, what: str, *, gaps: bool) -> None:
    """Refuse infinity, what float32 cannot reach, and missing values unless ``gaps``.

    Raises:
        InputError: how many rows, the first value and its place, and a mend.
    """
    if isinstance(rows, Tensor):
        flat = rows.detach().cpu().double().flatten(1).numpy() if rows.is_floating_point() else None
    else:
        kept = rows.dtype.kind == "f"
        flat = (rows.toarray() if is_sparse(rows) else np.asarray(rows)).reshape(rows.shape[0], -1) if kept else None
    if flat is None:
        return
    missing = np.isnan(flat)
    with np.errstate(over="ignore"):
        infinite = ~np.isfinite(flat.astype(np.float32)) & ~missing
    for wrong in (infinite, missing & (not gaps)):
        if wrong.any():
            row, feature = divmod(int(wrong.reshape(-1).argmax()), wrong.shape[1])
            value = float(flat[row, feature])
            kind = "infinity" if np.isinf(value) else "NaN" if np.isnan(value) else "numbers too large for float32"
            raise InputError(
                f"{what}: {int(wrong.any(1).sum())} of {len(wrong)} rows hold {kind}; the first is {value:g} at row "
                f"{row}, feature {feature}: {_mend(rows, value)}"
            )


def _mend(rows: Any, value: float) -> str:
    if np.isfinite(value):
        return "scale them, for example x / 1e200"
    place = "x.data" if is_sparse(rows) else "x"
    if np.isinf(value):
        new = "x.clamp(LOW, HIGH)" if isinstance(rows, Tensor) else f"np.clip({place}, LOW, HIGH)"
        return f"replace it by numbers, {place} = {new}"
    new = "torch.nan_to_num(x)" if isinstance(rows, Tensor) else f"np.nan_to_num({place})"
    return f"fill them, {place} = {new}; dense rows (n, width) may have them"
